"""The progress of a sweep as a line of a file: the driver writes it, `status` and the login node show it."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from sweeps.driver.display import Display, SweepProgress
from transtailor.documents import DocumentError, Record
from transtailor.files import read_there

PERIOD_S = 2.0
NOTES_KEPT = 50


class ProgressFile:
    """A display for other processes, in addition to the display of this one."""

    def __init__(self, write: Callable[[str], object], display: Display, before: "Seen | None" = None) -> None:
        """Keep the function that writes the line, and the display of this process.

        Args:
            before: what earlier processes of the same launch have shown, whose messages, work and time go on.
        """
        self._write_line = write
        self._here = display
        self._before = None if before is None else before.progress
        self._work_before: float | None = None  # None until the first state
        self._notes = [] if before is None else list(before.notes)  # the newest ones
        self._noted = 0 if before is None else before.noted  # how many there were in all
        self._written_s: float | None = None
        self._last: SweepProgress | None = None

    def show(self, progress: SweepProgress) -> None:
        """Write the state if the last one is old enough."""
        progress = self._since_launch(progress)
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
        progress = self._since_launch(progress)
        self._here.close(progress)
        self._write(progress)

    def _since_launch(self, progress: SweepProgress) -> SweepProgress:
        """Return a state of this process with what the processes before it have done of the launch's work."""
        if self._before is None:
            return progress
        if self._work_before is None:  # without stages that were cut off, which are left again
            work = self._before.work_done + self._before.work_left
            self._work_before = max(0.0, work - progress.work_done - progress.work_left)
        work_done = self._work_before + progress.work_done
        return replace(progress, work_done=work_done, elapsed_s=self._before.elapsed_s + progress.elapsed_s)

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
