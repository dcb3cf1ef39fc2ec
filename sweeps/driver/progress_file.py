"""How a sweep stands, in a file: written by the controller's driver, shown at the login node."""

import dataclasses
import json
import sys
import time
from pathlib import Path

from sweeps.driver.display import Best, PlainDisplay, Progress, RunningTrial
from sweeps.driver.ledger import Counts
from transtailor.documents import read_json
from transtailor.files import write_file

PERIOD_S = 2.0
NOTES_KEPT = 50


class ProgressFile:
    """A display for whoever looks from elsewhere, and plain lines for the job's log."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._log = PlainDisplay(sys.stdout)
        self._notes: list[str] = []
        self._noted = 0
        self._written_s: float | None = None

    def show(self, progress: Progress) -> None:
        """Writes the state if the last one is old enough."""
        self._log.show(progress)
        if self._written_s is None or time.monotonic() - self._written_s >= PERIOD_S:
            self._write(progress)

    def note(self, text: str) -> None:
        """Takes a text that the next writing shows."""
        self._log.note(text)
        self._notes = [*self._notes, text][-NOTES_KEPT:]
        self._noted += 1

    def close(self, progress: Progress) -> None:
        """Writes the last state."""
        self._log.close(progress)
        self._write(progress)

    def _write(self, progress: Progress) -> None:
        self._written_s = time.monotonic()
        content = {"progress": dataclasses.asdict(progress), "notes": self._notes, "noted": self._noted}
        write_file(self._path, json.dumps(content))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seen:
    """What a progress file said."""

    progress: Progress
    notes: tuple[str, ...]  # the newest ones
    noted: int  # how many there have been in all


def read_progress(path: Path) -> Seen | None:
    """What the file says; None where there is none yet."""
    try:
        content = read_json(path)
    except FileNotFoundError:
        return None
    raw = content["progress"]
    progress = Progress(
        **raw
        | {
            "counts": Counts(**raw["counts"]),
            "best": tuple(Best(**best) for best in raw["best"]),
            "running": tuple(RunningTrial(**trial) for trial in raw["running"]),
        }
    )
    return Seen(progress=progress, notes=tuple(content["notes"]), noted=content["noted"])
