"""Stopping, reading logs and trying again from another terminal: the real commands on a real run, without SLURM."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hpc.sites.site import Site
from results.store.completeness import failed_trials
from results.store.reader import finished_trial_ids, load
from sweeps.operations import control
from sweeps.planning.plan import make_plan
from sweeps.run.relaunch import start
from sweeps.run.run_folder import RunFolder, open_run
from sweeps.slurm.cluster_run import ClusterRun, Submission
from sweeps.spec.spec import load_spec
from tests.commands import LAUNCH
from tests.hpc.fakes.commands import FakeSlurm
from tests.sweeps.conftest import Command, WriteSpec
from transtailor.waiting import wait_for

SPEC = """
name = "long"
[trial]
source.epochs = 1
optimisation.head_epochs = 1
optimisation.epochs = 4000
[axes]
seed = [0, 1]
[[variants]]
method.name = "fine_tune"
"""
RUNNING = re.compile(
    r"\nprogress  \d+% of this launch's work, time left .*\n(?:.*\n)+"
    r"\| (?P<trial>[0-9a-f]{16}) \| fine_tune \| digits_vgg on digits \| seed \d \| "
    rf"{re.escape(socket.gethostname())} \| "
    r"fine_tune 3/4 \| epoch \d+ of 4000, loss [\d.]+, [\d,]+ images/s \| \d+ s \|\n"
)

DEAF = """
import signal, sys, time
from pathlib import Path
from sweeps.run.run_lock import RunLock
signal.signal(signal.SIGTERM, signal.SIG_IGN)
with RunLock(Path(sys.argv[1])):
    print("holds it", flush=True)
    time.sleep(600)
"""
BREAKING = """
name = "breaks"
imports = ["breaks.py"]
[axes]
seed = [0, 1]
[trial]
source.epochs = 1
optimisation = { epochs = 1, head_epochs = 1 }
data.train_images = 64
[[variants]]
method.name = "head_only"
[[variants]]
method = { name = "prune", criterion = "breaks" }
"""
BREAKS = """
from pathlib import Path

from tailor.extend import CRITERIA, Criterion


def breaks(scoring):
    from tailor.pruning.criteria.weights import l1
    if not Path({mended!r}).exists():
        raise RuntimeError("not mended yet")
    return l1(scoring)


