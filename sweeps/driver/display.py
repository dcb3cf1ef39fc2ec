"""The progress of a sweep: a live display on a terminal, a few plain lines anywhere else."""

import math
import sys
import time
from dataclasses import dataclass
from typing import Protocol, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sweeps.driver.ledger import Counts
from transtailor.terminal import printable, say

LINE_PERIOD_S = 10.0  # plain lines come no more often than this ...
LINE_FRACTION = 0.05  # ... and only after this share of the work, or a minute
QUIET_LIMIT_S = 60.0
BAR_WIDTH = 60  # characters
RUNNING_SHOWN = 8  # trials
PAUSED = "paused: "  # how a state begins while the disk has no room


@dataclass(frozen=True, kw_only=True)
class RunningTrial:
    """A running trial."""

    trial_id: str
    arm: str
    network: str
    dataset: str
    seed: int
    node: str  # "" before that is known
    stage: str  # that runs: its kind, its number and their count
    words: str  # how far the stage is; "" if that is not known

    def cells(self) -> tuple[str, ...]:
        """Return its cells in a table."""
        problem = f"{self.network} on {self.dataset}"
        return self.trial_id[:12], self.arm, problem, f"seed {self.seed}", self.node, self.stage, self.words


@dataclass(frozen=True, kw_only=True)
class SweepProgress:
    """The progress of a sweep at one moment; work is in the plan's relative units."""

    sweep: str
    counts: Counts
    work_done: float  # computed in this launch
    work_left: float
    elapsed_s: float  # since the first trial of this launch started, without waits for its controller to run again
    left_s: tuple[float, float | None] | None
    """The least and the most that the rest may take, the most None if not known; None: neither is known."""
    running: tuple[RunningTrial, ...]
    state: str = ""  # whether it stops, pauses or waits, and why; empty while it runs

    @property
    def done_fraction(self) -> float:
        """Share of this launch's work that is done; below 1 while a trial runs or waits, 1 if all went well."""
        if self.is_over and not self.counts.failed:
            return 1.0  # work that is left by a path that stopped early, or by rounding, is none
        all_work = self.work_done + self.work_left
        fraction = self.work_done / all_work if all_work > 0 else float(self.is_over)
        return min(fraction, 1.0 if self.is_over else 0.99)

    @property
    def is_over(self) -> bool:
        """Whether no trial runs or waits."""
        return not (self.counts.running or self.counts.waiting)


class Display(Protocol):
    """Where progress is shown."""

    def show(self, progress: SweepProgress) -> None:
        """Take the newest state; called at each change, so it has to be cheap."""

    def note(self, text: str) -> None:
        """Show a message at once."""

    def close(self, progress: SweepProgress) -> None:
        """Show the end, and release the terminal."""


def display_for_terminal() -> Display:
    """Return the live display if standard output is a terminal, plain lines otherwise."""
    if sys.stdout.isatty():
        return LiveDisplay(Console(file=sys.stdout))
    return PlainDisplay(sys.stdout)


def done_text(progress: SweepProgress) -> str:
    """Say which share of the work is done."""
    return f"{math.floor(100 * progress.done_fraction)}% of this launch's work"


def left_text(progress: SweepProgress) -> str:
    """Say how long the rest takes, as a range if it is not known exactly."""
    if progress.left_s is None:
        return "unknown"
    least_s, most_s = progress.left_s
    least = time_text(max(1.0, least_s))
    if most_s is None:
        return f"at least {least}"
    most = time_text(max(1.0, most_s))
    return least if least == most else f"{least} to {most}"


def time_text(seconds: float) -> str:
    """Write a duration in seconds, minutes, or hours and minutes."""
    if round(seconds) < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def line(progress: SweepProgress) -> str:
    """Return the progress in one plain line."""
    counts = progress.counts
    parts = [
        f"{progress.sweep}: {counts.finished} of {counts.trials} trials finished",
        f"{counts.running} running",
        f"{counts.waiting} waiting",
        f"{counts.failed} failed",
        f"{counts.resting} resting" if counts.resting else "",
        f"{counts.stopped} stopped" if counts.stopped else "",
        done_text(progress),
        f"elapsed {time_text(progress.elapsed_s)}",
        "" if progress.is_over else f"time left {left_text(progress)}",
        progress.state,
    ]
    return ", ".join(part for part in parts if part)


def running_lines(progress: SweepProgress) -> list[str]:
    """Return the running trials in columns, the longest running first."""
    rows = [trial.cells() for trial in progress.running[:RUNNING_SHOWN]]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True) if width]  # without empty columns
        lines.append("  ".join(cells).rstrip())
    not_shown = len(progress.running) - RUNNING_SHOWN
    if not_shown > 0:
        lines.append(f"... and {not_shown} more run")
    return lines


class PlainDisplay:
    """Lines for a log: at the start, once trials run, at each message, from time to time, and at the end."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._last_s: float | None = None
        self._last_fraction = 0.0
        self._has_begun = False

    def show(self, progress: SweepProgress) -> None:
        """Write a line if the last one is old enough."""
        now_s = time.monotonic()
        begins = bool(progress.running) and not self._has_begun
        self._has_begun |= begins
        if self._last_s is not None and not begins:
            quiet_s = now_s - self._last_s
            has_moved = progress.done_fraction - self._last_fraction >= LINE_FRACTION
            if quiet_s < LINE_PERIOD_S or not (has_moved or quiet_s >= QUIET_LIMIT_S):
                return
        self._last_s = now_s
        self._last_fraction = progress.done_fraction
        self._write(line(progress))
        for text in running_lines(progress):
            self._write(f"  {text}")

    def note(self, text: str) -> None:
        """Write the message."""
        self._write(text)

    def close(self, progress: SweepProgress) -> None:
        """Write the last line."""
        self._write(line(progress))

    def _write(self, text: str) -> None:
        say(text, to=self._stream)


class LiveDisplay:
    """A bar and the running trials, redrawn in place."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress: SweepProgress | None = None
        self._shown_at_s = 0.0
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=4, transient=True)

    def show(self, progress: SweepProgress) -> None:
        """Take the state that the next redraw shows."""
        self._progress = progress
        self._shown_at_s = time.monotonic()
        if not self._live.is_started:
            self._live.start()

    def note(self, text: str) -> None:
        """Print the message above the display."""
        self._console.print(Text(printable(text), style="red"), soft_wrap=True)

    def close(self, progress: SweepProgress) -> None:
        """Print the last state as plain text."""
        self._live.stop()
        self._console.print(Text(printable(line(progress))), soft_wrap=True)

    def _render(self) -> RenderableType:
        progress = self._progress
        if progress is None:
            return Text("")
        running = [Text(printable(f"  {text}")) for text in running_lines(progress)]  # rich interprets no markup in it
        bar = ProgressBar(total=1.0, completed=progress.done_fraction, width=BAR_WIDTH)
        bar_and_share = Table.grid(padding=(0, 1))
        bar_and_share.add_row(bar, done_text(progress))
        state = [Text(printable(progress.state), style="yellow")] if progress.state else []
        return Group(self._head(progress), bar_and_share, *state, *running)

    def _head(self, progress: SweepProgress) -> Text:
        """Return the counts and times; the elapsed time also advances between two states."""
        counts = progress.counts
        since_s = time.monotonic() - self._shown_at_s
        return Text(
            f"{progress.sweep}  {counts.finished}/{counts.trials} finished  {counts.running} running  "
            f"{counts.waiting} waiting  {counts.failed} failed   elapsed {time_text(progress.elapsed_s + since_s)}"
            f"   left {left_text(progress)}"
        )
