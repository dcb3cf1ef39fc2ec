"""Whether several runs mean the same images by the name of a data set, as their launches say."""

from pathlib import Path

from results.errors import ResultsError
from results.store.launches import launches_of
from results.store.reader import Run

SHOWN = 8  # digits of a SHA-256


def data_digests(folder: Path) -> dict[str, str]:
    """Return name -> SHA-256 of the prepared data sets of a run's last launch; none if provenance.json has none."""
    launches = launches_of(folder)
    data = launches[-1].get("data") if launches else None
    return {Path(path).name: str(sha256) for path, sha256 in data.items()} if isinstance(data, dict) else {}


def refuse_other_images(run: Run) -> None:
    """Raise ResultsError if two of several runs have other images under one name, which one mean would mix."""
    if len(run.paths) < 2:
        return
    first: dict[str, tuple[str, str]] = {}  # data set -> the first run that has it, its SHA-256
    for name, folder in run.paths.items():
        for dataset, sha256 in data_digests(folder).items():
            other, expected = first.setdefault(dataset, (name, sha256))
            if sha256 != expected:
                raise ResultsError(
                    f"the data set {dataset} of {other} (SHA-256 {expected[:SHOWN]}...) and that of {name}"
                    f" ({sha256[:SHOWN]}...) have other images under one name, and means would mix them; read each run"
                    " alone, or prepare one under another name and run it again"
                )
