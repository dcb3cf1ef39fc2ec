"""`transtailor status`, on runs whose rows are written by hand."""

import json
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hpc.sites.site import Site
from results.report.page import page_of
from results.store.reader import load
from results.store.writer import Writer
from sweeps.driver.events import EventLog
from sweeps.driver.progress_file import ProgressFile
from sweeps.planning.plan import Plan, PlannedTrial, make_plan
from sweeps.run.run_folder import RunFolder
from sweeps.run.run_lock import RunLock
from sweeps.slurm.cluster_run import ClusterRun, Submission
from sweeps.spec.spec import load_spec
from tests.commands import transtailor_command
from tests.hpc.fakes.commands import FakeSlurm
from tests.sweeps.at_once import AtOnce
from tests.sweeps.conftest import SMALL_SPEC, Command, WriteEnds, WriteSpec, created_run
from tests.sweeps.fake_plan import PROGRESS, Recorder


def write_point(run: RunFolder, trial: PlannedTrial, accuracy: float, removed: float) -> None:
    """One operating point of a trial."""
    row = {
        "sweep": "small", "trial_id": trial.trial_id, "point": 0, "label": trial.label, "arm": trial.arm, "method": "m",
        "network": "digits_vgg", "dataset": "digits", "train_images": 200, "seed": trial.settings.seed,
        "stage_key": f"{trial.trial_id} {removed}",
        "model_key": "1" * 64, "protocol": "validation", "asked_removed_macs_fraction": removed,
        "removed_macs_fraction": removed, "macs": int(1000 * (1 - removed)), "original_macs": 1000, "params": 10,
        "trained_epochs": 1, "trained_macs": 1.0, "validation_loss": 0.1, "validation_images": 100,
        "metric": "accuracy", "validation_score": accuracy, "deciding_score": accuracy, "code_digest": "0" * 64,
    }  # fmt: skip
    Writer(run.tables).write("operating_points", [row])


def write_running(run: RunFolder, trial: PlannedTrial) -> None:
    """The start of an attempt, five hours ago."""
    started = datetime.now(UTC) - timedelta(hours=5)
    row = {
        "trial_id": trial.trial_id, "attempt": 1, "driver": "d", "status": "running", "cause": None, "log_tail": None,
        "host": "h", "started_at": started, "ended_at": None, "code_digest": "0" * 64,
    }  # fmt: skip
    Writer(run.tables).write("attempts", [row])


def test_what_the_plan_warned_of_is_said_with_the_results(
    sweeps_command: Command, plan: Plan, tmp_path: Path, write_ends: WriteEnds
) -> None:
    run = created_run(replace(plan, warnings=("no training image of 'owl'",)), tmp_path / "runs")
    record = json.loads(run.provenance.read_text())
    record["history"].insert(0, {**record["history"][0], "warnings": []})
    record["history"][1]["options"] = {"again": ["3f2a"]}  # its plan is that of the whole run, too
    run.provenance.write_text(json.dumps(record))
    write_ends(run, [plan.trials[0].trial_id])
    assert "warning   no training image of 'owl'\n" in sweeps_command("status", run.path).stdout
    with load(run.path) as rows:
        assert "The plan warned: no training image of 'owl'." in page_of(rows).warnings


def test_status_says_how_to_list_the_failures_that_it_does_not_show(
    sweeps_command: Command, write_spec: WriteSpec, write_ends: WriteEnds, tmp_path: Path
) -> None:
    path = write_spec(SMALL_SPEC.replace("seed = [0, 1]", "seed = [0, 1, 2, 3]"))
    plan = make_plan(load_spec(path))
    run = created_run(plan, tmp_path / "runs")
    failed = [trial.trial_id for trial in plan.trials]
    write_ends(run, failed, "failed", "no")
    shown = sweeps_command("status", "runs/small").stdout
    more = re.search(r"and 2 more failed trials; to list all: (.*)", shown)
    assert more is not None
    program, *words = shlex.split(more[1])
    assert program.endswith("transtailor")
    listed = transtailor_command(*words, folder=tmp_path).stdout
    assert all(trial_id in listed for trial_id in failed)


