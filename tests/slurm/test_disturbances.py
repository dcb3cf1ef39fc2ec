"""A sweep or a search on a real SLURM that is disturbed in all ways: each trial ends once, with a quiet run's tables.

It cannot end before the test lets it: in jobs of SLURM, a module of the user's holds its trials for as long as a file
is there. Some train slowly, so that they can be paused and go on from checkpoints; the others wait inside a stage.
"""

import random
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from results.store.reader import load
from tests.slurm.disturbances import Disturber
from tests.slurm.sweep import Sweep, held, make_sweep, until
from tests.slurm.testbed import Testbed

SPEC = """
imports = ["held.py"]
[trial]
source.epochs = 2
optimisation.epochs = 6
optimisation.head_epochs = 2
[axes]
seed = [0, 1, 2]
[[variants]]
method.name = "fine_tune"
optimisation.regulariser = "slow"
[[variants]]
method = { name = "transtailor", steps = 3 }
optimisation.regulariser = "slow"
[[variants]]
method = { name = "prune", criterion = "waits", asked_removed_macs_fraction = 0.3 }
"""
SMALLER = SPEC.replace("seed = [0, 1, 2]", "seed = [0, 1]")
SEARCH = """
imports = ["held.py"]
[trial]
method.name = "fine_tune"
source.epochs = 2
data.train_images = 64
optimisation = { epochs = 6, head_epochs = 4, regulariser = "slow" }
[axes]
seed = [0]
optimisation.learning_rate = [0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512]
[search]
sampler = "tpe"
trials = 9
batch = 3
halving = { eta = 3, epochs = [2] }
[confirm]
top = 1
seeds = 2
"""
SETTLE = """
imports = ["held.py"]
[trial]
method.name = "fine_tune"
source.epochs = 2
data.train_images = 64
optimisation = { epochs = 2, head_epochs = 2, regulariser = "slow" }
[[variants]]
label = "fine_tune"
[[variants]]
label = "more"
optimisation.epochs = 3
[settle]
against = "fine_tune"
matters = 0.02
looks = [6, 7]
"""
LOOKS = "SELECT * EXCLUDE (code_digest, written_at) FROM looks ORDER BY look, comparison"
DECISIONS = "SELECT * EXCLUDE (code_digest, written_at) FROM proposals ORDER BY number"
seldom = partial(until, every_s=3.0)  # for what loads the tables, which takes a while
LIMIT_S = 600.0  # for what takes less than a minute where nothing else runs
LEFT = ["worker_draining", "worker_ended"]
KILLED = [["worker_killed"], ["worker_cancelled"], ["worker_node_killed"]]
FOREIGN = [["worker_killed"], ["head_killed"], ["stopped"]]
MOST = [["worker_node_cut"], ["worker_preempted", "controller_node_killed"]]
ALL = [
    ["worker_cancelled"], ["driver_killed"], ["worker_killed", "worker_preempted"], ["controller_warned"],
    ["worker_node_killed"], ["head_killed"], ["worker_node_cut"], ["controller_requeued"], ["worker_node_drained"],
    ["controller_node_killed"],
]  # fmt: skip


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("rounds", "walltime_min", "bed", "spec", "trials"),
    [
        (MOST, 20, "three_nodes", SMALLER, 6),
        pytest.param(ALL, 3, "three_nodes", SPEC, 9, marks=pytest.mark.long),
        pytest.param(FOREIGN, 20, "foreign", SPEC, 9, marks=pytest.mark.long),
        pytest.param(KILLED, 20, "three_nodes", SEARCH, 3 + 2, marks=pytest.mark.long),
        pytest.param(KILLED, 20, "three_nodes", SETTLE, None, marks=pytest.mark.long),
    ],
    ids=["most", "all", "foreign", "search", "settle"],
)
def test_a_disturbed_sweep_goes_on_and_ends_with_the_tables_of_a_quiet_one(
    rounds: list[list[str]], walltime_min: int, bed: str, spec: str, trials: int | None, tmp_path: Path, request: Any
) -> None:
    testbed: Testbed = request.getfixturevalue(bed)
    tmp_path = testbed.home if testbed.foreign else tmp_path
    hold = held(tmp_path)
    site = {"walltime_min": walltime_min, "drain_before_s": 20, "controller_min": 2 * walltime_min, "max_jobs": 3}
    sweep = make_sweep(testbed, tmp_path, "disturbed", spec, partition="preempt", **site)
    with (tmp_path / "serial.log").open("w") as log:
        serial = sweep.start_serial(log)
    try:
        done = sweep.launch("--detach")
        assert done.returncode == 0, done.stdout + done.stderr
        for kinds in rounds:
            _disturb(kinds, sweep, testbed)
        hold.unlink()
        done = sweep.launch(limit_s=1200)
        assert done.returncode == 0, done.stdout + done.stderr
        ends = sorted(sweep.ends().values())
        assert ends == [1] * (trials or len(ends))  # how many a sweep with [settle] has, its looks decide
        until(lambda: not sweep.place.jobs(), LIMIT_S, "its jobs to end")
        assert serial.wait(LIMIT_S) == 0, (tmp_path / "serial.log").read_text()
        comparison = sweep.beside_serial()
        assert comparison.is_equal, str(comparison)
        if spec in (SEARCH, SETTLE):
            decisions = DECISIONS if spec == SEARCH else LOOKS
            with load(sweep.folder / "serial_runs" / sweep.name) as alone:
                assert sweep.rows(decisions) == alone.rows(decisions) != []
            assert "and no more are added" in sweep.launch().stdout  # no job is submitted for it
        assert sweep.rows("SELECT * FROM attempts WHERE status IN ('died', 'interrupted')"), "something was cut off"
    finally:
        hold.unlink(missing_ok=True)
        sweep.command("stop", str(sweep.run.path), "--now")
        serial.kill()
        serial.wait()


