"""Trials that hang, on real ranks: tried again or given up, with a log that says where, and with the same results."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from results.store.reader import load
from sweeps.run.run_folder import RunFolder
from tests.faults.invariants import differences, processes_of, violations

MODULE = """
import os
import signal
import time
from pathlib import Path

from tailor.extend import CRITERIA, Criterion


def sizes(scoring):
    layers = [member.layer for group in scoring.found for member in group.members]
    return {layer: scoring.state.tensors[f"{layer}.weight"].abs().flatten(1).mean(dim=1) for layer in layers}


def stopped_once(scoring):
    seen = Path(os.environ["STOPPED_ONCE"])
    if os.environ["RANK"] == "1" and not seen.exists():
        seen.touch()
        os.kill(os.getpid(), signal.SIGSTOP)
    return sizes(scoring)


def searched_for_ever(scoring):
    while True:
        sizes(scoring)
        time.sleep(0.05)  # it hangs for the whole limit, and leaves the cores to the other tests


CRITERIA.add("stopped_once", Criterion(compute=stopped_once, source="a test"))
CRITERIA.add("searched_for_ever", Criterion(compute=searched_for_ever, source="a test"))
"""
SPEC = """
name = "hanging"
imports = ["hanging.py"]
[trial]
network = "friedman_mlp"
pruning.linear = true
data = {{ name = "friedman1", train_images = 20 }}
source.epochs = 1
optimisation = {{ epochs = 1, head_epochs = 1 }}
method = {{ name = "prune", criterion = "{criterion}" }}
[resources]
ranks = {ranks}
hang_limit_s = {limit_s}
"""


# As the real command, but for the number of attempts: each one lasts as long as the limit, and one that was stopped
# from outside does not count.
PROGRAM = """
import sys
from pathlib import Path
from results.store.writer import Writer
from sweeps.driver import sweep_state
from sweeps.driver.display import display_for_terminal
from sweeps.driver.driver import SweepSite, run_sweep
from sweeps.planning.plan import make_plan
from sweeps.run.relaunch import start
from sweeps.spec.spec import load_spec
plan = make_plan(load_spec(Path("spec.toml")))
run, lock, _ = start(plan, Path("runs"), extend=False, update_code=False)
sweep_state.MAX_ATTEMPTS = 1
writer = Writer(run.tables)
outcome = run_sweep(
    plan, run, Path("cache"), SweepSite(sys.argv[1]), writer=writer, display=display_for_terminal()
)
sys.exit(outcome.failed)
"""


@dataclass(frozen=True)
class Launch:
    """A sweep of one trial, in a process of its own."""

    folder: Path
    process: subprocess.Popen[str]

    @classmethod
    def begun(cls, folder: Path, site: str, **settings: Any) -> "Launch":
        """Starts it in a folder."""
        folder.mkdir(exist_ok=True)
        (folder / "spec.toml").write_text(SPEC.format(**settings))
        (folder / "hanging.py").write_text(MODULE)
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, site], cwd=folder, env=os.environ | {"STOPPED_ONCE": str(folder / "seen")},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        return cls(folder, process)

    def ended(self, failed: int) -> Path:
        """The folder of its run, once it has ended with so many failed trials."""
        said, _ = self.process.communicate()
        assert self.process.returncode == failed, said
        return self.folder / "runs" / "hanging"


def attempts(run: Path) -> list[dict[str, Any]]:
    with load(run) as tables:
        return tables.rows("SELECT * FROM attempts ORDER BY attempt")


def log_of(run: Path, trial_id: str) -> str:
    """All that the trial's log says."""
    lines = [line for path in RunFolder(run).logs(trial_id) for line in path.read_text().splitlines()]
    return "\n".join(json.loads(line)["text"] for line in lines)


STOPPED_ONCE = {"criterion": "stopped_once", "ranks": 2, "limit_s": 20}
ENDLESS = {"criterion": "searched_for_ever", "ranks": 1, "limit_s": 20}


@pytest.fixture(scope="module")
def launches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Launch]]:
    """All at once, since they hang most of the time; "alone" is not stopped."""
    folder = tmp_path_factory.mktemp("launches")
    (folder / "alone").mkdir()
    (folder / "alone" / "seen").touch()
    begun = {
        "alone": Launch.begun(folder / "alone", "serial", **STOPPED_ONCE),
        "stopped once": Launch.begun(folder / "stopped", "serial", **STOPPED_ONCE),
        "endless": Launch.begun(folder / "endless", "serial", **ENDLESS),
    }
    yield begun
    for launch in begun.values():
        with launch.process:
            launch.process.kill()


@pytest.fixture(scope="module")
def alone(launches: dict[str, Launch]) -> Path:
    """The run of the sweep that was not stopped."""
    return launches["alone"].ended(failed=0)


@pytest.mark.check
def test_a_rank_that_is_stopped_inside_a_stage_is_replaced(launches: dict[str, Launch], alone: Path) -> None:
    run = assert_replaced(launches["stopped once"], alone)
    assert "it cannot print its stacks" in log_of(run, attempts(run)[0]["trial_id"])


@pytest.mark.check
def test_a_step_without_end_is_given_up_and_the_log_says_where_it_was(launches: dict[str, Launch]) -> None:
    assert_given_up(launches["endless"])


@pytest.mark.long
def test_a_rank_on_ray_that_is_stopped_inside_a_stage_is_replaced(tmp_path: Path, alone: Path) -> None:
    assert_replaced(Launch.begun(tmp_path, "local", **STOPPED_ONCE), alone)


@pytest.mark.long
def test_a_step_without_end_on_ray_is_given_up(tmp_path: Path) -> None:
    assert_given_up(Launch.begun(tmp_path, "local", **ENDLESS))


def assert_replaced(launch: Launch, alone: Path) -> Path:
    run = launch.ended(failed=0)
    first, second = attempts(run)
    assert (first["status"], second["status"]) == ("interrupted", "finished")
    assert first["cause"] == "no heartbeat of 2 rank(s) for 20 s: rank 1 was stopped from outside (SIGSTOP)"
    assert differences(run, alone) == []
    assert violations(run, launch.folder / "cache", ended=True) == []
    return run


def assert_given_up(launch: Launch) -> None:
    run = launch.ended(failed=1)
    (told,) = attempts(run)
    assert (told["status"], told["cause"]) == ("died", "no heartbeat of 1 rank(s) for 20 s")
    assert "in searched_for_ever" in told["log_tail"]
    assert "in searched_for_ever" in log_of(run, told["trial_id"])
    assert processes_of(launch.folder) == []
