"""How a sweep stands, in a line of a file: written by its driver, shown by `status` and at the login node."""

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path

from sweeps.driver.display import Best, Display, RunningTrial, SweepProgress
from sweeps.driver.ledger import Counts
from transtailor.documents import read_json

PERIOD_S = 2.0
NOTES_KEPT = 50


class ProgressFile:
    """A display for whoever looks from elsewhere, beside the one here."""

    def __init__(self, write: Callable[[str], object], display: Display) -> None:
        """Takes what writes the line, and the display here."""
        self._write_line, self._here = write, display
        self._notes: list[str] = []
        self._noted = 0
        self._written_s: float | None = None

    def show(self, progress: SweepProgress) -> None:
        """Writes the state if the last one is old enough."""
        self._here.show(progress)
        if self._written_s is None or time.monotonic() - self._written_s >= PERIOD_S:
            self._write(progress)

    def note(self, text: str) -> None:
        """Takes a text that the next writing shows."""
        self._here.note(text)
        self._notes = [*self._notes, text][-NOTES_KEPT:]
        self._noted += 1

    def close(self, progress: SweepProgress) -> None:
        """Writes the last state."""
        self._here.close(progress)
        self._write(progress)

    def _write(self, progress: SweepProgress) -> None:
        self._written_s = time.monotonic()
        content = {"progress": dataclasses.asdict(progress), "notes": self._notes, "noted": self._noted}
        self._write_line(json.dumps(content))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seen:
    """What a progress file said."""

    progress: SweepProgress
    notes: tuple[str, ...]  # the newest ones
    noted: int  # how many there have been in all


def read_progress(path: Path) -> Seen | None:
    """What the last line of a file says; None where there is none yet, half of one, or one of another version."""
    try:
        content = read_json(path.read_bytes().rpartition(b"\n")[2])
        raw = content["progress"]
        progress = SweepProgress(
            **raw
            | {
                "counts": Counts(**raw["counts"]),
                "left_s": raw["left_s"] and tuple(raw["left_s"]),
                "best": tuple(Best(**best | {"seeds": tuple(best["seeds"])}) for best in raw["best"]),
                "running": tuple(RunningTrial(**trial) for trial in raw["running"]),
            }
        )
        return Seen(progress=progress, notes=tuple(content["notes"]), noted=content["noted"])
    except (FileNotFoundError, ValueError, LookupError, TypeError):
        return None
