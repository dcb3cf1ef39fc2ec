"""Progress of a long task: a bar on a terminal, and in a log a line at its begin and one at its end."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from transtailor.terminal import printable, say


@contextmanager
def show_progress(stream: TextIO, what: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """Show the progress of a task while the context lasts; yield what takes the units done since its last call."""
    is_log = not stream.isatty()
    begin_s = time.monotonic()
    if is_log:
        say(f"{what}: {total} {unit}", to=stream)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=stream), disable=is_log) as bar:
        task = bar.add_task(printable(what), total=total)
        yield lambda done: bar.advance(task, done)
    if is_log:
        say(f"{what}: done in {time.monotonic() - begin_s:.1f} s", to=stream)
