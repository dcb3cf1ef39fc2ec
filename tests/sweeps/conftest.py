"""What the tests of the command line share: specs on disk, and the real commands, in this process or in their own."""

import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from results.store.writer import Writer
from sweeps.planning.plan import Plan, make_plan
from sweeps.run.relaunch import start
from sweeps.run.run_folder import RunFolder
from sweeps.spec.spec import load_spec
from tests import commands
from tests.once import made_once

Command = Callable[..., subprocess.CompletedProcess[str]]
WriteSpec = Callable[..., Path]
WriteEnds = Callable[..., None]

SMALL_SPEC = """
name = "small"
[axes]
seed = [0, 1]
[[variants]]
method.name = "head_only"
[[variants]]
method.name = "prune"
axes.method.criterion = ["l1", "random"]
"""


TRAINED_SPEC = """
name = "trained"
[trial]
source.epochs = 1
optimisation = { epochs = 1, head_epochs = 1 }
[[variants]]
method = { name = "transtailor", steps = 1, step_removed_macs_fraction = 0.2, alpha_epochs = 1 }
[[variants]]
method.name = "head_only"
"""


@pytest.fixture(scope="session")
def trained_once(request: pytest.FixtureRequest) -> Path:
    """A folder with `trained.toml`, its finished run and its cache; for all to look at, and for nobody to change."""

    def train(folder: Path) -> None:
        (folder / "trained.toml").write_text(TRAINED_SPEC)
        done = commands.launch("trained.toml", "--site", "serial", folder=folder)
        assert done.returncode == 0, done.stdout + done.stderr

    return made_once(request, "trained", train)


@pytest.fixture
def trained(trained_once: Path, tmp_path: Path) -> RunFolder:
    """A copy of that run in the test's folder, beside spec and cache."""
    shutil.copytree(trained_once, tmp_path, dirs_exist_ok=True)
    return RunFolder(tmp_path / "runs" / "trained")


@pytest.fixture
def write_spec(tmp_path: Path) -> WriteSpec:
    """Write a spec (by default one of six trials) below the test's folder; returns its path."""

    def write(text: str = SMALL_SPEC, name: str = "spec.toml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def created_run(plan: Plan, runs: Path) -> RunFolder:
    """The new run of a plan, not launched."""
    run, lock, _ = start(plan, runs, extend=False, update_code=False)
    lock.release()
    return run


@pytest.fixture
def plan(write_spec: WriteSpec) -> Plan:
    """The plan of a small sweep: head_only, prune l1, prune random, each with seeds 0 and 1."""
    return make_plan(load_spec(write_spec()))


@pytest.fixture
def run(plan: Plan, tmp_path: Path) -> RunFolder:
    """Its run, not launched."""
    return created_run(plan, tmp_path / "runs")


@pytest.fixture
def launch(tmp_path: Path) -> Command:
    """Run `python sweeps/launch.py ...` in the test's folder."""
    return partial(commands.launch, folder=tmp_path)


@pytest.fixture
def sweeps_command(tmp_path: Path) -> Command:
    """Run `transtailor ...` in the test's folder."""
    return partial(commands.transtailor_command, folder=tmp_path)


@pytest.fixture
def launch_process(tmp_path: Path) -> Command:
    """Run `python sweeps/launch.py ...` in the test's folder, in a process of its own."""
    return partial(commands.in_own_process, commands.LAUNCH, folder=tmp_path)


@pytest.fixture
def sweeps_process(tmp_path: Path) -> Command:
    """Run `transtailor ...` in the test's folder, in a process of its own."""
    return partial(commands.in_own_process, "-m", "transtailor", folder=tmp_path)


def ends_written(run: RunFolder, trial_ids: list[str], status: str = "finished", error: str | None = None) -> None:
    """Write rows that say how trials ended, as the driver does."""
    now = datetime.now(UTC)
    ends = {"status": status, "attempts": 1, "started_at": now, "ended_at": now, "seconds": 1.0, "error": error}
    rows = [{"trial_id": trial_id, **ends, "code_digest": "0" * 64} for trial_id in trial_ids]
    Writer(run.tables).write("trials", rows)


@pytest.fixture
def write_ends() -> Callable[..., None]:
    """That function."""
    return ends_written
