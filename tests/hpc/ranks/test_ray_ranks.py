"""RayRanks: N actors that act as one, and end as one. Needs Ray on this machine."""

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

from hpc.ranks.ranks import RankDied, RankFailed
from tests.hpc.hangs import HANG_LIMIT_S, STACKS_LIMIT_S, WORK_LIMIT_S, hung_in, stopped_outside, where_rank_0_is
from tests.hpc.processes import are_ended, limited_processor_time

HERE = Path(__file__).parents[1]

pytestmark = pytest.mark.check


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Ray on this machine, started in a folder that has a package `results`, and the module under test."""
    from hpc.ray.local import local_ray

    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("work")
        (folder / "results").mkdir()
        (folder / "results" / "__init__.py").write_text("")
        patch.chdir(folder)
        patch.setenv("PYTHONPATH", str(HERE), prepend=os.pathsep)
        with local_ray(cpus=2):
            import hpc.ranks.ray_ranks

            yield hpc.ranks.ray_ranks


def test_a_local_ray_has_no_servers_that_nobody_asks(machine: Any) -> None:
    assert machine
    commands = [" ".join(child.cmdline()) for child in psutil.Process().children()]
    assert any("gcs_server" in command for command in commands)
    assert not [command for command in commands if "dashboard.py" in command or "monitor.py" in command]


def test_two_actors_reduce(machine: Any) -> None:
    ranks = machine.RayRanks("rank_target:Gloo", 2)
    try:
        assert ranks.call("reduce") == [3.0, 3.0]
    finally:
        ranks.close()


def test_a_package_in_the_working_folder_is_not_taken_for_ours(machine: Any) -> None:
    ranks = machine.RayRanks("rank_target:Plain", 1)
    try:
        (place,) = ranks.call("place_of", "results")
    finally:
        ranks.close()
    assert Path(place) == HERE.parents[1] / "results" / "__init__.py"


def test_failures_and_deaths_show_at_once(machine: Any) -> None:
    ranks = machine.RayRanks("rank_target:Plain", 2)
    started = ranks.call("process_id")
    with pytest.raises(RankFailed, match="ValueError: rank 1 does not like this") as failure:
        ranks.call("fail_on", 1)
    assert "fail_on" in failure.value.traceback
    assert are_ended(started)
    ranks = machine.RayRanks("rank_target:Plain", 2)
    started = ranks.call("process_id")
    with limited_processor_time() as hint, pytest.raises(RankDied, match=f"rank 0 of 2: .*{re.escape(hint)}"):
        ranks.call("die_on", 0)
    assert are_ended(started)


def test_a_death_is_the_cause_of_its_neighbours_error(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "DEATH_GRACE_S", 30.0)  # on a busy machine Ray may tell the death late
    ranks = machine.RayRanks("rank_target:Plain", 2)
    with pytest.raises(RankDied, match="rank 1 of 2: "):
        ranks.call("die_and_neighbour_fails", 1)


def test_no_answer_in_time_and_a_death_while_idle(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ranks = machine.RayRanks("rank_target:Unclosable", 1, threads_per_rank=2)
    (environment,) = ranks.call("environment")
    assert (environment["RANK"], environment["WORLD_SIZE"], environment["OMP_NUM_THREADS"]) == ("0", "1", "2")
    monkeypatch.setattr("hpc.ranks.ranks.CLOSE_LIMIT_S", 0.5)
    with pytest.raises(RankDied, match="no answer to close"):
        ranks.close()
    monkeypatch.undo()
    ranks = machine.RayRanks("rank_target:Plain", 1)
    (process_id,) = ranks.call("process_id")
    os.kill(process_id, signal.SIGKILL)
    with pytest.raises(RankDied):
        ranks.call("count")


@pytest.fixture
def watched(machine: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], Any]]:
    """Starts two ranks with a limit, and ends them in the end."""
    monkeypatch.setattr(machine, "STACKS_LIMIT_S", STACKS_LIMIT_S)
    with ExitStack() as stack:

        def start(limit_s: float) -> Any:
            ranks = machine.RayRanks("rank_target:Watched", 2, hang_limit_s=limit_s)
            stack.callback(ranks.kill)
            return ranks

        yield start


def process_ids(ranks: Any) -> list[int]:
    """Of both ranks, without a call to them, which is watched."""
    return [place.process_id for place in ranks.places]


def test_a_call_tells_on_the_way_where_rank_0_is(watched: Callable[[float], Any]) -> None:
    ranks = watched(WORK_LIMIT_S)
    where_rank_0_is(ranks)
    assert are_ended(process_ids(ranks))


@pytest.mark.parametrize("method", ["hang", pytest.param("loop_for_ever", marks=pytest.mark.long)])
def test_ranks_that_hang_say_where_and_are_ended(watched: Callable[[float], Any], method: str) -> None:
    ranks = watched(HANG_LIMIT_S)
    hung_in(ranks, method)
    assert are_ended(process_ids(ranks))


@pytest.mark.long
def test_ranks_that_work_for_longer_than_the_limit_are_left_alone(watched: Callable[[float], Any]) -> None:
    assert watched(WORK_LIMIT_S).call("work_on", 1, 1.5 * WORK_LIMIT_S) == ["waited", "done"]


@pytest.mark.long
def test_a_rank_that_was_stopped_from_outside_is_told_apart(watched: Callable[[float], Any]) -> None:
    ranks = watched(HANG_LIMIT_S)
    os.kill(process_ids(ranks)[1], signal.SIGSTOP)
    stopped_outside(ranks)
    assert are_ended(process_ids(ranks))