CRITERIA.add("breaks", Criterion(compute=breaks, source="a test"))
"""


def test_what_is_no_run_or_has_no_jobs_is_said(tmp_path: Path, sweeps_command: Command) -> None:
    for command, *options in (("stop",), ("stop", "--now"), ("logs",), ("run", "--retry"), ("time",)):
        done = sweeps_command(command, tmp_path / "none", *options)
        assert (done.returncode, done.stdout) == (2, "")
        assert "there is no run" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.check
def test_a_run_is_stopped_from_elsewhere_and_its_logs_are_read(
    tmp_path: Path, write_spec: WriteSpec, sweeps_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "LOOK_EVERY_S", 0.05)
    write_spec(SPEC)
    words = [sys.executable, str(LAUNCH), "spec.toml", "--site", "serial"]
    run = RunFolder(tmp_path / "runs" / "long")
    launched = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    try:
        trial = _running_trial(run)
        logs = sweeps_command("logs", run.path, trial)
        assert logs.returncode == 0, logs.stderr
        assert "INFO trial begins" in logs.stdout
        followed = control.logs(run, trial, 20, follow=True)
        assert "INFO trial begins" in next(followed)
        running = wait_for(
            lambda: RUNNING.search(sweeps_command("status", run.path).stdout), "an epoch", 400.0, poll_s=1.0
        )
        assert running["trial"] == trial
        stopped = sweeps_command("stop", run.path)
        assert (stopped.returncode, stopped.stderr) == (0, "")
        assert "was stopped; launched again, it goes on with what is left" in stopped.stdout
        assert launched.wait() == 130
        assert any("INFO stage 1: fit_head" in line for line in followed)  # and that is the end
    finally:
        launched.kill()
        launched.communicate()
    assert ": not running" in sweeps_command("stop", run.path).stdout
    refused = sweeps_command("stop", run.path, "--now")
    assert refused.returncode == 2
    assert "was not launched on SLURM" in refused.stderr
    unknown = sweeps_command("logs", run.path, "0000")
    assert unknown.returncode == 2
    assert "no trial whose id begins with '0000'" in unknown.stderr


@pytest.mark.check
def test_logs_of_a_run_show_stages_and_scores_of_what_was_written_last(
    trained: RunFolder, sweeps_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    (trained.cluster / "logs").mkdir(parents=True)
    (trained.cluster / "logs" / "7_0_log.out").write_text("a job\n")
    os.utime(trained.cluster / "logs" / "7_0_log.out", (0, 0))
    shown = sweeps_command("logs", trained.path).stdout
    assert shown.count("== ") == 3 and "\na job\n" in shown
    assert re.search(r"INFO stage 0: train_source, [\d.]+ s\n", shown)
    assert re.search(r"; point 0: [\d.]+% of the MACs removed, validation accuracy 0\.\d{4}\n", shown)
    (last,) = sweeps_command(
        "logs", trained.path, next(iter(open_run(trained).trials)), "--lines", "1"
    ).stdout.splitlines()
    assert last.endswith("INFO trial is over")
    none = sweeps_command("logs", trained.path, "--lines", "0")
    assert (none.returncode, none.stdout) == (0, "")
    fewer = sweeps_command("logs", trained.path, "--lines", "-3")
    assert (fewer.returncode, fewer.stdout, fewer.stderr) == (2, "", "error: --lines is -3; expected 0 or more\n")
    monkeypatch.setattr(control, "LOGS_SHOWN", 2)
    assert "a job" not in sweeps_command("logs", trained.path).stdout


def test_a_line_of_a_log_is_shown_once_it_is_whole(tmp_path: Path, write_spec: WriteSpec) -> None:
    plan = make_plan(load_spec(write_spec()))
    run, lock, _ = start(plan, tmp_path / "runs", extend=False, update_code=False)
    trial = plan.trials[0].trial_id
    run.begin_log(trial).write_text("of the attempt\nbefore\n")
    log_of_attempt = run.begin_log(trial)
    log_of_attempt.write_text("first\nsec")
    with lock:
        followed = control.logs(run, trial, 2, follow=True)
        assert [next(followed), next(followed)] == ["before", "first"]
        with log_of_attempt.open("a") as log:
            log.write("ond\nthird\f\x85of\u2028three\nlast")
        assert [next(followed), next(followed)] == ["second", "third\f\x85of\u2028three"]
    assert [*followed] == ["last"]  # as the run has ended, no more of it comes


def test_what_does_not_stop_is_killed(run: RunFolder) -> None:
    with subprocess.Popen([sys.executable, "-c", DEAF, str(run.lock)], stdout=subprocess.PIPE) as deaf:
        assert deaf.stdout is not None
        deaf.stdout.readline()
        (said,) = control.stop(run, 0.1)
        assert said == (
            f"{run.path}: process {deaf.pid} did not stop in 0.1 s and was killed; to resume, launch it again"
        )
        assert deaf.wait() == -signal.SIGKILL


def test_stop_leaves_a_sweep_alone_that_was_launched_again_while_it_waited(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "POLL_S", 0.01)
    cluster, slurm = _launched_on_slurm(run), FakeSlurm(tmp_path, monkeypatch)
    first, second = (f"{job}|RUNNING|N/A|n1|None|{cluster.folder.controller_name}\n" for job in (7, 8))
    slurm.says("squeue", first, first, second)
    slurm.says("scancel", "")
    asked, left = control.stop(cluster.run, 60.0)
    assert asked == "asked job 7 to stop" and "launched again as job 8, which is not stopped" in left
    assert slurm.calls("scancel") == [] and cluster.outcome is None


def test_jobs_that_do_not_end_are_named(run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, slurm = _launched_on_slurm(run), FakeSlurm(tmp_path, monkeypatch)
    controller, worker = cluster.folder.controller_name, cluster.folder.worker_name("1")
    slurm.says("squeue", f"7|COMPLETING|N/A|n1|None|{controller}\n8|COMPLETING|N/A|n2|None|{worker}\n")
    slurm.says("scancel", "")
    cancelled, left = control.cancel(cluster.run, 0.1)
    assert cancelled == "cancelled 2 jobs: 7, 8"
    assert cluster.outcome == control.ENDED_BY_USER  # whoever follows it looks for this once a second
    assert left.startswith("not ended after 0.1 s: 7, 8; perhaps a node does not respond")


def _launched_on_slurm(run: RunFolder) -> ClusterRun:
    cluster = ClusterRun(run)
    cluster.folder.make(Site(cpus_per_node=2, walltime_min=60), run.name)
    run.submission.write_text(Submission(cache=Path("cache")).to_json())
    return cluster


@pytest.mark.check
def test_retry_of_trials_that_are_named_and_of_all(
    tmp_path: Path, write_spec: WriteSpec, launch_process: Command, sweeps_process: Command
) -> None:
    mended = tmp_path / "mended"
    write_spec(BREAKS.format(mended=str(mended)), "breaks.py")
    run = RunFolder(tmp_path / "runs" / "breaks")
    assert launch_process(write_spec(BREAKING), "--site", "serial").returncode == 1
    with load(run.path) as tables:
        first, second = (trial["trial_id"] for trial in failed_trials(tables))
    mended.touch()
    one = sweeps_process("run", run.path, "--retry", "--again", first[:12])
    assert one.returncode == 0, one.stderr
    assert "1 of 1 trials finished, 0 failed" in one.stdout
    assert first in finished_trial_ids(run.path)
    assert second not in finished_trial_ids(run.path)
    rest = sweeps_process("run", "breaks", "--retry")  # as it was launched, not as one of its trials was tried again
    assert rest.returncode == 0, rest.stderr
    assert "4 of 4 trials finished, 0 failed" in rest.stdout
    detached = sweeps_process("run", run.path, "--retry", "--detach")  # the launch refuses the option that it is given
    assert detached.returncode == 2 and "--detach needs a SLURM site" in detached.stderr
    assert len(open_run(run).provenance["history"]) == 3


def _running_trial(run: RunFolder) -> str:
    """The id of the trial that runs, as soon as one does and its ranks have begun."""
    end_s = time.monotonic() + 400.0
    while time.monotonic() < end_s:
        if run.plan.exists():
            with load(run.path) as tables:
                rows = tables.rows("SELECT trial_id FROM attempts WHERE status = 'running'")
            logs = run.logs(str(rows[0]["trial_id"])) if rows else []
            if logs and logs[-1].stat().st_size:  # its first line
                return str(rows[0]["trial_id"])
        time.sleep(0.5)
    raise AssertionError("no trial ran")
