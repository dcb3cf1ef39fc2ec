"""A trial that does nothing, for any scheduler, and a rank of ours that runs such trials. Without torch.

Trials note moments in a file, by the clock that all processes of a machine share.
"""

import os
import time
from pathlib import Path
from typing import Any

FILE = "moments.txt"
Moment = tuple[float, str, str]  # second, what happened, to what


def add_moment(folder: Path, what: str, of: str) -> None:
    """Notes that this happens now; both are single words."""
    with (folder / FILE).open("a") as file:
        file.write(f"{time.monotonic()} {what} {of}\n")


def read_moments(folder: Path) -> list[Moment]:
    """What was noted in a folder, in the order of its happening."""
    lines = (line.split() for line in (folder / FILE).read_text().splitlines())
    return sorted((float(moment_s), what, of) for moment_s, what, of in lines)


def idle(folder: Path) -> None:
    """Do nothing, and note the begin and the end of it in a folder."""
    process = str(os.getpid())
    add_moment(folder, "begin", process)
    add_moment(folder, "end", process)


class IdleRank:
    """begin / advance / close, as sweeps.worker.trial.TrialRank; all about the trial is in its settings of the data."""

    def __init__(self) -> None:
        self._data: dict[str, Any] = {}
        self._keys: list[str] = []

    def begin(self, task_json: str) -> None:
        """Take up a trial."""
        from sweeps.worker.messages import TrialTask  # imports pydantic: not for the other schedulers
        from tailor.execution.cache import Cache

        task = TrialTask.from_json(task_json)
        self._cache = Cache(task.cache)
        self._data = task.settings.values["data"]
        self._keys = list(self._data["stage_keys"])

    def advance(self) -> str:
        """Do the next stage, which is nothing, and store it: the driver makes its rows from there."""
        from sweeps.worker.messages import StageReport, TrialReport
        from tailor.execution.cache import MadeBy, StageDescription

        if not self._keys:
            return TrialReport(kind="finished").to_json()
        idle(Path(self._data["moments"]))
        made_by = MadeBy(compute_s=0.0, device="cpu", ranks=1, threads=1, torch_version="none")
        description = StageDescription(kind="idle", version=1, settings={}, parents=(), info={}, made_by=made_by)
        key = self._keys.pop(0)
        self._cache.write(key, description, b"")
        stage = StageReport(stage_key=key, order=0, cached=False, seconds=0.0)
        return TrialReport(kind="stage", stages=(stage,)).to_json()

    def close(self) -> None:
        """Release nothing."""
