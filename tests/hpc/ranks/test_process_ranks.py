"""ProcessRanks: N child processes that act as one, and end as one."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpc.ranks.process_ranks import ProcessRanks
from hpc.ranks.ranks import RankDied, RankFailed
from tests.hpc.processes import are_ended, limited_processor_time, spend_processor_time

HERE = Path(__file__).parents[1]
OWNER = """
from hpc.ranks.process_ranks import ProcessRanks
ranks = ProcessRanks("rank_target:Plain", 2)
print(*ranks.process_ids, flush=True)
ranks.call("hang")
"""
LOOPBACK_IN_PROC = {"0100007F", "0000000000000000FFFF00000100007F"}


@pytest.fixture(scope="module", autouse=True)
def _targets_on_path() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(HERE), prepend=os.pathsep)
        yield


@pytest.fixture
def one_rank() -> Iterator[ProcessRanks]:
    ranks = ProcessRanks("rank_target:Plain", 1, threads_per_rank=3)
    yield ranks
    ranks.kill()


@pytest.fixture
def two_ranks() -> Iterator[ProcessRanks]:
    ranks = ProcessRanks("rank_target:Plain", 2)
    yield ranks
    ranks.kill()


def test_the_target_lives_on_from_call_to_call(one_rank: ProcessRanks) -> None:
    assert one_rank.call("count") == [1]
    assert one_rank.call("count") == [2]
    (environment,) = one_rank.call("environment")
    assert (environment["RANK"], environment["WORLD_SIZE"], environment["OMP_NUM_THREADS"]) == ("0", "1", "3")


@pytest.mark.check
def test_what_a_shell_says_of_cores_and_of_slurm_is_not_for_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    shell = {"OMP_PROC_BIND": "true", "OMP_PLACES": "cores", "SLURM_JWT": "secret", "KMP_AFFINITY": "compact"}
    for name, value in shell.items():
        monkeypatch.setenv(name, value)
    ranks = ProcessRanks("rank_target:Plain", 2)
    try:
        assert ranks.call("cores") == [os.sched_getaffinity(0)] * 2  # not the first core for both
        assert [shell.keys() & environment.keys() for environment in ranks.call("environment")] == [set(), set()]
    finally:
        ranks.kill()


def test_what_cannot_be_imported_is_told_by_the_rank() -> None:
    with pytest.raises(RankFailed, match="No module named 'no_such_module'"):
        ProcessRanks("no_such_module:Target", 1)


def test_close_ends_exactly_what_was_started(one_rank: ProcessRanks) -> None:
    bystander = subprocess.Popen(["sleep", "600"])
    started = one_rank.process_ids
    one_rank.close()
    assert are_ended(started)
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()
    with pytest.raises(RankDied, match="have ended"):
        one_rank.call("count")


def test_a_target_that_cannot_be_made_is_told_with_its_traceback() -> None:
    with pytest.raises(RankFailed, match="OSError: no such weights") as failure:
        ProcessRanks("rank_target:Unmakeable", 1)
    assert "in __init__" in failure.value.traceback


def test_no_answer_in_time_ends_the_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    ranks = ProcessRanks("rank_target:Unclosable", 1)
    started = ranks.process_ids
    monkeypatch.setattr("hpc.ranks.ranks.CLOSE_LIMIT_S", 0.5)
    with pytest.raises(RankDied, match="rank 0 of 1: no answer to close"):
        ranks.close()
    assert are_ended(started)


def test_a_killed_rank_is_told_with_its_last_words(one_rank: ProcessRanks) -> None:
    with pytest.raises(
        RankDied, match="rank 0 of 1 was ended by SIGKILL, as the kernel does when memory is short"
    ) as death:
        one_rank.call("die_on", 0)
    assert "the last words of a rank" in death.value.log_tail


def test_a_rank_that_a_limit_of_the_shell_ends_is_reported_with_that_limit(one_rank: ProcessRanks) -> None:
    with limited_processor_time() as hint:
        spend_processor_time(one_rank.process_ids[0])
        with pytest.raises(RankDied, match=re.escape(f"rank 0 of 1 was ended by SIGXCPU{hint}")):
            one_rank.call("compute")


def test_a_rank_that_died_while_idle_is_noticed_at_the_next_call(one_rank: ProcessRanks) -> None:
    os.kill(one_rank.process_ids[0], signal.SIGKILL)
    with pytest.raises(RankDied, match="SIGKILL"):
        one_rank.call("count")


def test_a_rank_ignores_the_terminals_ctrl_c(one_rank: ProcessRanks) -> None:
    assert os.getpgid(one_rank.process_ids[0]) != os.getpgid(0)
    assert os.getsid(one_rank.process_ids[0]) != os.getsid(0)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_failure_shows_at_once_though_the_other_rank_hangs(two_ranks: ProcessRanks, rank: int) -> None:
    started = two_ranks.process_ids
    with pytest.raises(RankFailed, match=f"ValueError: rank {rank} does not like this") as failure:
        two_ranks.call("fail_on", rank)
    assert "fail_on" in failure.value.traceback
    assert are_ended(started)


def test_a_death_shows_at_once_though_the_other_rank_hangs(two_ranks: ProcessRanks) -> None:
    started = two_ranks.process_ids
    with pytest.raises(RankDied, match="rank 1 of 2 was ended by SIGKILL"):
        two_ranks.call("die_on", 1)
    assert are_ended(started)


@pytest.mark.check
def test_a_death_is_the_cause_of_its_neighbours_error(two_ranks: ProcessRanks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpc.ranks.process_ranks.DEATH_GRACE_S", 30.0)  # on a busy machine the death may be late
    with pytest.raises(RankDied, match="rank 1 of 2 was ended by SIGKILL"):
        two_ranks.call("die_and_neighbour_fails", 1)


def test_two_ranks_reduce_over_the_loopback_alone() -> None:
    ranks = ProcessRanks("rank_target:Gloo", 2)
    try:
        assert ranks.call("reduce") == [3.0, 3.0]
        listening = ranks.call("listening_addresses")
        assert listening[0]  # the store at least, so that the look itself works
        assert set(listening[0] + listening[1]) <= LOOPBACK_IN_PROC
        # gloo would take the address of the host's name, which is the loopback's on some machines only
        assert [each["GLOO_SOCKET_IFNAME"] for each in ranks.call("environment")] == ["lo", "lo"]
        started = ranks.process_ids
        ranks.close()
        assert are_ended(started)
    finally:
        ranks.kill()


def test_ranks_end_with_a_parent_that_was_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    started = [int(word) for word in parent.stdout.readline().split()]
    assert len(started) == 2
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert are_ended(started)
