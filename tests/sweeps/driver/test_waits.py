"""A sweep in which nothing runs: a stop and the end of its place are noticed, and what cannot start fails in words."""

import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pytest

from hpc.errors import ClusterError
from hpc.ray.local import local_ray
from hpc.ray.node import last_errors
from hpc.ray.orphan_cleanup import folder_for_ray
from results.store.reader import load
from sweeps.driver import sweep_state, tune_site
from sweeps.driver.driver import SweepOutcome
from sweeps.driver.tune_site import RayPool
from sweeps.planning.plan import Plan
from sweeps.run.run_folder import RunFolder
from sweeps.worker.tune_slot import wait_for_any
from tailor.execution.cache import Cache
from tests.sweeps.fake_plan import Recorder, key_of, make_run, plan_of, sweep_of_fakes, trial

pytestmark = pytest.mark.check
LOOKS = 40  # of Tune's loop: it makes one a second where nothing runs, and used to make 600 before it heard of a stop


class Pool(RayPool):
    """Slots on a Ray that is there, as many as a test says; `on_look` is called with the number of the look."""

    comes_and_goes = False
    most_slots = 1

    def __init__(self, folder: Path, slots: int, on_look: Callable[[int], None]) -> None:
        self.storage, self._slots, self._on_look = folder / "tune", slots, on_look
        self._folder_of_ray = folder_for_ray(folder)
        self.looks = 0

    @property
    def slots(self) -> int:
        return self._slots

    def lose_slots(self, left: int) -> None:
        self._slots = left

    def check(self) -> None:
        self.looks += 1
        self._on_look(self.looks)

    def waits_for(self) -> str | None:
        return None if self.slots else "the moon"

    def last_errors(self) -> str:
        return last_errors(self._folder_of_ray)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment whose path has a space and a quote."""
    link = tmp_path_factory.mktemp("an o'dd place") / "environment"
    link.symlink_to(sys.prefix)
    return link


@pytest.fixture(scope="module")
def ray_folder(python: Path) -> Iterator[Path]:
    """A Ray on one CPU, started from there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", str(python / "bin" / Path(sys.executable).name))
        with local_ray(1) as folder:
            yield folder


def swept(
    folder: Path,
    place: Pool,
    plan: Plan,
    display: Recorder,
    stop: Path | None = None,
    max_disk_gb: float | None = None,
) -> SweepOutcome:
    run, open_pool = make_run(plan, folder), partial(nullcontext, place)
    return sweep_of_fakes(
        plan, run, folder / "cache",
        display=display, site="local", open_pool=open_pool, stop_file=stop, max_disk_gb=max_disk_gb,
    )  # fmt: skip


def events(folder: Path) -> list[tuple[str, str | None]]:
    with load(RunFolder(folder / "runs" / "fake").path) as tables:
        return [(row["kind"], row["detail"]) for row in tables.rows("SELECT kind, detail FROM events ORDER BY number")]


def test_a_stop_is_noticed_while_no_trial_is_live(
    tmp_path: Path, ray_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_state, "WAIT_NOTED_AFTER_S", 0.0)
    stop, display = tmp_path / "stop", Recorder()
    place = Pool(ray_folder, 0, lambda look: stop.touch() if look == 4 else None)
    outcome = swept(tmp_path, place, plan_of([trial("t", ["s"])]), display, stop)
    assert (outcome.interrupted, outcome.finished) == (True, 0)
    assert place.looks < LOOKS
    assert events(tmp_path) == [
        ("waiting", "the moon"),
        ("stopping", "transtailor stop"),
        ("stopped", "interrupted"),
    ]
    assert display.notes == ["waiting for the moon", "stopping: asked by transtailor stop"]
    assert any(progress.state.startswith("waiting for the moon, for ") for progress in display.states)
    assert display.states[-1].state == "stopping: asked by transtailor stop"


def test_a_held_slot_looks_at_the_shared_folder_more_and_more_rarely(tmp_path: Path) -> None:
    looks = 0

    class Counting(Cache):
        def has(self, key: str) -> bool:
            nonlocal looks
            looks += 1
            return super().has(key)

    assert wait_for_any(Counting(tmp_path), [key_of("s")], 2.0) == ()
    assert 1 < looks < 25  # at even distances of POLL_S they would be 40; on a busy machine there are fewer


def test_a_stop_is_noticed_while_the_disk_has_no_room(tmp_path: Path, ray_folder: Path) -> None:
    stop, display = tmp_path / "stop", Recorder()
    place = Pool(ray_folder, 1, lambda look: stop.touch() if look == 4 else None)
    more = Cache(tmp_path / "cache").path(64 * "0")
    more.parent.mkdir(parents=True)
    more.write_bytes(bytes(2_000_000))
    outcome = swept(tmp_path, place, plan_of([trial("t", ["s"])]), display, stop, max_disk_gb=0.001)
    assert (outcome.interrupted, outcome.finished) == (True, 0)
    assert place.looks < LOOKS
    assert [kind for kind, _ in events(tmp_path)] == ["paused", "stopping", "stopped"]


