"""What the display says, and how often."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from sweeps.driver import display as display_module
from sweeps.driver.display import (
    LiveDisplay,
    PlainDisplay,
    RunningTrial,
    SweepProgress,
    display_for_terminal,
    left_text,
    line,
    running_lines,
    time_text,
)
from sweeps.driver.ledger import Counts

RUNNING = RunningTrial(
    trial_id="a" * 16, arm="transtailor", network="digits_vgg", dataset="digits", seed=1, node="n1",
    stage="fine_tune 5/9", words="epoch 7 of 25, loss 0.4121, 3,210 images/s",
)  # fmt: skip
SAID = "transtailor  digits_vgg on digits  seed 1  n1  fine_tune 5/9  epoch 7 of 25, loss 0.4121, 3,210 images/s"


def progress(done: float, left: float, elapsed_s: float, *, failed: int = 0) -> SweepProgress:
    return SweepProgress(
        sweep="demo",
        counts=Counts(finished=3, failed=failed, running=1, waiting=2),
        work_done=done,
        work_left=left,
        elapsed_s=elapsed_s,
        left_s=(90.0, 240.0),
        running=(RUNNING,),
    )


class Clock:
    """Stands for the module `time`."""

    now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(display_module, "time", clock)
    return clock


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(4.2, "4 s"), (59.6, "1 min"), (90, "2 min"), (3599, "1 h 00 min"), (7500, "2 h 05 min")],
)
def test_time_text(seconds: float, text: str) -> None:
    assert time_text(seconds) == text


def test_line() -> None:
    assert line(progress(25, 75, 50, failed=1)) == (
        "demo: 3 of 7 trials finished, 1 running, 2 waiting, 1 failed, 25% of this launch's work, elapsed 50 s, "
        "time left 2 min to 4 min"
    )


@pytest.mark.parametrize(
    ("left_s", "text"),
    [
        (None, "unknown"), ((40.0, 100.0), "40 s to 2 min"), ((110.0, 125.0), "2 min"), ((0.0, 0.2), "1 s"),
        ((200.0, None), "at least 3 min"),
    ],
)  # fmt: skip
def test_the_time_left_is_a_range_where_it_is_not_known(left_s: tuple[float, float | None] | None, text: str) -> None:
    assert left_text(replace(progress(25, 75, 50), left_s=left_s)) == text


def test_while_a_trial_runs_not_all_work_is_done_and_time_is_left() -> None:
    nearly = replace(progress(99.99, 0.0, 50), left_s=None)
    assert line(nearly).endswith("99% of this launch's work, elapsed 50 s, time left unknown")
    over = replace(nearly, counts=Counts(finished=6, failed=0, running=0, waiting=0), running=())
    assert line(over).endswith("100% of this launch's work, elapsed 50 s")
    assert "100% of this launch's work" in line(
        replace(over, work_left=1.0)
    )  # of a path that stopped early, or a rounding
    failed = replace(over, counts=Counts(finished=5, failed=1, running=0, waiting=0), work_left=11.11)
    assert "90% of this launch's work" in line(failed)
    stopped = replace(nearly, counts=Counts(finished=5, failed=0, running=0, waiting=1), running=())
    assert "99% of this launch's work" in line(stopped)
    cached = replace(stopped, counts=Counts(finished=0, failed=0, running=0, waiting=4), work_done=0.0)
    assert "0 of 4 trials finished" in line(cached) and " 0% of this launch's work" in line(cached)
    with_failed = replace(cached, counts=Counts(finished=3, failed=1, running=0, waiting=0))
    assert "100% of this launch's work" in line(with_failed)


def test_running_trials_are_in_columns_and_not_more_than_fit() -> None:
    other = replace(RUNNING, arm="l1", node="", stage="end", words="")
    shown = progress(25, 75, 50)
    one, second = running_lines(replace(shown, running=(RUNNING, other)))
    assert one == f"aaaaaaaaaaaa  {SAID}"
    assert second == "aaaaaaaaaaaa  l1           digits_vgg on digits  seed 1      end"
    assert running_lines(replace(shown, running=(RUNNING,) * 100))[-2:] == [one, "... and 92 more run"]
    assert running_lines(replace(shown, running=())) == []


def test_plain_lines_are_sparse_but_failures_are_not(clock: Clock) -> None:
    stream = io.StringIO()
    display = PlainDisplay(stream)
    shown = []
    for second in range(101):
        clock.now_s = float(second)
        before = len(stream.getvalue().splitlines())
        display.show(progress(second, 100 - second, second))
        if new := stream.getvalue().splitlines()[before:]:
            assert new[1:] == [f"  aaaaaaaaaaaa  {SAID}"]
            shown.append(second)
    assert shown == list(range(0, 101, 10))
    display.note("trial x failed: ValueError")
    display.close(progress(100, 0, 100))
    assert stream.getvalue().splitlines()[-2:] == ["trial x failed: ValueError", line(progress(100, 0, 100))]


def test_a_slow_sweep_still_says_that_it_lives(clock: Clock) -> None:
    stream = io.StringIO()
    display = PlainDisplay(stream)
    for second in range(0, 181, 5):
        clock.now_s = float(second)
        display.show(progress(1, 1000, second))
    assert len(stream.getvalue().splitlines()) == 2 * 4  # at 0, 60, 120 and 180 s


def test_the_live_display_shows_stage_and_failures() -> None:
    stream = io.StringIO()
    display = LiveDisplay(Console(file=stream, force_terminal=True, width=120))
    display.show(progress(25, 75, 50))
    display.note("trial x failed: ValueError")
    display.close(progress(100, 0, 100))
    text = stream.getvalue()
    for part in ("3/6 finished", "left 2 min to 4 min", SAID[:60], "7 of 25", "trial x failed: ValueError"):
        assert part in text
    assert "\x1b[?25h" in text  # the cursor is back


def test_a_file_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", io.StringIO())
    assert isinstance(display_for_terminal(), PlainDisplay)


EVIL = "\x1b]0;x\x07[/x] [bold]b \u202e"
SHOWN = "\\x1b]0;x\\x07[/x] [bold]b \\u202e"


@pytest.mark.parametrize("is_live", [True, False])
def test_labels_are_text_and_neither_markup_nor_escape_sequences(is_live: bool) -> None:
    stream = io.StringIO()
    display = LiveDisplay(Console(file=stream, width=200)) if is_live else PlainDisplay(stream)
    named = progress(25, 75, 50)
    running = tuple(replace(trial, arm=EVIL) for trial in named.running)
    named = replace(named, running=running, state=EVIL)
    display.show(named)
    display.note(EVIL)
    if isinstance(display, LiveDisplay):
        Console(file=stream, width=200).print(display._render())
    display.close(named)
    assert stream.getvalue().count(SHOWN) == 4
    assert "\x1b" not in stream.getvalue()
