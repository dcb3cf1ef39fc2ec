"""A sweep on a real SLURM each of whose nodes sees the shared folder by a client of its own, as on NFS.

The clients learn nothing by waiting. So what one node makes is seen by another only if the program asks for it.
"""

import random
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from benchmarks.equality import compare, points_of
from results.store.reader import load
from tests.clients.conftest import client_program
from tests.clients.untrue import unexpected
from tests.slurm.conftest import raised
from tests.slurm.disturbances import Disturber
from tests.slurm.sweep import Sweep, held, make_sweep, until
from tests.slurm.testbed import LOGIN, Testbed

SPEC = """
imports = ["held.py"]
[trial]
source.epochs = 2
optimisation = { epochs = 4, head_epochs = 2, regulariser = "slow" }
[axes]
seed = [0, 1]
[[variants]]
method.name = "fine_tune"
[[variants]]
method = { name = "transtailor", steps = 2 }
[[variants]]
method = { name = "prune", criterion = "waits", asked_removed_macs_fraction = 0.3 }
"""
LIMIT_S = 600.0
LEARNS_NOTHING = tuple(f"{name}=3600" for name in ("acregmin", "acregmax", "acdirmin", "acdirmax"))
seldom = partial(until, every_s=3.0)


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    """Two nodes."""
    yield from raised(
        2, accounting=False, client=client_program(tmp_path_factory.mktemp("client")), client_options=LEARNS_NOTHING
    )


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_sweep_is_stopped_killed_and_cut_off_and_ends_as_a_quiet_one(clients: Testbed, tmp_path: Path) -> None:
    hold = held(tmp_path)
    quiet = make_sweep(clients, tmp_path, "clients", SPEC)
    sweep = make_sweep(clients, clients.shared / "work", "clients", SPEC, controller_min=20, max_jobs=3)
    shutil.copy(tmp_path / "held.py", sweep.folder)
    disturber = Disturber(clients, sweep.run, random.Random(0))
    with (tmp_path / "serial.log").open("w") as log:
        serial = quiet.start_serial(log)
    try:
        launched(sweep)
        runs(sweep)
        assert disturber.stopped()
        until(lambda: sweep.place.outcome and not sweep.place.jobs(), LIMIT_S, "the sweep to stop")
        launched(sweep)
        runs(sweep)
        assert disturber.driver_killed()
        seldom(lambda: events(sweep).count("controller_started") == 3, LIMIT_S, "another driver")
        runs(sweep)
        node = disturber.worker_node_killed()
        assert node is not None
        until(lambda: clients.state_of(node).startswith(("down", "idle*", "unk")), LIMIT_S, f"SLURM to miss {node}")
        clients.start_node(node)
        hold.unlink()
        done = sweep.launch(limit_s=1200)
        assert done.returncode == 0, done.stdout + done.stderr
        assert serial.wait(LIMIT_S) == 0, (tmp_path / "serial.log").read_text()
        with load(sweep.run.path) as ours, load(tmp_path / "serial_runs" / sweep.name) as theirs:
            comparison = compare(points_of(ours), points_of(theirs))
        assert comparison.is_equal, str(comparison)
        assert sorted(sweep.ends().values()) == [1] * 6
        assert not sweep.rows("SELECT * FROM attempts WHERE status = 'died'")
        assert sweep.rows("SELECT * FROM attempts WHERE status = 'interrupted'")
    finally:
        hold.unlink(missing_ok=True)
        sweep.command("stop", str(sweep.run.path), "--now")
        serial.kill()
        serial.wait()
    assert unexpected(line for name in (LOGIN, "node1", "node2") for line in clients.untrue(name)) == []


def launched(sweep: Sweep) -> None:
    done = sweep.launch("--detach")
    assert done.returncode == 0, done.stdout + done.stderr


def runs(sweep: Sweep) -> None:
    """Returns when a trial runs on a node."""
    query = "SELECT * FROM attempts WHERE status = 'running' AND nodes IS NOT NULL"
    seldom(lambda: sweep.rows(query), LIMIT_S, "a trial to run")


def events(sweep: Sweep) -> list[object]:
    return [row["kind"] for row in sweep.rows("SELECT kind FROM events")]
