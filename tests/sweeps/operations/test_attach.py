"""Submitting a sweep where SLURM refuses it: what is said, what is left, and going on once the site is mended."""

import errno
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from sweeps.driver.display import SweepProgress
from sweeps.driver.progress_file import ProgressFile
from sweeps.errors import RunFolderError
from sweeps.operations import attach
from sweeps.operations.attach import follow, log_tail
from sweeps.operations.controller import LOCK_LIMIT_S, plan_of
from sweeps.run.run_folder import RunFolder, open_run
from sweeps.run.run_lock import RunLock
from sweeps.slurm.cluster_run import ClusterRun
from tests.hpc.fakes.commands import FakeSlurm
from tests.sweeps.conftest import Command, WriteSpec
from tests.sweeps.fake_plan import PROGRESS, Recorder
from transtailor.errors import INTERRUPTED

SITE = """
cpus_per_node = 2
walltime_min = 60
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    """A cluster with an empty queue that accepts jobs 7, 8 and 9, and its site in site.toml."""
    (tmp_path / "site.toml").write_text(SITE)
    found = FakeSlurm(tmp_path, monkeypatch)
    found.says("sbatch", "7\n", "8\n", "9\n")
    found.says("squeue", "")
    return found


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        (
            "Batch job submission failed: Invalid account or account/partition combination specified",
            "sacctmgr show ass",
        ),
        ("lua: jobs without --account are not accepted here", "jobs without --account"),
        ("lua: no --mem\nsbatch: error: Batch job submission failed: Unspecified error", "about --mem, set memory"),
    ],
)
def test_what_a_cluster_refuses_is_said_and_the_same_command_goes_on_with_another_site(
    said: str,
    advice: str,
    tmp_path: Path,
    slurm: FakeSlurm,
    write_spec: WriteSpec,
    launch: Command,
    sweeps_command: Command,
) -> None:
    slurm.says("sbatch", {"error": f"sbatch: error: {said}", "returncode": 1}, "7\n")
    words = [write_spec(), "--site", "./site.toml", "--detach"]
    code = f"PYTHONPATH={tmp_path}/runs/small/code/"
    assert code in launch(*words, "--plan").stdout
    refused = launch(*words)
    assert refused.returncode == 2
    assert said.partition("\n")[0] in refused.stderr and advice in refused.stderr
    assert "Traceback" not in refused.stderr
    assert ClusterRun(RunFolder(tmp_path / "runs" / "small")).outcome is None
    headline = sweeps_command("status", "runs/small").stdout.splitlines()[0]
    assert "if that refuses the site, change it, or give another --site; if no job is listed below, type: " in headline
    (tmp_path / "site.toml").write_text(f'account = "mine"\nmemory = "per_cpu"\n{SITE}')
    done = launch(*words)
    assert done.returncode == 0, done.stderr
    assert "resumed; submitted as job 7" in done.stdout
    (_, script) = slurm.calls("sbatch")[-1]
    text = Path(script).read_text()
    assert "#SBATCH --account=mine" in text and "#SBATCH --mem-per-cpu=" in text and code in text


def test_trials_that_are_named_reach_the_controller_and_none_that_runs_already(
    tmp_path: Path, slurm: FakeSlurm, write_spec: WriteSpec, launch: Command
) -> None:
    words = [write_spec(), "--site", "./site.toml", "--detach"]
    assert launch(*words).returncode == 0
    run = RunFolder(tmp_path / "runs" / "small")
    place = ClusterRun(run)
    assert place.submission.chosen == ()
    trial = list(open_run(run).trials)[3]
    slurm.says("squeue", f"7|RUNNING|N/A|node1|None|{place.folder.controller_name}\n")
    refused = launch(*words, "--again", trial)
    assert refused.returncode == 2
    assert "is running in job 7, which accepts no more trials; wait, or stop it first" in refused.stderr
    assert "transtailor stop runs/small" in refused.stderr
    slurm.says("squeue", "")
    wrong = launch(*words, "--again", trial[:-1] + "x")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert f"did you mean {trial!r}?" in wrong.stderr
    assert place.submission.chosen == ()
    assert launch(*words, "--again", trial).returncode == 0
    assert place.submission.chosen == (trial,)
    assert launch(*words).returncode == 0
    assert place.submission.chosen == ()


@pytest.mark.usefixtures("slurm")
def test_a_controller_that_ended_is_reported_with_all_that_its_job_printed(
    tmp_path: Path, write_spec: WriteSpec, launch: Command
) -> None:
    assert launch(write_spec(), "--site", "./site.toml", "--detach").returncode == 0
    cluster = ClusterRun(RunFolder(tmp_path / "runs" / "small"))
    assert log_tail(cluster) == ""
    of_job = cluster.folder.logs / "7_0_log"
    of_job.with_suffix(".out").touch()
    of_job.with_suffix(".err").write_text("line 21: /env/bin/activate: No such file\n")  # of a line of `setup`
    assert log_tail(cluster) == f"== {of_job}.err\nline 21: /env/bin/activate: No such file"
    of_job.with_suffix(".out").write_text("Ray head listens\n")
    assert {"Ray head listens", "line 21: /env/bin/activate: No such file"} < set(log_tail(cluster).splitlines())


@pytest.mark.parametrize(
    ("in_accounting", "printed", "says", "says_not"),
    [
        (
            "FAILED|3:0",
            "",
            "FAILED, exit code 3:0; its log in {logs} is empty: setup, scratch_folder and con",
            "The log",
        ),
        ("FAILED|1:0", "no module cuda", "FAILED, exit code 1:0; its log is in {logs}; launch again to r", "is empty"),
        ("CANCELLED by 0|0:15", "grpcio is old", "CANCELLED; its log is in {logs}; launch again to resume", "grpcio"),
        ("PREEMPTED|0:0", "grpcio is old", "PREEMPTED; its log is in {logs}; launch again to resume", "grpcio"),
    ],
)
def test_how_a_controller_ended_is_said_as_slurm_knows_it(
    in_accounting: str, printed: str, says: str, says_not: str,
    tmp_path: Path, slurm: FakeSlurm, write_spec: WriteSpec, launch: Command, sweeps_command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    assert launch(write_spec(), "--site", "./site.toml", "--detach").returncode == 0
    cluster = ClusterRun(RunFolder(tmp_path / "runs" / "small"))
    slurm.says("sacct", f"7|{in_accounting}\n")
    (cluster.folder.logs / "7_0_log.err").write_text(printed)
    monkeypatch.setattr(attach, "LOOK_EVERY_S", 0.0)
    monkeypatch.setattr(attach, "GONE_LIMIT_S", 0.0)
    with pytest.raises(RunFolderError) as raised:
        follow(cluster)
    ended = f"its controller, job 7, ended without an outcome: {says.format(logs=cluster.folder.logs)}"
    assert ended in str(raised.value) and says_not not in str(raised.value)
    in_status, _, _ = ended.partition("; launch")
    first_line = sweeps_command("status", "runs/small").stdout.splitlines()[0]
    assert in_status in first_line and says_not not in first_line
    assert printed in first_line or not in_accounting.startswith("FAILED")


def test_a_display_is_closed_when_the_user_detaches(run: RunFolder) -> None:
    closed: list[SweepProgress] = []

    class Detaching(Recorder):
        def show(self, progress: SweepProgress) -> None:
            super().show(progress)
            raise KeyboardInterrupt

        def close(self, progress: SweepProgress) -> None:
            closed.append(progress)

    run.cluster.mkdir()
    ProgressFile(run.progress.write_text, Recorder()).show(PROGRESS)
    with pytest.raises(KeyboardInterrupt):
        follow(ClusterRun(run), Detaching())
    assert closed == [PROGRESS]


@pytest.mark.usefixtures("slurm")
@pytest.mark.parametrize("options", [[], ["--no-sharing"]], ids=["sharing", "no sharing"])
def test_the_command_that_a_plan_suggests_runs_one_trial_on_slurm(
    options: list[str],
    tmp_path: Path,
    write_spec: WriteSpec,
    launch: Command,
) -> None:
    planned = launch(write_spec(), "--site", "./site.toml", *options, "--plan").stdout
    (suggested,) = re.findall(r"^ +(\S.* --only .*_probe_.*)$", planned, flags=re.MULTILINE)
    words = shlex.split(suggested)
    submitted = launch(*words[words.index("--site") - 1 :], "--detach")
    assert submitted.returncode == 0, submitted.stderr
    (run,) = map(RunFolder, (tmp_path / "runs").iterdir())
    plan, _ = plan_of(run)
    assert [trial.trial_id for trial in plan.trials] == list(open_run(run).trials) == [words[words.index("--only") + 1]]
    run.spec.write_text(run.spec.read_text().replace("seed = [\n    0,\n    1,\n]", "seed = [9]"))
    with pytest.raises(RunFolderError, match="makes other trials than those in"):
        plan_of(run)


def test_a_controller_that_runs_takes_no_more_trials_and_keeps_its_spec(
    tmp_path: Path, slurm: FakeSlurm, write_spec: WriteSpec, launch: Command
) -> None:
    words = [write_spec(), "--site", "./site.toml", "--detach"]
    assert launch(*words).returncode == 0
    controller = ClusterRun(RunFolder(tmp_path / "runs" / "small")).folder.controller_name
    slurm.says("squeue", f"7|RUNNING|N/A|node1|None|{controller}\n")
    more = [*words, "--set", "axes.seed=[0,1,2]"]
    assert "type --extend to add them" in launch(*more).stderr
    refused = launch(*more, "--extend")
    assert (refused.returncode, "--extend" in refused.stderr) == (2, False)
    assert "is running in job 7, which accepts no more trials; wait, or stop it first" in refused.stderr
    assert launch(*words, "--extend").stdout.splitlines()[0].endswith("(running on node1); attached")
    (tmp_path / "other.toml").write_text(f"{SITE}[sbatch]\nnice = 1\n")
    for options, old in (
        (["--set", "resources.threads_per_rank=2"], "spec"),
        (["--site", "./other.toml", "--cache", "other", "--max-disk-gb", "7"], "site and --cache and --max-disk-gb"),
    ):
        other = launch(*words, *options).stdout
        assert f"; attached, with its old {old}: to apply the new, stop it and launch again\n" in other


@pytest.mark.usefixtures("slurm")
def test_a_stop_ends_a_controller_that_waits_for_the_one_before_it(
    tmp_path: Path, write_spec: WriteSpec, launch: Command
) -> None:
    assert launch(write_spec(), "--site", "./site.toml", "--detach").returncode == 0
    run = RunFolder(tmp_path / "runs" / "small")
    ClusterRun(run).stop_file.touch()
    with RunLock(run.lock):
        done = subprocess.run(
            [sys.executable, "-m", "sweeps.operations.controller", run.path],
            capture_output=True, text=True, timeout=LOCK_LIMIT_S / 2, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    outcome = ClusterRun(run).outcome
    assert outcome is not None and outcome.code == INTERRUPTED
    assert f"is being run already, by process {os.getpid()} on " in outcome.text
    assert f"transtailor stop {run.path}" in outcome.text  # also where its process is on another machine


def test_a_folder_that_does_not_answer_is_no_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = ClusterRun(RunFolder(tmp_path))
    cluster.folder.path.mkdir(parents=True)
    cluster.stop_file.touch()
    assert cluster.is_stop_asked()

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "stat", fail)
    assert not cluster.is_stop_asked()
