"""The progress of a sweep as a line of a file: the driver writes it, `status` and the login node show it."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sweeps.driver.display import Display, SweepProgress
from transtailor.documents import DocumentError, Record
from transtailor.files import read_there

PERIOD_S = 2.0
NOTES_KEPT = 50


class ProgressFile:
    """A display for other processes, in addition to the display of this one."""

    def __init__(self, write: Callable[[str], object], display: Display) -> None:
        """Keep the function that writes the line, and the display of this process."""
        self._write_line = write
        self._here = display
        self._notes: list[str] = []  # the newest ones
        self._noted = 0  # how many there were in all
        self._written_s: float | None = None
        self._last: SweepProgress | None = None

    def show(self, progress: SweepProgress) -> None:
        """Write the state if the last one is old enough."""
        self._here.show(progress)
        self._last = progress
        if self._written_s is None or time.monotonic() - self._written_s >= PERIOD_S:
            self._write(progress)

    def note(self, text: str) -> None:
        """Take a message, and write it with the last state: while a sweep is paused, no other is shown."""
        self._here.note(text)
        self._notes = [*self._notes, text][-NOTES_KEPT:]
        self._noted += 1
        if self._last is not None:
            self._write(self._last)

    def close(self, progress: SweepProgress) -> None:
        """Write the last state."""
        self._here.close(progress)
        self._write(progress)

    def _write(self, progress: SweepProgress) -> None:
        self._written_s = time.monotonic()
        with suppress(OSError):  # a full disk is reported elsewhere, and the next state has all messages too
            self._write_line(Seen(progress=progress, notes=tuple(self._notes), noted=self._noted).to_json())


@dataclass(frozen=True, kw_only=True)
class Seen(Record):
    """What a progress file says."""

    progress: SweepProgress
    notes: tuple[str, ...]  # the newest ones
    noted: int  # how many there were in all


def read_progress(path: Path) -> Seen | None:
    """Read the last line of a file; None if it is missing, half written, or of another version."""
    try:
        return Seen.from_json(read_there(path).rpartition(b"\n")[2])
    except (FileNotFoundError, DocumentError):
        return None
