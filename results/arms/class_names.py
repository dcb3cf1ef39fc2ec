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
    """The names of a target's classes, by their numbers, and where they are from."""

    names: tuple[str, ...]  # () if the data set on the disk is not the one of the run
    note: str


def class_names(run: Run, problem: Problem) -> ClassNames | None:
    """Return the class names of a problem's data set.

    None if the data set is one of the catalogue or of a user's module, or is not where the trials have read it.
    """
    for row in run.rows(TRIALS, [problem.network, problem.dataset]):
        data = read_json(row["config_json"]).get("data", {})
        if data.get("root") is None:
            return None
        folder = Path(data["root"], data["name"])
        path = folder / "manifest.json"
        try:
            manifest = read_json(path)
            names = tuple(map(str, manifest["classes"]["target"]))
            digest = manifest["digest"]
        except (OSError, DocumentError, KeyError, TypeError):
            return None
        if _digests(run, str(folder)) - {digest}:
            return ClassNames((), f"Classes have numbers, because {folder} was prepared again after this run.")
        return ClassNames(names, f"Names of classes: as in {path}.")
    return None


def _digests(run: Run, data_folder: str) -> set[str]:
    """Return the digests that a data set had when the run, or one of several, was launched; of older runs, none."""
    digests: set[str] = set()
    for folder in run.paths.values():
        try:
            history = read_json(folder / "provenance.json")["history"]
            digests.update(launch["data"][data_folder] for launch in history if data_folder in launch.get("data", {}))
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            continue
    return digests
