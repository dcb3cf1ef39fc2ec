"""Progress of a long task: a bar on a terminal, a plain line now and then in a log."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from transtailor.terminal import printable, say

LINE_PERIOD_S = 10.0  # least time between two plain lines


@contextmanager
def show_progress(stream: TextIO, what: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """Show progress meanwhile; yield a function to call with the units done since the last call."""
    if stream.isatty():
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(file=stream)) as bar:
            task = bar.add_task(printable(what), total=total)
            yield lambda done: bar.advance(task, done)
    else:
        lines = _Lines(stream, what, total, unit)
        yield lines.advance
        lines.end()


class _Lines:
    """A line at the start, one now and then, and one at the end."""

    def __init__(self, stream: TextIO, what: str, total: int, unit: str) -> None:
        self._stream, self._what, self._total, self._unit = stream, what, total, unit
        self._done, self._begun_s = 0, time.monotonic()
        self._last_s = self._begun_s
        self._write(f"{what}: {total} {unit}")

    def advance(self, done: int) -> None:
        self._done += done
        now = time.monotonic()
        if now - self._last_s >= LINE_PERIOD_S:
            self._last_s = now
            self._write(f"{self._what}: {self._done} of {self._total} {self._unit}")

    def end(self) -> None:
        self._write(f"{self._what}: done in {time.monotonic() - self._begun_s:.1f} s")

    def _write(self, line: str) -> None:
        say(line, to=self._stream)
