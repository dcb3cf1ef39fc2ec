"""Real sweeps by the real command line: serial == Ray, shared == not shared, killed and relaunched == undisturbed."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from results.store.reader import load
from tests import commands
from tests.faults.invariants import count_stages

SPEC = """
name = "small"
[trial]
source = { epochs = 1 }
data = { train_images = 64 }
optimisation = { epochs = 2, head_epochs = 2 }
[axes]
network = ["digits_vgg"]
[[variants]]
method = { name = "transtailor", steps = 2, alpha_epochs = 1 }
[[variants]]
method.name = "fine_tune"
[[variants]]
method.name = "prune"
axes.method.criterion = ["l1", "random"]
[[variants]]
label = "today's recipe"
method.name = "fine_tune"
[variants.optimisation]
optimiser = "adamw"
layer_decay = 0.7
class_weights = "balanced"
mixup = 0.8
cutmix = 1.0
random_erasing = 0.5
[resources]
ranks = 2
"""
TRIALS = 5
# What may differ between two runs of the same sweep: when, where, how long, and which trial computed a stage.
MAY_DIFFER = {
    "planned": ["written_at", "sweep"],
    "stages": ["written_at", "compute_s", "cached"],
    "epochs": ["written_at", "seconds"],
    "layers": ["written_at"],
    "kept_filters": ["written_at"],
    "operating_points": ["written_at", "sweep"],
    "predictions": ["written_at"],
    "test_scores": ["written_at"],
}


@dataclass(frozen=True)
class Sweep:
    """A folder with a spec, a run of it and its cache."""

    folder: Path

    @property
    def run(self) -> Path:
        return self.folder / "runs" / "small"

    def launch(self, *options: str) -> str:
        """Launches it in this process; what it prints."""
        done = commands.launch(*self._arguments(), *options, folder=self.folder)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self, *options: str) -> subprocess.Popen[bytes]:
        """Launches it in a process and a group of its own, by default on Ray; what they print is appended to `log`."""
        command = [sys.executable, str(commands.LAUNCH), *self._arguments(), *options]
        with self.log.open("a") as log:
            return subprocess.Popen(
                command, cwd=self.folder, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def start_and_kill(self, after: int, *options: str) -> None:
        """Launches it in a process group of its own, and ends that by SIGKILL once so many stages are stored."""
        process = self.start(*options)
        while self.stages < after:
            assert process.poll() is None, self.log.read_text()
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, self.log.read_text()

    @property
    def stages(self) -> int:
        """How many stages are stored."""
        return count_stages(self.folder / "cache")

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def _arguments(self) -> list[str]:
        spec = self.folder / "spec.toml"
        spec.write_text(SPEC)
        return [str(spec), "--runs", str(self.folder / "runs"), "--cache", str(self.folder / "cache")]


def tables_of(run: Path) -> dict[str, list[dict[str, Any]]]:
    """All rows that must not depend on the course of the sweep, each exactly once."""
    rows = {}
    with load(run) as tables:
        for table, columns in MAY_DIFFER.items():
            rows[table] = tables.rows(f"SELECT * EXCLUDE ({', '.join(columns)}) FROM {table} ORDER BY ALL")
        rows["trials"] = tables.rows("SELECT trial_id, status FROM trials ORDER BY ALL")
    return rows


def assert_equal(expected: dict[str, list[dict[str, Any]]], found: dict[str, list[dict[str, Any]]]) -> None:
    for table in expected:
        assert len(found[table]) == len(expected[table]), table
        assert found[table] == expected[table], table


def seeded_moments() -> random.Random:
    """Random moments to kill at; pytest shows the seed when the test fails, to repeat the kills."""
    seed = random.randrange(10**6)
    print(f"seed {seed}")  # noqa: T201
    return random.Random(seed)  # noqa: S311


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """The obvious reference: one trial after the other, without Ray."""
    sweep = Sweep(tmp_path_factory.mktemp("serial"))
    sweep.launch("--site", "serial")
    return sweep


def test_every_trial_has_its_rows(serial: Sweep) -> None:
    tables = tables_of(serial.run)
    assert [row["status"] for row in tables["trials"]] == ["finished"] * TRIALS
    assert Counter(row["label"] for row in tables["operating_points"]) == {
        "head_only": 1, "transtailor": 2, "fine_tune": 1, "prune l1": 1, "prune random": 1,
        "today's recipe": 1,
    }  # fmt: skip
    assert len(tables["predictions"]) == 7 * (896 - 64)
    assert len({row["stage_key"] for row in tables["stages"]}) < len(tables["stages"])  # stages are shared


def test_a_finished_sweep_says_so(serial: Sweep) -> None:
    before = tables_of(serial.run)
    text = serial.launch("--site", "serial")
    assert f"all {TRIALS} trials are finished" in text.lower()
    assert text.splitlines()[-1] == str(serial.run / "report.html")
    assert_equal(before, tables_of(serial.run))


@pytest.mark.check
def test_without_sharing_the_results_are_equal(serial: Sweep, tmp_path: Path) -> None:
    alone = Sweep(tmp_path)
    alone.launch("--site", "serial", "--no-sharing")
    columns = "stage_key, macs, validation_loss, validation_score"
    query = f"SELECT DISTINCT {columns} FROM operating_points ORDER BY ALL"
    with load(serial.run) as shared, load(tmp_path / "runs" / "small_no_sharing") as separate:
        assert separate.rows(query) == shared.rows(query)
        (computed,) = separate.rows(
            "SELECT count(*) AS n, count(DISTINCT stage_key) AS d, sum(cached::INT) c FROM stages"
        )
    assert computed["n"] > computed["d"]  # every trial computed its stages from the start
    assert computed["c"] == 0
    assert not list((tmp_path / "runs").rglob("private_cache"))


@pytest.mark.check
def test_killed_at_a_random_moment_and_continued_it_equals_the_undisturbed_one(serial: Sweep, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path)
    sweep.start_and_kill(seeded_moments().randrange(1, serial.stages), "--site", "serial")
    sweep.launch("--site", "serial")
    assert_equal(tables_of(serial.run), tables_of(sweep.run))


@pytest.mark.check
@pytest.mark.timeout(3000)
@pytest.mark.parametrize(
    "kills", [1, pytest.param(0, marks=pytest.mark.long), pytest.param(10, marks=pytest.mark.long)]
)
def test_on_ray_and_killed_at_random_moments_it_equals_the_undisturbed_serial_one(
    serial: Sweep, tmp_path: Path, kills: int
) -> None:
    """Each kill some stages further on."""
    sweep, moments = Sweep(tmp_path), seeded_moments()
    for after in sorted(moments.randrange(serial.stages) for _ in range(kills)):
        sweep.start_and_kill(after)
    assert sweep.start().wait() == 0, sweep.log.read_text()
    assert sweep.log.read_text().splitlines()[-1] == str(sweep.run / "report.html")
    assert (sweep.run / "report.html").stat().st_size > 10_000
    assert_equal(tables_of(serial.run), tables_of(sweep.run))