def test_how_far_a_stage_is_comes_through_tune_while_the_stage_goes_on(tmp_path: Path, ray_folder: Path) -> None:
    display, told = Recorder(), (socket.gethostname(), "epoch 7 of 25")
    key = key_of("seen")
    seen = Cache(tmp_path / "cache").path(key)  # the trial's own stage ends with it

    def running() -> list[tuple[str, str]]:
        """Node and words of the running trial, again and again."""
        return [(trial.node, trial.words) for progress in display.states for trial in progress.running]

    def see(_look: int) -> None:
        if told in running():
            seen.parent.mkdir(parents=True, exist_ok=True)
            seen.touch()

    plan = plan_of([trial("t", [{"name": "s", "seconds": 3600.0, "until": key, "words": "epoch 7 of 25"}])])
    outcome = swept(tmp_path, Pool(ray_folder, 1, see), plan, display)
    assert (outcome.finished, outcome.stages_computed) == (1, 1)
    steps = [step for step in dict.fromkeys(running()) if step[1]]
    assert steps == [("", "starting"), (told[0], "starting"), told]


def test_a_trial_whose_slot_is_lost_before_it_starts_waits_again(tmp_path: Path, ray_folder: Path) -> None:
    """A place of two slots, of which the second one is lost before a process is there."""
    display, key = Recorder(), key_of("seen")
    seen = Cache(tmp_path / "cache").path(key)
    counted: list[tuple[int, int]] = []

    def lose(look: int) -> None:
        counted[:] = [(progress.counts.running, progress.counts.waiting) for progress in display.states]
        if (2, 0) in counted:
            place.lose_slots(1)
        if ((2, 0) in counted and counted[-1] == (1, 1)) or look > LOOKS:
            seen.parent.mkdir(parents=True, exist_ok=True)
            seen.touch()

    place = Pool(ray_folder, 2, lose)
    plan = plan_of([trial(name, [{"name": name, "seconds": 3600.0, "until": key}]) for name in "ab"])
    assert swept(tmp_path, place, plan, display).finished == 2
    assert (1, 1) in counted[counted.index((2, 0)) :]
    with load(tmp_path / "runs" / "fake") as tables:
        rows = tables.rows("SELECT status, cause FROM attempts WHERE status <> 'finished'")
    assert rows == [{"status": "interrupted", "cause": tune_site.WORKER_LOST}]


def test_the_end_of_the_place_is_noticed_while_no_trial_is_live(tmp_path: Path, ray_folder: Path) -> None:
    def spent(look: int) -> None:
        if look == 2:
            raise ClusterError("the hours are spent")

    place = Pool(ray_folder, 0, spent)
    with pytest.raises(ClusterError, match="the hours are spent"):
        swept(tmp_path, place, plan_of([trial("t", ["s"])]), Recorder())
    assert place.looks < LOOKS


def test_trials_run_in_an_environment_with_an_odd_path_and_fail_in_words_once_it_is_gone(
    tmp_path: Path, ray_folder: Path, python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Pool(ray_folder, 1, lambda _: None)
    assert swept(tmp_path, place, plan_of([trial("t", ["s"])]), Recorder()).finished == 1
    monkeypatch.setattr(tune_site, "START_LIMIT_S", 3.0)
    without, display = tmp_path / "without", Recorder()
    python.unlink()
    try:
        outcome = swept(without, place, plan_of([trial("t", ["s"])]), display)
    finally:
        python.symlink_to(sys.prefix)  # for the other tests on this Ray
    assert (outcome.failed, outcome.interrupted) == (1, False)
    with load(without / "runs" / "fake") as tables:
        attempts = tables.rows("SELECT status, cause, log_tail FROM attempts ORDER BY attempt")
    cause = "no process of the trial started within 3 s of a free slot"
    assert [(row["status"], row["cause"]) for row in attempts] == [("died", cause)] * 3
    assert all(row["log_tail"] for row in attempts)
    assert len(display.notes) == 3


class Losing(Pool):
    """A place that says about each death, after a few looks, whether the trial's node had died, too."""

    def __init__(self, folder: Path, says: bool | None) -> None:
        super().__init__(folder, 1, lambda _: None)
        self._says, self._asked = says, 0
        self.node_death_s = 0.0 if says is None else 1.5

    def has_lost(self, nodes: tuple[str, ...]) -> bool | None:  # noqa: ARG002  # the interface
        self._asked += 1
        return self._says if self._asked % 2 == 0 or self._says is None else False


@pytest.mark.parametrize(
    ("says", "deaths", "statuses"),
    [
        (True, 4, ["interrupted"] * 4 + ["finished"]),
        (False, 99, ["died"] * 3),
        (None, 99, ["interrupted"] * sweep_state.MOST_UNKNOWN_ENDS + ["died"] * 3),
    ],
)
def test_a_death_counts_once_it_is_known_that_no_node_died(
    tmp_path: Path, ray_folder: Path, says: bool | None, deaths: int, statuses: list[str]
) -> None:
    """Three power cuts in a row would fail a trial if it counted each before Ray has named the node."""
    plan = plan_of([trial("t", [{"name": "s", "deaths": deaths}])])
    outcome = swept(tmp_path, Losing(ray_folder, says), plan, Recorder())
    assert outcome.finished == (statuses[-1] == "finished")
    with load(tmp_path / "runs" / "fake") as tables:
        rows = tables.rows("SELECT status, cause FROM attempts ORDER BY attempt")
    assert [row["status"] for row in rows] == statuses
    assert (rows[0]["cause"] == tune_site.WORKER_LOST) == bool(says)
