"""The watchdog: ranks that hang are ended and tell where they were; those that work, however long, are left alone."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from hpc.ranks import ranks as hpc_ranks
from hpc.ranks.process_ranks import ProcessRanks
from hpc.ranks.ranks import Heartbeat, RankHung, Watchdog
from hpc.ranks.warm_process import warm_process
from tests.hpc.processes import are_ended

HERE = Path(__file__).parents[1]
WORK_LIMIT_S = 8.0  # within which also a busy machine lets a rank that works give one of its signs
HANG_LIMIT_S = 2.0  # whoever hangs gives none, however busy the machine is
STACKS_LIMIT_S = 15.0  # is waited for as a whole where a rank of Ray was stopped
LONG_RAY = pytest.param("ray", marks=pytest.mark.long)
Start = Callable[[str, float], Any]


@pytest.fixture(scope="module")
def two_ranks() -> Iterator[Start]:
    """Starts two ranks, of processes or of one Ray for all, with a limit, and ends them in the end."""
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("PYTHONPATH", str(HERE), prepend=os.pathsep)
        is_up, warm_address = False, stack.enter_context(warm_process("rank_target:Watched"))

        def start(kind: str, limit_s: float) -> Any:
            nonlocal is_up
            patch.setattr("hpc.ranks.process_ranks.STACKS_LIMIT_S", STACKS_LIMIT_S)
            if kind == "processes":
                ranks: Any = ProcessRanks("rank_target:Watched", 2, hang_limit_s=limit_s, warm_address=warm_address)
            else:
                from hpc.ray.local import local_ray

                if not is_up:
                    stack.enter_context(local_ray(cpus=2))
                    is_up = True
                from hpc.ranks.ray_ranks import RayRanks

                patch.setattr("hpc.ranks.ray_ranks.STACKS_LIMIT_S", STACKS_LIMIT_S)
                ranks = RayRanks("rank_target:Watched", 2, hang_limit_s=limit_s)
            stack.callback(ranks.kill)
            return ranks

        yield start


def process_ids(ranks: Any) -> list[int]:
    """Of both ranks, without a call to them, which is watched."""
    return ranks.process_ids if isinstance(ranks, ProcessRanks) else [place.process_id for place in ranks.places]


@pytest.mark.check
@pytest.mark.parametrize("kind", ["processes", LONG_RAY])
def test_ranks_that_work_for_longer_than_the_limit_are_left_alone(two_ranks: Start, kind: str) -> None:
    ranks = two_ranks(kind, WORK_LIMIT_S)
    assert ranks.call("work_on", 1, 1.5 * WORK_LIMIT_S) == ["waited", "done"]
    ranks.kill()


@pytest.mark.check
@pytest.mark.parametrize("kind", ["processes", pytest.param("ray", marks=pytest.mark.check)])
def test_a_call_tells_on_the_way_where_rank_0_is(two_ranks: Start, kind: str) -> None:
    ranks = two_ranks(kind, WORK_LIMIT_S)
    heartbeats: list[Heartbeat] = []
    calling = ranks.call_in_steps("work_on", 0, 3600.0)
    heartbeats.append(next(calling))
    while not heartbeats[-1].words:  # of Ray, the first answers come later
        heartbeats.append(next(calling))
    assert heartbeats[-1].words == f"after {heartbeats[-1].number} \u00b7"
    assert heartbeats[-1].done_fraction == 0.5
    assert sorted(heartbeats, key=lambda heartbeat: heartbeat.number) == heartbeats
    started = process_ids(ranks)
    calling.close()
    assert are_ended(started)


@pytest.mark.check
@pytest.mark.parametrize(
    ("method", "kind"),
    [
        ("hang", "processes"), pytest.param("hang", "ray", marks=pytest.mark.check), ("loop_for_ever", "processes"),
        pytest.param("loop_for_ever", "ray", marks=pytest.mark.long),
    ],
)  # fmt: skip
def test_ranks_that_hang_say_where_and_are_ended(two_ranks: Start, method: str, kind: str) -> None:
    ranks = two_ranks(kind, HANG_LIMIT_S)
    with pytest.raises(RankHung, match=f"no heartbeat of 2 rank\\(s\\) for {HANG_LIMIT_S:g} s") as hung:
        ranks.call(method)
    assert not hung.value.is_suspended
    one, other = hung.value.log_tail.split("rank 1 of 2:")
    assert f"in {method}" in one and f"in {method}" in other
    assert are_ended(process_ids(ranks))


@pytest.mark.check
@pytest.mark.parametrize("kind", ["processes", LONG_RAY])
def test_a_rank_that_was_stopped_from_outside_is_told_apart(two_ranks: Start, kind: str) -> None:
    ranks = two_ranks(kind, HANG_LIMIT_S)
    started = process_ids(ranks)
    os.kill(started[1], signal.SIGSTOP)
    with pytest.raises(RankHung, match=r"rank 1 was stopped from outside \(SIGSTOP\)") as hung:
        ranks.call("hang")
    assert hung.value.is_suspended
    one, other = hung.value.log_tail.split("rank 1 of 2:")
    assert "in hang" in one and "stopped" in other and "in hang" not in other
    assert are_ended(started)


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
