"""What ranks do that hang, whatever they run on: the part of the watchdog's tests that processes and Ray share."""

from typing import Any

import pytest

from hpc.ranks.ranks import Heartbeat, RankHung

WORK_LIMIT_S = 8.0  # within which also a busy machine lets a rank that works give one of its signs
HANG_LIMIT_S = 2.0  # whoever hangs gives none, however busy the machine is
STACKS_LIMIT_S = 15.0  # is waited for as a whole where a rank of Ray was stopped


def where_rank_0_is(ranks: Any) -> None:
    """Ranks that work tell on the way where rank 0 is; they end when nobody listens any more."""
    heartbeats: list[Heartbeat] = []
    calling = ranks.call_in_steps("work_on", 0, 3600.0)
    heartbeats.append(next(calling))
    while not heartbeats[-1].words:  # of Ray, the first answers come later
        heartbeats.append(next(calling))
    assert heartbeats[-1].words == f"after {heartbeats[-1].number} \u00b7"
    assert heartbeats[-1].done_fraction == 0.5
    assert sorted(heartbeats, key=lambda heartbeat: heartbeat.number) == heartbeats
    calling.close()


def hung_in(ranks: Any, method: str) -> None:
    """Two ranks that hang in a method say so, each with its own stack."""
    with pytest.raises(RankHung, match=f"no heartbeat of 2 rank\\(s\\) for {HANG_LIMIT_S:g} s") as hung:
        ranks.call(method)
    assert not hung.value.is_suspended
    stack_0, stack_1 = hung.value.log_tail.split("rank 1 of 2:")
    assert f"in {method}" in stack_0 and f"in {method}" in stack_1


def stopped_outside(ranks: Any) -> None:
    """Of two ranks that hang, the second one is known to have been stopped from outside."""
    with pytest.raises(RankHung, match=r"rank 1 was stopped from outside \(SIGSTOP\)") as hung:
        ranks.call("hang")
    assert hung.value.is_suspended
    stack_0, stack_1 = hung.value.log_tail.split("rank 1 of 2:")
    assert "in hang" in stack_0 and "stopped" in stack_1 and "in hang" not in stack_1
