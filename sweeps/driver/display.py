"""How a sweep stands: a live display on a terminal, sparse plain lines anywhere else."""

import sys
import time
from collections.abc import Callable
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
LINE_FRACTION = 0.05  # ... and not before that much more of the work is done, or a minute has passed
QUIET_LIMIT_S = 60.0
KNOWN_FRACTION = 0.02  # share of the work that must be done before its speed says anything
BAR_WIDTH = 60  # characters
BEST_SHOWN = 8  # arms on the live display; the end shows all
KNOWN_AFTER_S = 5.0  # the first seconds are starts of processes and imports


@dataclass(frozen=True, kw_only=True)
class Best:
    """The best operating point of an arm so far, by the validation split."""

    label: str
    metric: str
    validation_score: float
    macs: int


@dataclass(frozen=True, kw_only=True)
class RunningTrial:
    """What a running trial does now."""

    trial_id: str
    label: str
    stage: str  # kind of the stage it computes
    stage_number: int  # counted from 0
    stages: int


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How a sweep stands at one moment; work is in the plan's relative units."""

    sweep: str
    counts: Counts
    work_done: float  # computed in this launch
    work_left: float
    elapsed_s: float  # since the first trial of this launch started
    best: tuple[Best, ...]
    running: tuple[RunningTrial, ...]
    state: str = ""
    """That it stops, pauses or waits, and for what; empty while it runs."""

    @property
    def done_fraction(self) -> float:
        """Share of this launch's work that is done."""
        whole = self.work_done + self.work_left
        return self.work_done / whole if whole > 0 else 1.0


class Display(Protocol):
    """Where progress is shown."""

    def show(self, progress: Progress) -> None:
        """Takes the newest state; called at each change, cheap."""

    def note(self, text: str) -> None:
        """Shows a failure at once."""

    def close(self, progress: Progress) -> None:
        """Shows the end, and lets go of the terminal."""


def display_for_terminal(stream: TextIO | None = None) -> Display:
    """The live display if `stream` (None: standard output) is a terminal, plain lines otherwise."""
    stream = sys.stdout if stream is None else stream
    if stream.isatty():
        return LiveDisplay(Console(file=stream))
    return PlainDisplay(stream)


def time_left_s(progress: Progress) -> float | None:
    """Seconds to the end at the speed so far; None while too little is done to know."""
    if progress.work_left <= 0:
        return 0.0
    if progress.elapsed_s < KNOWN_AFTER_S or progress.done_fraction < KNOWN_FRACTION:
        return None
    return progress.elapsed_s * progress.work_left / progress.work_done


def time_text(seconds: float | None) -> str:
    """A duration as people say it, with no more digits than it deserves."""
    if seconds is None:
        return "unknown"
    if round(seconds) < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def line(progress: Progress) -> str:
    """The state in one plain line."""
    counts = progress.counts
    parts = [
        f"{progress.sweep}: {counts.finished} of {counts.trials} trials finished",
        f"{counts.running} running",
        f"{counts.waiting} waiting",
        f"{counts.failed} failed",
        f"{progress.done_fraction:.0%} of the work",
        f"elapsed {time_text(progress.elapsed_s)}",
        f"time left {time_text(time_left_s(progress))}",
        progress.state,
    ]
    return ", ".join(part for part in parts if part)


def best_lines(progress: Progress) -> list[str]:
    """The best operating point per arm, the best arm first."""
    ranked = sorted(progress.best, key=lambda best: -best.validation_score)
    return [
        f"{best.label}: validation {best.metric.replace('_', ' ')} {best.validation_score:.4f}"
        f" at {best.macs / 1e6:.4g} M MACs"
        for best in ranked
    ]


class PlainDisplay:
    """Lines for a log: at the start, at the end, at each failure, and now and then in between."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._clock = stream, clock
        self._last_s: float | None = None
        self._last_fraction = 0.0

    def show(self, progress: Progress) -> None:
        """Writes a line if the last one is old enough."""
        now = self._clock()
        if self._last_s is not None:
            quiet_s = now - self._last_s
            moved = progress.done_fraction - self._last_fraction >= LINE_FRACTION
            if quiet_s < LINE_PERIOD_S or not (moved or quiet_s >= QUIET_LIMIT_S):
                return
        self._last_s, self._last_fraction = now, progress.done_fraction
        self._write(line(progress))

    def note(self, text: str) -> None:
        """Writes the text."""
        self._write(text)

    def close(self, progress: Progress) -> None:
        """Writes the last line and the best of each arm."""
        self._write(line(progress))
        for text in best_lines(progress):
            self._write(f"  {text}")

    def _write(self, text: str) -> None:
        say(text, to=self._stream)


class LiveDisplay:
    """A bar, the running trials and the best of each arm, redrawn in place."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._clock = console, clock
        self._progress: Progress | None = None
        self._shown_at_s = 0.0
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=4, transient=True)

    def show(self, progress: Progress) -> None:
        """Takes the state that the next redraw shows."""
        self._progress, self._shown_at_s = progress, self._clock()
        if not self._live.is_started:
            self._live.start()

    def note(self, text: str) -> None:
        """Prints the text above the display."""
        self._console.print(Text(printable(text), style="red"), soft_wrap=True)

    def close(self, progress: Progress) -> None:
        """Leaves the last state as plain text."""
        self._live.stop()
        for text in [line(progress), *(f"  {best}" for best in best_lines(progress))]:
            self._console.print(Text(printable(text)), soft_wrap=True)

    def _render(self) -> RenderableType:
        progress = self._progress
        if progress is None:
            return Text("")
        running = Table.grid(padding=(0, 2))
        for trial in progress.running:
            cells = (trial.trial_id[:12], trial.label, trial.stage, f"{trial.stage_number}/{trial.stages}")
            running.add_row(*(Text(printable(cell)) for cell in cells))  # of a plain text rich would read marks
        best = [Text(printable(f"best  {text}"), style="green") for text in best_lines(progress)[:BEST_SHOWN]]
        bar = Table.grid(padding=(0, 1))
        fraction = progress.done_fraction
        bar.add_row(ProgressBar(total=1.0, completed=fraction, width=BAR_WIDTH), f"{fraction:.0%} of the work")
        state = [Text(progress.state, style="yellow")] if progress.state else []
        return Group(self._head(progress), bar, *state, *([running] if progress.running else []), *best)

    def _head(self, progress: Progress) -> Text:
        """The counts, and the times as they are now: a long stage changes nothing but the clock."""
        counts = progress.counts
        since_s = self._clock() - self._shown_at_s
        left_s = time_left_s(progress)
        left = None if left_s is None else max(0.0, left_s - since_s)
        return Text(
            f"{progress.sweep}  {counts.finished}/{counts.trials} finished  {counts.running} running  "
            f"{counts.waiting} waiting  {counts.failed} failed   elapsed {time_text(progress.elapsed_s + since_s)}"
            f"   left {time_text(left)}"
        )
