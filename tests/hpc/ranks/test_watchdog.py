"""The watchdog: ranks that hang are ended and tell where they were; those that work, however long, are left alone."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpc.ranks import ranks as hpc_ranks
from hpc.ranks.process_ranks import ProcessRanks
from hpc.ranks.ranks import RankHung, Watchdog
from tests.hpc.processes import are_ended

HERE = Path(__file__).parents[1]
LIMIT_S = 8.0
STACKS_LIMIT_S = 15.0  # is waited for as a whole where a rank of Ray was stopped
RAY = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(params=["processes", pytest.param("ray", marks=RAY)])
def two_ranks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("PYTHONPATH", str(HERE), prepend=os.pathsep)
    for backend in ("hpc.ranks.process_ranks", "hpc.ranks.ray_ranks")[: 1 if request.param == "processes" else 2]:
        monkeypatch.setattr(f"{backend}.STACKS_LIMIT_S", STACKS_LIMIT_S)
    if request.param == "processes":
        ranks: Any = ProcessRanks("rank_target:Watched", 2, hang_limit_s=LIMIT_S)
        yield ranks
        ranks.kill()
        return
    from hpc.ray.local import local_ray

    with local_ray(cpus=2):
        from hpc.ranks.ray_ranks import RayRanks

        ranks = RayRanks("rank_target:Watched", 2, hang_limit_s=LIMIT_S)
        yield ranks
        ranks.kill()


@pytest.mark.slow
def test_ranks_that_work_for_longer_than_the_limit_are_left_alone(two_ranks: Any) -> None:
    assert two_ranks.call("work", 1.5 * LIMIT_S) == ["done", "done"]
    assert two_ranks.call("work_on", 1, 1.5 * LIMIT_S) == ["waited", "done"]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["hang", "loop_for_ever"])
def test_ranks_that_hang_say_where_and_are_ended(two_ranks: Any, method: str) -> None:
    started = two_ranks.call("process_id")
    with pytest.raises(RankHung, match=f"no sign of life of 2 rank\\(s\\) for {LIMIT_S:g} s") as hung:
        two_ranks.call(method)
    assert not hung.value.is_suspended
    one, other = hung.value.log_tail.split("rank 1 of 2:")
    assert f"in {method}" in one and f"in {method}" in other
    assert are_ended(started)


@pytest.mark.slow
def test_a_rank_that_was_stopped_from_outside_is_told_apart(two_ranks: Any) -> None:
    started = two_ranks.call("process_id")
    stopper = threading.Timer(1.0, os.kill, (started[1], signal.SIGSTOP))
    stopper.start()
    with pytest.raises(RankHung, match=r"rank 1 was stopped from outside \(SIGSTOP\)") as hung:
        two_ranks.call("hang")
    stopper.join()
    assert hung.value.is_suspended
    one, other = hung.value.log_tail.split("rank 1 of 2:")
    assert "in hang" in one and "stopped" in other and "in hang" not in other
    assert are_ended(started)


def test_time_in_which_the_watcher_was_stopped_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(hpc_ranks.time, "monotonic", lambda: now[0])
    watchdog = Watchdog(10.0)

    def looked_after(seconds: float, signs: list[int]) -> bool:
        now[0] += seconds
        return watchdog.hangs(signs)

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
    assert not watchdog.hangs([0]) and not watchdog.hangs([0])
