"""The watchdog: ranks that hang are ended and tell where they were; those that work, however long, are left alone."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from hpc.ranks import ranks as hpc_ranks
from hpc.ranks.process_ranks import ProcessRanks
from hpc.ranks.ranks import Heartbeat, Watchdog
from tests.hpc.hangs import HANG_LIMIT_S, STACKS_LIMIT_S, WORK_LIMIT_S, hung_in, stopped_outside, where_rank_0_is
from tests.hpc.processes import are_ended

HERE = Path(__file__).parents[1]
Start = Callable[[float], ProcessRanks]


@pytest.fixture
def two_ranks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts two ranks with a limit, and ends them in the end."""
    monkeypatch.setenv("PYTHONPATH", str(HERE), prepend=os.pathsep)
    monkeypatch.setattr("hpc.ranks.process_ranks.STACKS_LIMIT_S", STACKS_LIMIT_S)
    with ExitStack() as stack:

        def start(limit_s: float) -> ProcessRanks:
            ranks = ProcessRanks("rank_target:Watched", 2, hang_limit_s=limit_s)
            stack.callback(ranks.kill)
            return ranks

        yield start


@pytest.mark.check
def test_ranks_that_work_for_longer_than_the_limit_are_left_alone(two_ranks: Start) -> None:
    assert two_ranks(WORK_LIMIT_S).call("work_on", 1, 1.5 * WORK_LIMIT_S) == ["waited", "done"]


def test_a_call_tells_on_the_way_where_rank_0_is(two_ranks: Start) -> None:
    ranks = two_ranks(WORK_LIMIT_S)
    where_rank_0_is(ranks)
    assert are_ended(ranks.process_ids)


@pytest.mark.parametrize("method", ["hang", "loop_for_ever"])
def test_ranks_that_hang_say_where_and_are_ended(two_ranks: Start, method: str) -> None:
    ranks = two_ranks(HANG_LIMIT_S)
    hung_in(ranks, method)
    assert are_ended(ranks.process_ids)


def test_a_rank_that_was_stopped_from_outside_is_told_apart(two_ranks: Start) -> None:
    ranks = two_ranks(HANG_LIMIT_S)
    os.kill(ranks.process_ids[1], signal.SIGSTOP)
    stopped_outside(ranks)
    assert are_ended(ranks.process_ids)


def test_time_in_which_the_watcher_was_stopped_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(hpc_ranks.time, "monotonic", lambda: now[0])
    watchdog = Watchdog(10.0)

    def looked_after(seconds: float, numbers: list[int]) -> bool:
        now[0] += seconds
        return watchdog.is_hung([Heartbeat(number=number, words=f"at {now[0]}") for number in numbers])

    assert not any(looked_after(1.0, [0, 0]) for _ in range(8))
    assert not looked_after(1000.0, [0, 0])  # both were stopped, say: the machine was suspended
    assert not looked_after(1.0, [0, 1])  # a sign of one
    assert not any(looked_after(1.0, [0, 1]) for _ in range(10))
    assert looked_after(1.0, [0, 1])
    assert not any(looked_after(1.0, [0, n]) for n in range(2, 50))


def test_without_a_limit_nothing_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    watchdog = Watchdog(None)
    begin = time.monotonic()
    monkeypatch.setattr(hpc_ranks.time, "monotonic", lambda: begin + 1e9)
    assert not watchdog.is_hung([Heartbeat()]) and not watchdog.is_hung([Heartbeat()])
