"""A sweep on a real SLURM that is disturbed in all ways: each trial ends once, with a quiet run's tables."""

import random
import time
import tomllib
from collections.abc import Iterator

import pytest

from tests.slurm.disturbances import Disturber
from tests.slurm.sweep import Sweep, make_sweep, until
from tests.slurm.testbed import Testbed

SPEC = """
[trial]
source.epochs = 2
optimisation.epochs = 12
optimisation.head_epochs = 4
[axes]
seed = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
[[variants]]
method.name = "fine_tune"
[[variants]]
method = { name = "prune", criterion = "l1", removed_macs_fraction = 0.3 }
[[variants]]
method = { name = "transtailor", steps = 3 }
"""
RECOVERY_LIMIT_S = 300.0
LEFT = ["worker_draining", "worker_ended"]
LOST = ["worker_joined", "worker_lost"]  # a node that leaves may be gone before the driver looks at it again


@pytest.fixture(scope="module")
def disturbed(three_nodes: Testbed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sweep]:
    """A sweep with walltimes of two minutes; while it runs, the tests below disturb it, one after the other."""
    folder = tmp_path_factory.mktemp("disturbed")
    times = {"walltime_min": 2, "drain_before_s": 20, "controller_min": 4}
    sweep = make_sweep(three_nodes, folder, "disturbed", SPEC, partition="preempt", **times)
    assert sweep.launch("--detach").returncode == 0
    yield sweep
    sweep.command("cancel", str(sweep.run.path))


@pytest.mark.parametrize(
    "what",
    [
        "worker_cancelled", "driver_killed", "worker_killed", "controller_warned", "worker_node_killed", "head_killed",
        "worker_node_cut", "worker_preempted", "controller_requeued", "worker_node_drained", "controller_node_killed",
    ],
)  # fmt: skip
def test_the_sweep_goes_on_after(what: str, disturbed: Sweep, three_nodes: Testbed) -> None:
    while not _is_disturbed(what, disturbed, three_nodes):
        _extend(disturbed)


def _is_disturbed(what: str, disturbed: Sweep, three_nodes: Testbed) -> bool:
    """Disturbs the sweep and sees it through; False if the sweep was over before that could be seen."""
    disturber = Disturber(three_nodes, disturbed.run, random.Random(what))
    until(lambda: disturbed.place.outcome or _runs(disturbed), RECOVERY_LIMIT_S, "a trial to run")
    before, joined = disturbed.stages(), _joined(disturbed)
    hit = ""

    def done() -> bool:
        nonlocal hit
        hit = hit or getattr(disturber, what)() or ""
        return bool(hit) or disturbed.place.outcome is not None

    until(done, RECOVERY_LIMIT_S, "something to disturb")
    if not hit:
        return False
    try:
        if not _see_through(what, hit, disturbed, three_nodes, joined):
            return False
        until(
            lambda: disturbed.stages() > before + 1 or disturbed.place.outcome,
            RECOVERY_LIMIT_S,
            f"work after {what} of {hit}",
        )
    finally:
        if what.endswith("_drained"):
            three_nodes.resume(hit)
    return True


@pytest.mark.timeout(1500)  # the launch alone may take 600 s
def test_at_the_end_the_tables_are_those_of_a_quiet_run(disturbed: Sweep) -> None:
    done = disturbed.launch(limit_s=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(disturbed.ends().values()) == [1] * 3 * len(_seeds(disturbed))
    until(lambda: not disturbed.place.jobs(), 60, "its jobs to end")
    comparison = disturbed.like_serial()
    assert comparison.is_equal, str(comparison)
    killed = disturbed.rows("SELECT * FROM attempts WHERE status IN ('died', 'interrupted')")
    assert killed, "something was cut off"


def _seeds(sweep: Sweep) -> list[int]:
    seeds: list[int] = tomllib.loads(sweep.spec.read_text())["axes"]["seed"]
    return seeds


def _extend(sweep: Sweep) -> None:
    """More seeds for a sweep that is over too early for what is to be done to it: some machines are faster."""
    seeds = _seeds(sweep)
    sweep.spec.write_text(sweep.spec.read_text().replace(f"seed = {seeds}", f"seed = {[*range(len(seeds) + 10)]}"))
    # While its job is in the queue a launch attaches to it, and then refuses more seeds.
    until(lambda: sweep.place.controller() is None, RECOVERY_LIMIT_S, "the controller's job to end")
    done = sweep.launch("--detach", "--extend")
    assert done.returncode == 0, done.stdout + done.stderr


def _see_through(what: str, hit: str, sweep: Sweep, testbed: Testbed, joined: int) -> bool:
    """Waits for what has to come of it, and mends what does not mend itself; `joined`: workers that had joined then.

    False if the sweep was over before that.
    """
    if what.endswith("node_killed"):
        until(lambda: testbed.state_of(hit).startswith(("down", "idle*", "unk")), 60, f"SLURM to miss {hit}")
        testbed.start_node(hit)
    if what.endswith("_cut"):
        time.sleep(20.0)  # a cut of this length is what is tested
        testbed.mend(hit)
    if what.endswith("_preempted"):
        job = hit.split()[1]
        heads = _heads(sweep)

        def is_left() -> bool:
            return _events_of(sweep, job)[-1] != "worker_joined" or _heads(sweep) > heads

        until(lambda: sweep.place.outcome or is_left(), 60, f"{hit} to be left")
        if _events_of(sweep, job)[-1] == "worker_joined":  # a head that ends lets its workers go without a word
            return _heads(sweep) > heads
        assert _events_of(sweep, job)[-2:] in (["worker_joined", "worker_draining"], LEFT, LOST)
    if what.endswith("_drained"):
        until(lambda: testbed.state_of(hit) == "drained", 60, f"{hit} to be empty")
        until(lambda: sweep.place.outcome or _joined(sweep) > joined, RECOVERY_LIMIT_S, "another worker elsewhere")
        if _joined(sweep) == joined:
            return False
        assert testbed.state_of(hit) == "drained"
    return True


def _events_of(sweep: Sweep, job: str) -> list[object]:
    """What became of a worker."""
    return [row["kind"] for row in sweep.rows(f"SELECT kind FROM events WHERE job = '{job}' ORDER BY happened_at")]


def _joined(sweep: Sweep) -> int:
    """How many workers have joined so far."""
    return len(sweep.rows("SELECT * FROM events WHERE kind = 'worker_joined'"))


def _heads(sweep: Sweep) -> int:
    """How many heads have started so far."""
    return len(sweep.rows("SELECT * FROM events WHERE kind = 'controller_started'"))


def _runs(sweep: Sweep) -> bool:
    return bool(sweep.rows("SELECT * FROM attempts WHERE status = 'running' AND nodes IS NOT NULL"))
