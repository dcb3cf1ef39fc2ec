"""RayRanks: N ranks that act as one, and end as one; rank 0 is the process that starts the others. Needs Ray."""

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from hpc.ranks import ray_ranks
from hpc.ranks.ranks import RankDied, RankFailed
from tests.hpc.hangs import HANG_LIMIT_S, WORK_LIMIT_S
from tests.hpc.processes import are_ended

HERE = Path(__file__).parents[1]
LIMIT_S = 120.0  # on a busy machine

pytestmark = pytest.mark.check


@dataclass
class Slot:
    """A process that is rank 0, as the trainable of Ray Tune is, in a group with room for its peers."""

    actor: Any
    places: list[Any]

    def ask(self, method: str, *args: Any) -> Any:
        """What a method of its `rank_target.Holder` returns; raises as the ranks do."""
        import ray

        kind, *said = ray.get(getattr(self.actor, method).remote(*args), timeout=LIMIT_S)
        if kind != "answers":
            raise {"RankDied": RankDied, "RankHung": RankDied, "RankFailed": RankFailed}[kind](*said)
        return said[0]

    def call(self, method: str, *args: Any) -> Any:
        """The answers of all ranks."""
        return self.ask("call", method, *args)

    @property
    def process_ids(self) -> list[int]:
        """Of all ranks, without a call to them, which is watched."""
        return [place.process_id for place in self.places]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Ray on this machine, started in a folder that has a package `results`."""
    from hpc.ray.local import local_ray

    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("work")
        (folder / "results").mkdir()
        (folder / "results" / "__init__.py").write_text("")
        patch.chdir(folder)
        patch.setenv("PYTHONPATH", str(HERE), prepend=os.pathsep)
        patch.syspath_prepend(str(HERE))
        with local_ray(cpus=2):
            yield


@pytest.fixture
def start(machine: None) -> Iterator[Callable[..., Slot]]:  # noqa: ARG001
    """Starts ranks of a target, and ends them in the end."""
    import ray
    from rank_target import Holder
    from ray.util import placement_group, remove_placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    with ExitStack() as stack:

        def started(target: str, ranks: int, **settings: Any) -> Slot:
            group = placement_group([{"CPU": 1}] * ranks)
            stack.callback(remove_placement_group, group)
            strategy = PlacementGroupSchedulingStrategy(group, 0)
            actor = ray.remote(Holder).options(num_cpus=1, scheduling_strategy=strategy).remote()  # type: ignore[attr-defined]
            slot = Slot(actor, [])
            slot.places = slot.ask("start", f"rank_target:{target}", ranks, settings)
            return slot

        yield started


def test_a_local_ray_has_no_servers_that_nobody_asks(machine: None) -> None:  # noqa: ARG001
    commands = [" ".join(child.cmdline()) for child in psutil.Process().children()]
    assert any("gcs_server" in command for command in commands)
    assert not [command for command in commands if "dashboard.py" in command or "monitor.py" in command]


def test_what_the_thread_of_rank_0_raises_is_raised_and_the_next_call_runs() -> None:
    thread = ray_ranks._OwnThread()
    with pytest.raises(ZeroDivisionError):
        thread.ask(lambda: 1 // 0).result(LIMIT_S)
    assert thread.ask(lambda: 7).result(LIMIT_S) == 7


def test_two_ranks_reduce(start: Callable[..., Slot]) -> None:
    ranks = start("Gloo", 2)
    assert ranks.call("reduce") == [3.0, 3.0]
    assert ranks.call("process_id") == ranks.process_ids
    ranks.ask("close")
    assert are_ended(ranks.process_ids[1:])


def test_a_package_in_the_working_folder_is_not_taken_for_ours(start: Callable[..., Slot]) -> None:
    (place,) = start("Plain", 1).call("place_of", "results")
    assert Path(place) == HERE.parents[1] / "results" / "__init__.py"


@pytest.mark.parametrize("rank", [0, 1])
def test_a_failure_shows_at_once_and_ends_the_peers(start: Callable[..., Slot], rank: int) -> None:
    ranks = start("Plain", 2)
    with pytest.raises(RankFailed, match=f"ValueError: rank {rank} does not like this") as failure:
        ranks.call("fail_on", rank)
    assert "fail_on" in failure.value.traceback
    assert are_ended(ranks.process_ids[1:])


def test_a_death_shows_at_once(start: Callable[..., Slot]) -> None:
    ranks = start("Plain", 2)
    with pytest.raises(RankDied, match="rank 1 of 2: "):
        ranks.call("die_on", 1)
    assert are_ended(ranks.process_ids[1:])


def test_peers_end_with_rank_0(start: Callable[..., Slot]) -> None:
    from ray.exceptions import ActorDiedError

    ranks = start("Plain", 2)
    with pytest.raises(ActorDiedError):
        ranks.call("die_on", 0)
    assert are_ended(ranks.process_ids)


def test_a_death_is_the_cause_of_its_neighbours_error(start: Callable[..., Slot]) -> None:
    with pytest.raises(RankDied, match="rank 1 of 2: "):
        start("Plain", 2).call("die_and_neighbour_fails", 1)


def test_no_answer_in_time(start: Callable[..., Slot]) -> None:
    ranks = start("Unclosable", 1, threads_per_rank=2)
    (environment,) = ranks.call("environment")
    assert (environment["RANK"], environment["WORLD_SIZE"], environment["OMP_NUM_THREADS"]) == ("0", "1", "2")
    with pytest.raises(RankDied, match="no answer to close"):
        ranks.ask("close", 0.5)


def test_a_death_while_idle(start: Callable[..., Slot]) -> None:
    ranks = start("Plain", 2)
    os.kill(ranks.process_ids[1], signal.SIGKILL)
    with pytest.raises(RankDied):
        ranks.call("count")


def test_a_call_tells_on_the_way_where_rank_0_is(start: Callable[..., Slot]) -> None:
    ranks = start("Watched", 2, hang_limit_s=WORK_LIMIT_S)
    words = ranks.ask("words_on_the_way", "work_on", 0, 3600.0)
    assert re.fullmatch("after [1-9][0-9]* \u00b7", words)
    assert are_ended(ranks.process_ids[1:])


@pytest.mark.parametrize("method", ["hang", pytest.param("loop_for_ever", marks=pytest.mark.long)])
def test_ranks_that_hang_say_where(start: Callable[..., Slot], method: str) -> None:
    ranks = start("Watched", 2, hang_limit_s=HANG_LIMIT_S)
    with pytest.raises(RankDied, match=f"no heartbeat of 2 rank\\(s\\) for {HANG_LIMIT_S:g} s") as hung:
        ranks.call(method)
    stack_0, stack_1 = hung.value.log_tail.split("rank 1 of 2:")
    assert f"in {method}" in stack_0 and f"in {method}" in stack_1
    assert are_ended(ranks.process_ids[1:])


@pytest.mark.long
def test_ranks_that_work_for_longer_than_the_limit_are_left_alone(start: Callable[..., Slot]) -> None:
    ranks = start("Watched", 2, hang_limit_s=WORK_LIMIT_S)
    assert ranks.call("work_on", 1, 1.5 * WORK_LIMIT_S) == ["waited", "done"]


@pytest.mark.long
def test_a_rank_that_was_stopped_from_outside_is_told_apart(start: Callable[..., Slot]) -> None:
    ranks = start("Watched", 2, hang_limit_s=HANG_LIMIT_S)
    os.kill(ranks.process_ids[1], signal.SIGSTOP)
    with pytest.raises(RankDied, match=r"rank 1 was stopped from outside \(SIGSTOP\)"):
        ranks.call("hang")
    assert are_ended(ranks.process_ids[1:])
