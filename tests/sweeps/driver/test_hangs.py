"""Trials that hang, on real ranks: tried again or given up, with a log that says where, and with the same results."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from results.store.reader import load
from sweeps.run.run_folder import RunFolder
from tests.faults.invariants import differences, processes_of, violations

ROOT = Path(__file__).resolve().parents[3]
MODULE = """
import os
import signal
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


def launched(folder: Path, site: str, **settings: Any) -> tuple[int, str]:
    """Launches a sweep of one trial in a folder; its exit code and what it printed."""
    folder.mkdir(exist_ok=True)
    (folder / "spec.toml").write_text(SPEC.format(**settings))
    (folder / "hanging.py").write_text(MODULE)
    done = subprocess.run(
        [sys.executable, ROOT / "sweeps" / "launch.py", "spec.toml", "--site", site],
        cwd=folder, env=os.environ | {"STOPPED_ONCE": str(folder / "stopped")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def attempts(run: Path) -> list[dict[str, Any]]:
    with load(run) as tables:
        return tables.rows("SELECT * FROM attempts ORDER BY attempt")


def log_of(run: Path, trial_id: str) -> str:
    """All that the trial's log says."""
    return "\n".join(json.loads(line)["text"] for line in RunFolder(run).log(trial_id).read_text().splitlines())


SITES = ["serial", pytest.param("local", marks=pytest.mark.ray)]


@pytest.mark.slow
@pytest.mark.parametrize("site", SITES)
def test_a_rank_that_is_stopped_inside_a_stage_is_replaced(tmp_path: Path, site: str) -> None:
    asked = {"criterion": "stopped_once", "ranks": 2, "limit_s": 20}
    code, said = launched(tmp_path / "disturbed", site, **asked)
    assert code == 0, said
    run = tmp_path / "disturbed" / "runs" / "hanging"
    first, second = attempts(run)
    assert (first["status"], second["status"]) == ("interrupted", "finished")
    assert first["cause"] == "no sign of life of 2 rank(s) for 20 s: rank 1 was stopped from outside (SIGSTOP)"
    assert "it cannot say where it is" in log_of(run, first["trial_id"]) or site == "local"
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "stopped").touch()
    code, said = launched(tmp_path / "alone", "serial", **asked)
    assert code == 0, said
    assert differences(run, tmp_path / "alone" / "runs" / "hanging") == []
    assert violations(run, tmp_path / "disturbed" / "cache", ended=True) == []


@pytest.mark.slow
@pytest.mark.parametrize("site", SITES)
def test_a_step_without_end_is_given_up_and_the_log_says_where_it_was(tmp_path: Path, site: str) -> None:
    code, said = launched(tmp_path, site, criterion="searched_for_ever", ranks=1, limit_s=20)
    assert code == 1, said
    run = tmp_path / "runs" / "hanging"
    told = attempts(run)
    assert [row["status"] for row in told] == ["died"] * 3
    assert {row["cause"] for row in told} == {"no sign of life of 1 rank(s) for 20 s"}
    assert all("in searched_for_ever" in row["log_tail"] for row in told)
    assert log_of(run, told[0]["trial_id"]).count("in searched_for_ever") >= 3
    assert processes_of(tmp_path) == []
