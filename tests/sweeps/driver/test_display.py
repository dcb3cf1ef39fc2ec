"""What the display says, and how often."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from sweeps.driver.display import (
    Best,
    LiveDisplay,
    PlainDisplay,
    Progress,
    RunningTrial,
    display_for_terminal,
    line,
    time_left_s,
    time_text,
)
from sweeps.driver.ledger import Counts


def progress(done: float, left: float, elapsed_s: float, *, failed: int = 0) -> Progress:
    return Progress(
        sweep="demo",
        counts=Counts(finished=3, failed=failed, running=1, waiting=2),
        work_done=done,
        work_left=left,
        elapsed_s=elapsed_s,
        best=(
            Best(label="prune l1", metric="accuracy", validation_score=0.81, macs=2_000_000),
            Best(label="transtailor", metric="accuracy", validation_score=0.9, macs=1_500_000),
        ),
        running=(RunningTrial(trial_id="a" * 16, label="transtailor", stage="FineTune", stage_number=4, stages=9),),
    )


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_time_left_is_unknown_until_the_work_done_says_something() -> None:
    assert time_left_s(progress(0, 100, 50)) is None
    assert time_left_s(progress(1, 100, 50)) is None
    assert time_left_s(progress(50, 50, 1)) is None
    assert time_left_s(progress(25, 75, 50)) == 150
    assert time_left_s(progress(0, 0, 0)) == 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "unknown"), (4.2, "4 s"), (59.6, "1 min"), (90, "2 min"), (3599, "1 h 00 min"), (7500, "2 h 05 min")],
)
def test_time_text(seconds: float | None, text: str) -> None:
    assert time_text(seconds) == text


def test_line() -> None:
    assert line(progress(25, 75, 50, failed=1)) == (
        "demo: 3 of 7 trials finished, 1 running, 2 waiting, 1 failed, 25% of the work, elapsed 50 s, time left 2 min"
    )


def test_plain_lines_are_sparse_but_failures_are_not() -> None:
    stream, clock = io.StringIO(), Clock()
    display = PlainDisplay(stream, clock)
    shown = []
    for second in range(101):
        clock.now = float(second)
        before = len(stream.getvalue().splitlines())
        display.show(progress(second, 100 - second, second))
        if len(stream.getvalue().splitlines()) > before:
            shown.append(second)
    assert shown == list(range(0, 101, 10))
    display.note("trial x failed: ValueError")
    display.close(progress(100, 0, 100))
    assert stream.getvalue().splitlines()[-4:] == [
        "trial x failed: ValueError",
        line(progress(100, 0, 100)),
        "  transtailor: validation accuracy 0.9000 at 1.5 M MACs",
        "  prune l1: validation accuracy 0.8100 at 2 M MACs",
    ]


def test_a_slow_sweep_still_says_that_it_lives() -> None:
    stream, clock = io.StringIO(), Clock()
    display = PlainDisplay(stream, clock)
    for second in range(0, 181, 5):
        clock.now = float(second)
        display.show(progress(1, 1000, second))
    assert len(stream.getvalue().splitlines()) == 4  # at 0, 60, 120 and 180 s


def test_the_live_display_shows_stage_best_and_failures() -> None:
    stream = io.StringIO()
    display = LiveDisplay(Console(file=stream, force_terminal=True, width=120), Clock())
    display.show(progress(25, 75, 50))
    display.note("trial x failed: ValueError")
    display.close(progress(100, 0, 100))
    text = stream.getvalue()
    for part in ("3/6 finished", "left 2 min", "FineTune", "4/9", "0.9000", "trial x failed: ValueError"):
        assert part in text
    assert "\x1b[?25h" in text  # the cursor is back


def test_a_file_gets_plain_lines() -> None:
    assert isinstance(display_for_terminal(io.StringIO()), PlainDisplay)


EVIL = "\x1b]0;x\x07[/x] [bold]b \u202e"
SHOWN = "\\x1b]0;x\\x07[/x] [bold]b \\u202e"


@pytest.mark.parametrize("is_live", [True, False])
def test_labels_are_text_and_neither_markup_nor_escape_sequences(is_live: bool) -> None:
    stream = io.StringIO()
    display = LiveDisplay(Console(file=stream, width=200)) if is_live else PlainDisplay(stream)
    named = progress(25, 75, 50)
    running = tuple(replace(trial, label=EVIL) for trial in named.running)
    named = replace(named, best=tuple(replace(best, label=EVIL) for best in named.best), running=running)
    display.show(named)
    display.note(EVIL)
    if isinstance(display, LiveDisplay):
        Console(file=stream, width=200).print(display._render())
    display.close(named)
    assert stream.getvalue().count(SHOWN) == (3 if not is_live else 6)
    assert "\x1b" not in stream.getvalue()
