"""ProcessRanks: N child processes that act as one, and end as one."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from hpc.ranks.process_ranks import ProcessRanks
from hpc.ranks.ranks import RankDied, RankFailed
from hpc.ranks.warm_process import warm_process
from tests.hpc.processes import are_ended, limited_processor_time, spend_processor_time

HERE = Path(__file__).parents[1]
OWNER = """
import contextlib, sys
import psutil
from hpc.ranks.process_ranks import ProcessRanks
from hpc.ranks.warm_process import warm_process
with warm_process("rank_target:Plain") if sys.argv[1] == "forked" else contextlib.nullcontext() as address:
    ranks = ProcessRanks("rank_target:Plain", 2, warm_address=address)
    print(*[child.pid for child in psutil.Process().children(recursive=True)], flush=True)
    ranks.call("hang")
"""
LOOPBACK_IN_PROC = {"0100007F", "0000000000000000FFFF00000100007F"}


@pytest.fixture(scope="module", autouse=True)
def _targets_on_path() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(HERE), prepend=os.pathsep)
        yield


@pytest.fixture(scope="module")
def forking() -> Iterator[str]:
    """The address of a process that forks ranks."""
    with warm_process("rank_target:Plain") as address:
        yield address


@pytest.fixture(params=["fresh", "forked"])
def warm_address(request: pytest.FixtureRequest, forking: str) -> str | None:
    """Of the process that forks the ranks; None: they are fresh."""
    return forking if request.param == "forked" else None


@pytest.fixture
def one_rank(warm_address: str | None) -> Iterator[ProcessRanks]:
    ranks = ProcessRanks("rank_target:Plain", 1, threads_per_rank=3, warm_address=warm_address)
    yield ranks
    ranks.kill()


@pytest.fixture
def two_ranks(forking: str) -> Iterator[ProcessRanks]:
    ranks = ProcessRanks("rank_target:Plain", 2, warm_address=forking)
    yield ranks
    ranks.kill()


def test_the_target_lives_on_from_call_to_call(one_rank: ProcessRanks, warm_address: str | None) -> None:
    assert one_rank.call("count") == [1]
    assert one_rank.call("count") == [2]
    (environment,) = one_rank.call("environment")
    assert (environment["RANK"], environment["WORLD_SIZE"], environment["OMP_NUM_THREADS"]) == ("0", "1", "3")
    if warm_address is not None:  # in a fresh one, libraries cut it to the number of cores
        assert one_rank.call("threads") == [3]


def test_a_forked_rank_has_what_a_fresh_one_has(forking: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("HOME")
    fresh, forked, another = (
        ProcessRanks("rank_target:Plain", 1, warm_address=address) for address in (None, forking, forking)
    )
    for method in ("environment", "folder", "temporary_folder", "threads"):
        assert forked.call(method) == fresh.call(method)
    assert forked.call("drawn") != another.call("drawn")
    assert fresh.call("parent_id") == [os.getpid()]
    assert forked.call("parent_id") == another.call("parent_id") != [os.getpid()]
    for ranks in (fresh, forked, another):
        ranks.close()


@pytest.mark.parametrize("is_forked", [pytest.param(False, marks=pytest.mark.check), True])
def test_what_a_shell_says_of_cores_and_of_slurm_is_not_for_ranks(
    is_forked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = {"OMP_PROC_BIND": "true", "OMP_PLACES": "cores", "SLURM_JWT": "secret", "KMP_AFFINITY": "compact"}
    for name, value in shell.items():
        monkeypatch.setenv(name, value)
    with warm_process("rank_target:Plain") if is_forked else nullcontext() as address:
        ranks = ProcessRanks("rank_target:Plain", 2, warm_address=address)
        try:
            assert ranks.call("cores") == [os.sched_getaffinity(0)] * 2  # not the first core for both
            assert [shell.keys() & environment.keys() for environment in ranks.call("environment")] == [set(), set()]
        finally:
            ranks.kill()


def test_a_forked_rank_is_as_nice_as_who_asks_for_it(forking: str) -> None:
    nicenesses: list[int] = []

    def ask() -> None:
        os.nice(3)  # of this thread alone
        ranks = ProcessRanks("rank_target:Plain", 1, warm_address=forking)
        nicenesses.extend((os.nice(0), *ranks.call("niceness")))
        ranks.close()

    asking = threading.Thread(target=ask)
    asking.start()
    asking.join()
    assert nicenesses == [os.nice(0) + 3] * 2


def test_from_a_process_of_several_threads_no_rank_is_forked() -> None:
    with warm_process("rank_target:Threaded") as address:
        ranks = ProcessRanks("rank_target:Threaded", 1, warm_address=address)
    assert ranks.call("parent_id") == [os.getpid()]
    ranks.close()


def test_what_cannot_be_imported_is_told_by_the_rank() -> None:
    with (
        warm_process("no_such_module:Target") as address,
        pytest.raises(RankFailed, match="No module named 'no_such_module'"),
    ):
        ProcessRanks("no_such_module:Target", 1, warm_address=address)


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


def test_a_target_that_cannot_be_made_is_told_with_its_traceback(warm_address: str | None) -> None:
    with pytest.raises(RankFailed, match="OSError: no such weights") as failure:
        ProcessRanks("rank_target:Unmakeable", 1, warm_address=warm_address)
    assert "in __init__" in failure.value.traceback


def test_no_answer_in_time_ends_the_rank(warm_address: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    ranks = ProcessRanks("rank_target:Unclosable", 1, warm_address=warm_address)
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


def test_two_ranks_reduce_over_the_loopback_alone(forking: str) -> None:
    ranks = ProcessRanks("rank_target:Gloo", 2, warm_address=forking)
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


@pytest.mark.parametrize("start", ["fresh", "forked"])
def test_ranks_end_with_a_parent_that_was_killed(start: str) -> None:
    parent = subprocess.Popen([sys.executable, "-c", OWNER, start], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    started = [int(word) for word in parent.stdout.readline().split()]
    assert len(started) == {"fresh": 2, "forked": 3}[start]
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert are_ended(started)