def _disturb(kinds: list[str], sweep: Sweep, testbed: Testbed) -> None:
    """Does all of that to the sweep, mends what does not mend itself, and sees a trial run that began afterwards."""
    seldom(lambda: _running(sweep), LIMIT_S, "a trial to run")
    before, events = _attempts(sweep), _events(sweep)
    hits = {kind: _hit(kind, sweep, testbed) for kind in kinds}
    for kind, hit in hits.items():
        _see_through(kind, hit, sweep, testbed, events)
    seldom(lambda: _running(sweep) - before, LIMIT_S, f"a trial that begins after {hits}")
    assert sweep.place.outcome is None


def _hit(kind: str, sweep: Sweep, testbed: Testbed) -> str:
    """Disturbs the sweep as soon as there is something to disturb; what that was."""
    disturber = Disturber(testbed, sweep.run, random.Random(kind))
    hits: list[str] = []

    def done() -> bool:
        hits.extend(filter(None, [getattr(disturber, kind)()]))
        return bool(hits)

    until(done, LIMIT_S, f"something for {kind}")
    return hits[0]


def _see_through(kind: str, hit: str, sweep: Sweep, testbed: Testbed, before: Counter[str]) -> None:
    """Waits for what has to come of it, and mends what does not mend itself; before: events until then."""

    def came(event: str) -> bool:
        return _events(sweep)[event] > before[event]

    has_new_head = partial(came, "controller_started")  # a head that ends lets its workers go without a word
    if kind.endswith("node_killed"):
        until(lambda: testbed.state_of(hit).startswith(("down", "idle*", "unk")), LIMIT_S, f"SLURM to miss {hit}")
        testbed.start_node(hit)
    if kind.endswith("_cut"):
        seldom(lambda: came("worker_lost") or has_new_head(), LIMIT_S, f"{hit} to be given up")
        testbed.mend(hit)
    if kind.endswith("_preempted"):
        job = hit.split()[1]
        seldom(lambda: _events_of(sweep, job)[-1] != "worker_joined" or has_new_head(), LIMIT_S, f"{hit} to go")
        if not has_new_head():
            assert _events_of(sweep, job)[-2:] in (["worker_joined", "worker_draining"], LEFT)
    if kind == "stopped":
        until(lambda: sweep.place.outcome and not sweep.place.jobs(), LIMIT_S, "the sweep to stop")
        again = sweep.launch("--detach")
        assert again.returncode == 0, again.stdout + again.stderr
    if kind.endswith("_drained"):
        try:
            until(lambda: testbed.state_of(hit) == "drained", LIMIT_S, f"{hit} to be empty")
            seldom(lambda: came("worker_joined"), LIMIT_S, "another worker elsewhere")
            assert testbed.state_of(hit) == "drained"
        finally:
            testbed.resume(hit)


def _events_of(sweep: Sweep, job: str) -> list[object]:
    """What became of a worker."""
    return [row["kind"] for row in sweep.rows(f"SELECT kind FROM events WHERE job = '{job}' ORDER BY happened_at")]


def _events(sweep: Sweep) -> Counter[str]:
    """How often each kind of event has happened so far."""
    return Counter(str(row["kind"]) for row in sweep.rows("SELECT kind FROM events"))


def _attempts(sweep: Sweep, where: str = "true") -> set[tuple[object, ...]]:
    """Trials, and which attempt at them."""
    return {tuple(row.values()) for row in sweep.rows(f"SELECT trial_id, attempt FROM attempts WHERE {where}")}


def _running(sweep: Sweep) -> set[tuple[object, ...]]:
    """Those that run on a node."""
    return _attempts(sweep, "status = 'running' AND nodes IS NOT NULL")
