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
    """Show the progress of a task while the context lasts.

    Args:
        stream: a terminal, a file or a pipe.
        what: the name of the task.
        total: how many units there are.
        unit: the name of the units.

    Yields:
        A function to call with the units done since the last call.
    """
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
        self._stream = stream
        self._what = what
        self._total = total
        self._unit = unit
        self._done = 0
        self._begin_s = time.monotonic()
        self._last_line_s = self._begin_s
        self._write(f"{what}: {total} {unit}")

    def advance(self, done: int) -> None:
        self._done += done
        now_s = time.monotonic()
        if now_s - self._last_line_s >= LINE_PERIOD_S:
            self._last_line_s = now_s
            self._write(f"{self._what}: {self._done} of {self._total} {self._unit}")

    def end(self) -> None:
        self._write(f"{self._what}: done in {time.monotonic() - self._begin_s:.1f} s")

    def _write(self, line: str) -> None:
        say(line, to=self._stream)
