"""Sweeps on a real SLURM, by the real command line: undisturbed, across nodes, two at once, stopped."""

import json
from pathlib import Path

import pytest

from hpc.slurm.jobs import queue
from tests.slurm.disturbances import folders_of_nodes, left_behind
from tests.slurm.sweep import SMALL, Sweep, make_sweep, until
from tests.slurm.testbed import Testbed

LONG = """
[trial]
source.epochs = 2
optimisation.epochs = 100_000
[axes]
seed = [0, 1, 2, 3]
[[variants]]
method.name = "fine_tune"
"""
HOSTILE = """it's "a" $(touch pwned) # é"""


def jobs_of(name: str) -> list[str]:
    """Names of the jobs in the queue that belong to a sweep of that name."""
    return [job.name for job in queue() if job.name.startswith(f"{name}-")]


def nothing_is_left(sweep: Sweep) -> None:
    """No job, process or temporary folder of a run, soon after it ended; no other runs at that time."""
    until(lambda: not sweep.place.jobs(), 60, "its jobs to end")
    until(lambda: not left_behind(sweep.run.path), 60, "its processes to end")
    assert not list(sweep.run.cluster.glob("tune-*"))
    until(lambda: not folders_of_nodes(), 30, "the nodes' temporary folders to go")


@pytest.fixture(scope="module")
def finished(three_nodes: Testbed, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """A small sweep that ran in a folder with a hostile name."""
    sweep = make_sweep(three_nodes, tmp_path_factory.mktemp("sweeps") / HOSTILE, "small", SMALL)
    planned = sweep.launch("--plan")
    assert planned.returncode == 0, planned.stderr
    assert jobs_of("small") == []
    assert not sweep.run.path.exists()
    done = sweep.launch()
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.rstrip().endswith("report.html")
    return sweep


def test_the_tables_are_those_of_the_serial_site(finished: Sweep) -> None:
    comparison = finished.like_serial()
    assert comparison.is_equal, str(comparison)
    assert sorted(finished.ends().values()) == [1] * 6
    assert not list(finished.folder.parent.rglob("pwned"))


def test_nothing_is_left_behind(finished: Sweep) -> None:
    nothing_is_left(finished)


def test_secrets_are_the_users_alone(finished: Sweep) -> None:
    cluster = finished.run.cluster
    assert cluster.stat().st_mode & 0o777 == 0o700
    assert (cluster / "token").stat().st_mode & 0o777 == 0o600
    secret = (cluster / "token").read_text()
    logs = [path for path in (cluster / "logs").rglob("*") if path.is_file()]  # a node that failed has a folder of them
    assert not [path for path in logs if secret in path.read_text(errors="replace")]


def test_what_ran_is_the_runs_own_copy_of_the_code(finished: Sweep) -> None:
    digest = json.loads(finished.run.provenance.read_text())["code_digest"]
    (text,) = [
        path.read_text()
        for path in (finished.run.cluster / "logs").glob("*.sh")
        if "hpc.cluster.head" in path.read_text()
    ]
    assert f"code/{digest[:12]}" in text
    places = finished.rows("SELECT DISTINCT detail FROM events WHERE kind = 'controller_started'")
    assert all(str(finished.run.code) in str(row["detail"]) for row in places)


def test_launched_again_it_has_nothing_to_do(finished: Sweep) -> None:
    again = finished.launch()
    assert again.returncode == 0, again.stderr
    assert "all 6 trials are finished" in again.stdout
    assert jobs_of("small") == []


def test_a_trial_across_nodes(three_nodes: Testbed, tmp_path: Path) -> None:
    spec = SMALL + '\n[resources]\nranks = 2\nplacement = "spread"\n'
    sweep = make_sweep(three_nodes, tmp_path, "wide", spec, exclusive="true")  # a worker for each node
    done = sweep.launch("--set", "axes.seed=[0]")
    assert done.returncode == 0, done.stdout + done.stderr
    nodes = [row["nodes"] for row in sweep.rows("SELECT nodes FROM attempts WHERE status = 'finished'")]
    assert any(len(set(names)) == 2 for names in nodes if isinstance(names, list)), nodes
    comparison = sweep.like_serial("--set", "axes.seed=[0]")
    assert comparison.is_equal, str(comparison)


def test_two_sweeps_at_once_of_which_one_is_stopped(three_nodes: Testbed, tmp_path: Path) -> None:
    long, small = (
        make_sweep(three_nodes, tmp_path, "long", LONG, max_jobs=3),
        make_sweep(three_nodes, tmp_path, "small", SMALL, max_jobs=3),
    )
    assert long.launch("--detach").returncode == 0
    assert small.launch("--detach").returncode == 0
    until(lambda: small.place.outcome is not None, 400, "the small sweep to end")
    assert small.place.outcome is not None
    assert small.place.outcome.code == 0
    until(lambda: long.rows("SELECT * FROM attempts WHERE nodes IS NOT NULL"), 120, "the long sweep to run")
    status = long.command("status", str(long.run.path)).stdout
    assert "controller  running on node" in status
    attached = long.launch("--detach")
    assert "attached" in attached.stdout
    stopped = long.command("stop", str(long.run.path))
    assert stopped.returncode == 0, stopped.stderr
    for sweep in (small, long):
        nothing_is_left(sweep)
    assert {row["status"] for row in long.rows("SELECT status FROM attempts")} <= {"finished", "interrupted"}
    assert "the file stop" in str(long.rows("SELECT cause FROM attempts WHERE status = 'interrupted'"))
