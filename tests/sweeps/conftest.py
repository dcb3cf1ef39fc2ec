"""What the tests of the command line share: specs on disk, and the real commands, in this process or in their own."""

import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from results.store.writer import Writer
from sweeps.run.run_folder import RunFolder
from tests import commands

Command = Callable[..., subprocess.CompletedProcess[str]]

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


@pytest.fixture
def write_spec(tmp_path: Path) -> Callable[..., Path]:
    """Write a spec (by default one of six trials) below the test's folder; returns its path."""

    def write(text: str = SMALL_SPEC, name: str = "spec.toml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


@pytest.fixture
def launch(tmp_path: Path) -> Command:
    """Run `python sweeps/launch.py ...` in the test's folder."""
    return partial(commands.launch, folder=tmp_path)


@pytest.fixture
def sweeps_command(tmp_path: Path) -> Command:
    """Run `python -m sweeps ...` in the test's folder."""
    return partial(commands.sweeps_command, folder=tmp_path)


@pytest.fixture
def launch_process(tmp_path: Path) -> Command:
    """Run `python sweeps/launch.py ...` in the test's folder, in a process of its own."""
    return partial(commands.in_own_process, commands.LAUNCH, folder=tmp_path)


@pytest.fixture
def sweeps_process(tmp_path: Path) -> Command:
    """Run `python -m sweeps ...` in the test's folder, in a process of its own."""
    return partial(commands.in_own_process, "-m", "sweeps", folder=tmp_path)


@pytest.fixture
def write_ends() -> Callable[..., None]:
    """Write rows that say how trials ended, as the driver does."""

    def write(run: RunFolder, trial_ids: list[str], status: str = "finished", error: str | None = None) -> None:
        now = datetime.now(UTC)
        ends = {"status": status, "attempts": 1, "started_at": now, "ended_at": now, "seconds": 1.0, "error": error}
        rows = [{"trial_id": trial_id, **ends, "code_digest": "0" * 64} for trial_id in trial_ids]
        Writer(run.tables).write("trials", rows)

    return write

