"""The names of classes, which the rows have as numbers: those of a data set that `data prepare` has made."""

from pathlib import Path
from typing import NamedTuple

from results.arms.problem import Problem
from results.store.reader import Run
from transtailor.documents import DocumentError, read_json

TRIALS = """
SELECT config_json FROM planned WHERE network = ? AND dataset = ? ORDER BY trial_id LIMIT 1
"""


class ClassNames(NamedTuple):
    """The names of a target's classes, by their numbers, and the file that they are read from."""

    names: tuple[str, ...]
    source: Path


def class_names(run: Run, problem: Problem) -> ClassNames | None:
    """Return the class names of a problem's data set, as it now is on the disk.

    None if the data set is one of the catalogue or of a user's module, or is not where the trials have read it.
    """
    for row in run.rows(TRIALS, [problem.network, problem.dataset]):
        data = read_json(row["config_json"]).get("data", {})
        if data.get("root") is None:
            return None
        manifest = Path(data["root"], data["name"], "manifest.json")
        try:
            return ClassNames(tuple(map(str, read_json(manifest)["classes"]["target"])), manifest)
        except (OSError, DocumentError, KeyError, TypeError):
            return None
    return None
