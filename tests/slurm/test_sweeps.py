"""Sweeps on a real SLURM, by the real command line: undisturbed, across nodes, two at once, stopped."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hpc.slurm.calls import ask
from results.store.reader import load
from tests.slurm.disturbances import folders_of_nodes, left_behind
from tests.slurm.sweep import SMALL, Sweep, held, make_sweep, until
from tests.slurm.testbed import Testbed

WIDE = """
[trial]
source.epochs = 2
optimisation.epochs = 2
optimisation.head_epochs = 2
method = { name = "transtailor", steps = 2 }
[resources]
ranks = 2
placement = "spread"
"""
LONG = """
imports = ["held.py"]
[trial]
source.epochs = 2
data.train_images = 64
optimisation = { epochs = 100_000, regulariser = "slow" }
[axes]
seed = [0, 1, 2, 3]
[[variants]]
method.name = "fine_tune"
"""
TOLD = re.compile(r"seed \d \| node\d \| fine_tune 3/4 \| epoch \d+ of 100000, loss \S+, [\d,]+ images/s \| ")
SERIAL_LIMIT_S = 600.0  # for what takes some seconds where nothing else runs
HOSTILE = """it's "a" $(touch pwned) # é"""


def jobs_of(name: str) -> list[str]:
    """Names of the jobs in the queue that belong to a sweep of that name."""
    rows = ask(["squeue", "--all", "--me", "--noheader", "--format=%j"], r"(.+)")
    return [job for (job,) in rows if job.startswith(f"{name}-")]


def nothing_is_left(sweep: Sweep) -> None:
    """No job, process or temporary folder of a run, soon after it ended; no other runs at that time."""
    until(lambda: not sweep.place.jobs(), 300, "its jobs to end")
    until(lambda: not left_behind(sweep.run.path), 300, "its processes to end")
    assert not list(sweep.run.cluster.glob("tune-*"))
    until(lambda: not folders_of_nodes(), 300, "the nodes' temporary folders to go")


@contextmanager
def serial_beside(sweep: Sweep) -> Iterator[None]:
    """Run the same sweep one trial after the other meanwhile, and wait for its end."""
    log = sweep.folder / "serial.log"
    with log.open("w") as stream:
        serial = sweep.start_serial(stream)
    try:
        yield
        assert serial.wait(SERIAL_LIMIT_S) == 0, log.read_text()
    finally:
        serial.kill()
        serial.wait()


@pytest.fixture(scope="module")
def finished(three_nodes: Testbed, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """A small sweep that ran in a folder with a hostile name, while a long one ran, which has been stopped since."""
    folder = tmp_path_factory.mktemp("sweeps") / HOSTILE
    small = make_sweep(three_nodes, folder, "small", SMALL, max_jobs=3)
    planned = small.launch("--plan")
    assert planned.returncode == 0, planned.stderr
    assert jobs_of("small") == []
    assert not small.run.path.exists()
    long = make_sweep(three_nodes, folder / "other", "long", LONG, max_jobs=3)
    held(long.folder)
    begun = long.launch("--detach")
    assert begun.returncode == 0, begun.stderr
    with serial_beside(small):
        done = small.launch()
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.rstrip().endswith("report.html")
        _watch_and_stop(long)
    return small


def _watch_and_stop(long: Sweep) -> None:
    """Look at a sweep as its user does while it runs, and stop it."""
    until(lambda: long.rows("SELECT * FROM attempts WHERE nodes IS NOT NULL"), 500, "the long sweep to run")
    said = ""

    def stages_tell_where_they_are() -> bool:
        nonlocal said
        said = long.command("status", str(long.run.path)).stdout
        return TOLD.search(said) is not None

    until(stages_tell_where_they_are, 500, "an epoch in status")
    assert "controller  running on node" in said
    assert "attached" in long.launch("--detach").stdout
    stopped = long.command("stop", str(long.run.path))
    assert stopped.returncode == 0, stopped.stderr
    nothing_is_left(long)


def test_the_tables_are_those_of_the_serial_site(finished: Sweep) -> None:
    comparison = finished.beside_serial()
    assert comparison.is_equal, str(comparison)
    assert sorted(finished.ends().values()) == [1] * 3
    assert not list(finished.folder.parent.rglob("pwned"))


def test_nothing_is_left_behind(finished: Sweep) -> None:
    nothing_is_left(finished)


def test_one_of_two_sweeps_at_once_is_stopped(finished: Sweep) -> None:
    with load(finished.folder / "other" / "runs" / "long") as tables:
        attempts = tables.rows("SELECT status, cause FROM attempts")
    assert {row["status"] for row in attempts} <= {"finished", "interrupted"}
    assert "transtailor stop" in str([row["cause"] for row in attempts if row["status"] == "interrupted"])


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
    assert "all 3 trials are finished" in again.stdout
    assert jobs_of("small") == []


def test_a_trial_across_nodes(three_nodes: Testbed, tmp_path: Path) -> None:
    sweep = make_sweep(three_nodes, tmp_path, "wide", WIDE, exclusive="true")  # a worker for each node
    with serial_beside(sweep):
        done = sweep.launch()
    assert done.returncode == 0, done.stdout + done.stderr
    ((nodes,),) = [row.values() for row in sweep.rows("SELECT nodes FROM attempts WHERE status = 'finished'")]
    assert isinstance(nodes, list)
    assert len(set(nodes)) == 2, nodes
    comparison = sweep.beside_serial()
    assert comparison.is_equal, str(comparison)
