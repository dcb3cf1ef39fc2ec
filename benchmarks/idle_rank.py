"""A trial that only waits, for any scheduler, and a rank of ours that runs such trials. Without torch."""

import os
import time
from pathlib import Path
from typing import Any

from benchmarks.moments import add_moment


def idle(folder: Path, seconds: float) -> None:
    """Waits for this time, and notes its begin and end in a folder."""
    process = str(os.getpid())
    add_moment(folder, "begin", process)
    time.sleep(seconds)  # stands for work
    add_moment(folder, "end", process)


class IdleRank:
    """begin / advance / close, as sweeps.worker.trial.TrialRank; everything about the trial is in config["data"]."""

    def __init__(self) -> None:
        self._data: dict[str, Any] = {}
        self._keys: list[str] = []

    def begin(self, task: dict[str, Any]) -> None:
        """Take up a trial."""
        self._data = task["config"]["data"]
        self._keys = list(self._data["stage_keys"])

    def advance(self) -> dict[str, Any] | None:
        """Wait for the next stage's time; None after the last."""
        if not self._keys:
            return None
        seconds = self._data["seconds"]
        idle(Path(self._data["moments"]), seconds)
        return {"stage_key": self._keys.pop(0), "kind": "idle", "cached": False, "seconds": seconds, "point": None}

    def close(self) -> None:
        """Release nothing."""