def test_status_on_slurm_before_the_controller_begins(
    sweeps_command: Command, run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = ClusterRun(run).folder
    folder.make(Site(cpus_per_node=2, walltime_min=60), run.name)
    run.submission.write_text(Submission(cache=tmp_path / "cache").to_json())
    controller = folder.controller_name
    slurm = FakeSlurm(tmp_path, monkeypatch)
    slurm.says("squeue", f"7|PENDING|N/A||Priority|{controller}\n")
    first, *others = sweeps_command("status", "runs/small").stdout.splitlines()
    assert (
        "runs/small: was not submitted to SLURM; if that refuses the site, change it, or give another --site; " in first
    )
    (job,) = (text for text in others if text.startswith("job "))
    waits = "job       7  controller  pending: jobs with a higher priority are first"
    assert job == waits
    folder.logs.mkdir(exist_ok=True)
    (folder.logs / "7_0_log.out").write_text("job 7 is queued again: make room there\n")
    assert (
        f"{waits}; before, it said: job 7 is queued again: make room there\n"
        in sweeps_command("status", "runs/small").stdout
    )
    (folder.logs / "7_0_log.out").write_text("check the version of grpcio\n")  # what a killed Ray guesses
    slurm.says("sacct", "7|PREEMPTED|0:0\n7|PENDING|0:0\n")
    assert f"{waits}; before, it ended: PREEMPTED\n" in sweeps_command("status", "runs/small").stdout
    run.submission.write_text(Submission(cache=tmp_path / "cache", job="7").to_json())
    slurm.says("squeue", "7|PENDING|Priority\n", f"7|PENDING|N/A||Priority|{controller}\n")
    begins = "launched on SLURM; its controller has not begun yet; if no job is listed below, type"
    assert begins in sweeps_command("status", "runs/small").stdout


def test_status_says_what_a_run_waits_for_and_what_was_refused(sweeps_command: Command, run: RunFolder) -> None:
    tables = AtOnce(run.tables)
    log = EventLog(tables, "d", "0" * 64, print)
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    old = {"driver": "d", "number": 99, "kind": "worker_refused", "happened_at": long_ago, "code_digest": "0" * 64}
    tables.add("events", [old | {"detail": "the queue cannot be read: no answer"}])
    refused, waiting = "refused   sbatch: error: QOSMaxSubmit, ", "waiting   SLURM to take a worker, for "
    with RunLock(run.lock) as lock:
        for kind, detail, expected in (
            ("controller_started", None, []),
            ("worker_refused", "sbatch: error: QOSMaxSubmit", [refused]),
            ("waiting", "SLURM to take a worker", [waiting, refused]),
            ("worker_submitted", None, [waiting]),
            ("worker_joined", None, []),
            ("paused", "0.10 GB are left", ["paused    0.10 GB are left, for "]),
            ("resumed", None, []),
            ("stopping", "SIGTERM", ["stopping  SIGTERM, for "]),
        ):
            log(kind, detail=detail)
            said = sweeps_command("status", "runs/small").stdout.splitlines()
            told = [text for text in said if text.startswith(("refused", "waiting", "paused", "stopping"))]
            assert len(told) == len(expected)
            assert all(text.startswith(begin) for text, begin in zip(told, expected, strict=True))
            assert all(text.endswith("; SLURM is asked again") for text in told if text.startswith(refused))
            if kind == "paused":
                ProgressFile(lock.tell, Recorder()).close(replace(PROGRESS, state="paused: 0.12 GB are left"))
                assert "\npaused    0.12 GB are left, for " in sweeps_command("status", "runs/small").stdout
    assert "stopping" not in sweeps_command("status", "runs/small").stdout  # nobody runs it


def test_status_while_it_runs(sweeps_command: Command, run: RunFolder, plan: Plan, write_ends: WriteEnds) -> None:
    head, other_head, pruned, *_ = plan.trials
    write_ends(run, [head.trial_id])
    write_ends(run, [other_head.trial_id], "failed", "loss is not finite")
    write_running(run, pruned)
    write_point(run, head, 0.5, 0.0)
    write_point(run, pruned, 0.75, 0.2)
    write_point(run, other_head, 0.9, 0.0)
    write_point(run, plan.trials[4], 0.75, 0.4)
    with RunLock(run.lock) as lock:
        shown = sweeps_command("status", "runs/small").stdout
        newer = replace(PROGRESS.counts, finished=2, running=3, waiting=0)  # than the rows
        ProgressFile(lock.tell, Recorder()).close(replace(PROGRESS, counts=newer))
        ahead = sweeps_command("status", "runs/small").stdout
    assert "\n| 6 | 1 | 0 | 4 | 1 |\n" in ahead  # it has lost its worker
    assert "\nprogress  25% of this launch's work, time left unknown; 2 finished and 3 running now\n" in ahead
    assert "running in process" in shown
    assert "| trials | finished | running | waiting | failed |" in shown and "\n| 6 | 1 | 1 | 3 | 1 |\n" in shown
    assert f"| {pruned.trial_id} | prune l1 |  |  |  |  |  | 5 h 0" in shown
    assert f"failed    {other_head.trial_id}  head_only: loss is not finite" in shown
    assert f"transtailor logs runs/small {other_head.trial_id}" in shown
    best = json.loads(sweeps_command("status", "runs/small", "--format", "json").stdout)["tables"]["best"]
    assert [(row["arm"], row["validation_score"], row["seed"], row["of_points"]) for row in best] == [
        ("prune l1", 0.75, plan.trials[4].settings.seed, 2),
        ("head_only", 0.5, head.settings.seed, 1),
    ]
    # Equal accuracies: the one with fewer MACs is the better.
    assert (best[0]["removed_macs_fraction"], best[0]["trial_id"]) == (0.4, plan.trials[4].trial_id)
    assert f"| prune l1 | digits_vgg | digits | 200 | accuracy | 0.7500 | 0.4000 | {best[0]['seed']} |" in shown
    # The launcher is gone: what it left running waits.
    assert "| 6 | 1 | 0 | 4 | 1 |" in sweeps_command("status", "runs/small").stdout


@pytest.mark.parametrize("folder", ["runs/smal", "runs/small/tables", "spec.toml"])
def test_status_of_no_run(sweeps_command: Command, run: RunFolder, folder: str) -> None:
    assert run.path.exists()
    done = sweeps_command("status", folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert folder in done.stderr
    assert "Traceback" not in done.stderr


def test_status_imports_nothing_heavy(run: RunFolder) -> None:
    heavy = ("torch", "ray", "pandas")
    script = "import sys; from transtailor.__main__ import main; main(['status', sys.argv[1]])\n"
    script += f"print('HEAVY', *[name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script, run.path], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "HEAVY"


@pytest.mark.parametrize(
    ("prefix", "expected"), [("zz", "no trial whose id begins with 'zz'"), ("", "type more digits")]
)
def test_unclear_ids_of_trials_are_refused(
    sweeps_command: Command, run: RunFolder, plan: Plan, prefix: str, expected: str
) -> None:
    assert run.path.exists()
    done = sweeps_command("logs", run.path, prefix)
    assert (done.returncode, done.stdout) == (2, "")
    assert expected in done.stderr
    if prefix:
        _program, *words = shlex.split(done.stderr.rpartition("type: ")[2])
        assert plan.trials[0].trial_id in sweeps_command(*words).stdout
