"""What is said to SLURM's commands, and how often: counted, on fakes."""

import errno
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hpc.errors import SlurmError
from hpc.sites.site import Need, Site
from hpc.slurm import calls
from hpc.slurm.jobs import JobState, cancel, jobs, queue, requeue, signal_steps, submit, would_start
from hpc.slurm.reasons import explanations
from hpc.slurm.script import script
from tests.hpc.fakes.commands import FakeSlurm, without_hanging_on

SITE = Site(cpus_per_node=8, memory_gb=32, gpus_per_node=4, walltime_min=120)
HOSTILE = """it's "x" $(touch pwned) `touch pwned` ; touch pwned # é"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    return FakeSlurm(tmp_path, monkeypatch)


def need_in(folder: Path, **fields: Any) -> Need:
    return Need(log_folder=folder / "it's $(logs)", **fields)


def test_what_is_submitted_is_the_text_that_is_printed(
    slurm: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SBATCH_PARTITION", "SLURM_JOB_ID", "SLURM_CPUS_PER_TASK", "SQUEUE_FORMAT", "TMPDIR"):
        monkeypatch.setenv(name, "other")  # as in a job that submits jobs: they would win over the text
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm/slurm.conf")
    slurm.says("sbatch", "sbatch: warning: the cluster is busy\n12;testbed\n")
    need = need_in(tmp_path)
    site = SITE.model_copy(update={"cluster": "testbed"})
    assert submit(site, need, ["echo", HOSTILE]) == "12"
    ((*flags, path),) = slurm.calls("sbatch")
    assert flags == ["-M", "testbed", "--parsable"]
    assert Path(path).parent == need.log_folder
    assert Path(path).read_text() == script(site, need, ["echo", HOSTILE])
    assert Path(path).stat().st_mode & 0o777 == 0o600
    assert slurm.environment("sbatch") == {"SLURM_CONF": "/etc/slurm/slurm.conf"}


def test_the_commands_have_their_own_settings_and_no_others(
    slurm: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = {
        "SLURM_CONF": "/a", "SLURM_CONF_SERVER": "ctl:6817", "SLURM_CLUSTERS": "wice", "SLURM_JWT": "secret",
        "SLURM_SACK_SOCKET": "/run/sack",
    }  # fmt: skip
    lost = ["SLURM_TIME_FORMAT", "SLURM_BITSTR_LEN", "SLURM_JOB_ID", "SLURM_MEM_PER_NODE", "SQUEUE_NAMES", "SBATCH_QOS"]
    for name in [name for name in os.environ if name.startswith(("SLURM_", "SQUEUE_", "SBATCH_"))]:
        monkeypatch.delenv(name)
    for name, value in {**kept, **dict.fromkeys(lost, "x")}.items():
        monkeypatch.setenv(name, value)
    slurm.says("squeue", "1|RUNNING|None\n")
    slurm.says("sbatch", "7;wice\n")
    jobs(["1"], None)
    assert slurm.environment("squeue") == kept
    site = SITE.model_copy(update={"cluster": "wice"})
    submit(site, need_in(tmp_path), ["true"])
    text = Path(slurm.calls("sbatch")[0][-1]).read_text()
    assert "secret" not in text and text.index("unset SLURM_JWT\n") < text.index("srun ")


def test_all_calls_for_a_site_ask_its_cluster(slurm: FakeSlurm, tmp_path: Path) -> None:
    site = SITE.model_copy(update={"cluster": "wice"})
    slurm.says("sbatch", BUSY, "12;wice\n")
    slurm.says("squeue", "")
    slurm.says("sacct", "")
    slurm.says("scontrol", "")
    slurm.says("scancel", "")
    submit(site, need_in(tmp_path), ["true"])
    would_start(site, need_in(tmp_path), ["true"])
    queue(["demo-controller"], "wice")
    jobs(["12"], "wice")
    cancel(["12"], "wice")
    signal_steps(["12"], "USR2", "wice")
    requeue("12", "wice")
    calls = {name: slurm.calls(name) for name in ("sbatch", "squeue", "sacct", "scontrol", "scancel")}
    assert {name: len(words) for name, words in calls.items()} == {
        "sbatch": 3, "squeue": 3, "sacct": 1, "scontrol": 2, "scancel": 2
    }  # fmt: skip
    assert all(words[:2] == ["-M", "wice"] for called in calls.values() for words in called), calls


@pytest.mark.parametrize("site", [SITE, SITE.model_copy(update={"cluster": "genius"})])
def test_a_job_that_went_to_another_cluster_is_said_to_be_there(slurm: FakeSlurm, tmp_path: Path, site: Site) -> None:
    slurm.says("sbatch", "123;wice\n")
    with pytest.raises(SlurmError, match="to the cluster 'wice'.*scancel -M wice 123.*cluster = \"wice\" in the site"):
        submit(site, need_in(tmp_path), ["true"])
    assert len(slurm.calls("sbatch")) == 1


LINE_ENDS = ["\n", "\r", "\r\n", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]
OURS = "7|RUNNING|2026-01-01T10:00:00|node[1-2]|None|demo-controller\n8|PENDING|N/A||Priority|demo-worker-1\n"


@pytest.mark.parametrize("line_end", LINE_ENDS)
def test_the_names_of_other_jobs_hide_none_of_ours(slurm: FakeSlurm, line_end: str) -> None:
    other = f"6|RUNNING|2026-01-01T10:00:00|node3|None|my{line_end}job\n"
    slurm.says("squeue", other + OURS + other)
    queued_jobs = queue(["demo-controller", "demo-worker-1"], None)
    ours = [job for job in queued_jobs if job.name.startswith("demo-")]
    assert [(job.id, job.name, job.nodes) for job in ours] == [
        ("7", "demo-controller", "node[1-2]"),
        ("8", "demo-worker-1", ""),
    ]
    (call,) = slurm.calls("squeue")  # so the name of another job cannot be taken for a row of ours
    assert "--name=demo-controller,demo-worker-1" in call and call.index("--me") < len(call)


def test_a_line_of_ours_that_cannot_be_read_is_no_job_that_has_ended(slurm: FakeSlurm) -> None:
    slurm.says("squeue", f"oops: {OURS}", OURS)
    assert [job.id for job in queue(["demo-controller", "demo-worker-1"], None)] == ["7", "8"]
    slurm.says("squeue", f"oops: {OURS}")
    with pytest.raises(SlurmError, match="squeue gave no readable answer in 3 calls"):
        queue(["demo-controller", "demo-worker-1"], None)


@pytest.mark.parametrize("line_end", LINE_ENDS)
def test_a_reason_with_a_line_end_hides_no_other_job(slurm: FakeSlurm, line_end: str) -> None:
    slurm.says("squeue", f"1|PENDING|(see{line_end}the notice)\n2|RUNNING|None\n")
    states = jobs(["1", "2"], None)
    assert {job: state.state for job, state in states.items()} == {"1": "PENDING", "2": "RUNNING"}


def test_what_people_wrote_of_a_job_is_not_its_state(slurm: FakeSlurm) -> None:
    slurm.says("squeue", "")
    slurm.says(
        "scontrol",
        "JobId=5 JobName=demo JobState=RUNNING Reason=None Comment=JobState=FAILED Reason=x Command=/a JobState=FAILED "
        "Reason=y\n",
    )
    assert jobs(["5"], None)["5"] == JobState("RUNNING", "None")


BUSY = {"error": "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation", "returncode": 1}


def test_a_busy_controller_is_asked_again_after_a_look_at_the_queue(slurm: FakeSlurm, tmp_path: Path) -> None:
    slurm.says("sbatch", BUSY, BUSY, "7\n")
    slurm.says("squeue", "")
    assert submit(SITE, need_in(tmp_path), ["true"]) == "7"
    assert (len(slurm.calls("sbatch")), len(slurm.calls("squeue"))) == (3, 2)
    assert len({path for _, path in slurm.calls("sbatch")}) == 1


@pytest.mark.parametrize("answer", [BUSY, {"hang": True}, "Submitted, I think\n"])
def test_a_job_that_sbatch_did_not_name_is_found_and_not_submitted_twice(
    slurm: FakeSlurm, tmp_path: Path, answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm.ends_waits_for_what_hangs(monkeypatch)
    slurm.says("sbatch", answer)
    need = need_in(tmp_path)
    # The fake queue cannot know the name of the file before it is written: it reads the folder.
    (slurm.folder / "bin" / "squeue").write_text(
        f'#!/bin/sh\nfor f in {shlex.quote(str(need.log_folder))}/*; do echo "41|/other.sh"; echo "42|$f"; done\n'
    )
    (slurm.folder / "bin" / "squeue").chmod(0o755)
    assert submit(SITE, need, ["true"]) == "42"
    assert len(slurm.calls("sbatch")) == 1
    assert without_hanging_on(slurm.folder)


@pytest.mark.parametrize(("answer", "said"), [(BUSY, "Socket timed out"), ({"hang": True}, "no answer in time")])
def test_submitting_is_given_up_after_the_stated_tries(
    slurm: FakeSlurm, tmp_path: Path, answer: Any, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm.ends_waits_for_what_hangs(monkeypatch)
    slurm.says("sbatch", answer)
    slurm.says("squeue", "")
    with pytest.raises(SlurmError, match=f"in 3 calls of at most 300 s, last: .*{said}.*scontrol ping"):
        submit(SITE, need_in(tmp_path), ["true"])
    assert len(slurm.calls("sbatch")) == 3
    assert without_hanging_on(slurm.folder)


def test_where_neither_sbatch_nor_squeue_answers_nothing_is_tried_again(slurm: FakeSlurm, tmp_path: Path) -> None:
    slurm.says("sbatch", BUSY)
    slurm.says("squeue", BUSY)
    with pytest.raises(SlurmError, match="was submitted is unknown, check it before you try again: squeue gave no"):
        submit(SITE, need_in(tmp_path), ["true"])
    assert (len(slurm.calls("sbatch")), len(slurm.calls("squeue"))) == (1, 3)


@pytest.mark.parametrize(
    "printed", ["7\nYour project has 12000 hours left.\n", "Welcome!\n 7 \nBye\n", "7;wice\n\nsee the portal: job 7\n"]
)
def test_a_wrapper_may_print_before_and_after_the_number(slurm: FakeSlurm, tmp_path: Path, printed: str) -> None:
    slurm.says("sbatch", printed)
    site = SITE.model_copy(update={"cluster": "wice"})
    assert submit(site, need_in(tmp_path), ["true"]) == "7"  # and no squeue was needed


def test_of_two_numbers_none_is_believed(slurm: FakeSlurm, tmp_path: Path) -> None:
    slurm.says("sbatch", "7\n12000\n")
    slurm.says("squeue", "")
    with pytest.raises(SlurmError, match="did not submit"):
        submit(SITE, need_in(tmp_path), ["true"])
    assert len(slurm.calls("squeue")) == 1  # it was looked for by its file


def test_an_estimate_is_read_among_what_a_wrapper_prints(slurm: FakeSlurm, tmp_path: Path) -> None:
    slurm.says(
        "sbatch", {"error": "sbatch: Job 1 to start at 2026-01-01T10:00:00\nYour project has 12000 hours left.\n"}
    )
    assert would_start(SITE, need_in(tmp_path), ["true"]) == "Job 1 to start at 2026-01-01T10:00:00"


@pytest.mark.usefixtures("slurm")
def test_without_slurm_the_missing_command_is_named(tmp_path: Path) -> None:
    with pytest.raises(SlurmError, match="no sbatch on PATH: is this a login node"):
        submit(SITE, need_in(tmp_path), ["true"])
    with pytest.raises(SlurmError, match="no squeue on PATH"):
        jobs(["1"], None)


def test_all_jobs_are_asked_for_in_one_call(slurm: FakeSlurm) -> None:
    slurm.says("squeue", "1|RUNNING|None\n3|PENDING|Resources\n4|PENDING|(launch_failed_requeued_held)\n9|RUNNING|x\n")
    states = jobs(["4", "3", "1", "1"], None)
    assert list(states) == ["4", "3", "1"]
    assert states["1"] == JobState("RUNNING", "None")
    assert states["3"].explanation == explanations()["reasons"]["Resources"]
    assert "scontrol release" in states["4"].explanation
    (call,) = slurm.calls("squeue")
    assert "--jobs=4,3,1" in call
    assert jobs([], None) == {}
    assert len(slurm.calls("squeue")) == 1


def test_vanished_jobs_are_looked_up_in_accounting_in_one_call(slurm: FakeSlurm) -> None:
    slurm.says("squeue", "1|RUNNING|None\n")
    slurm.says("sacct", "2|COMPLETED|0:0\n3|CANCELLED by 0|0:15\n4|PENDING|0:0\n")
    states = jobs(["1", "2", "3"], None)
    assert states["2"] == JobState("COMPLETED", "exit code 0:0")
    assert states["3"].state == "CANCELLED"
    assert {job: state.ended for job, state in states.items()} == {"1": False, "2": True, "3": True}
    (call,) = slurm.calls("sacct")
    assert "--jobs=2,3" in call


@pytest.mark.parametrize("accounting", [None, {"error": "Slurm accounting storage is disabled", "returncode": 1}])
def test_without_accounting_the_controller_is_asked_and_unknown_is_said(
    slurm: FakeSlurm, accounting: dict[str, Any] | None
) -> None:
    slurm.says("squeue", {"error": "slurm_load_jobs error: Invalid job id specified", "returncode": 1})
    slurm.says(
        "scontrol",
        "JobId=5 JobName=x Priority=1 JobState=FAILED Reason=NonZeroExitCode Dependency=(null) Requeue=1\n",
        {"error": "slurm_load_jobs error: Invalid job id specified", "returncode": 1},
    )
    if accounting:
        slurm.says("sacct", accounting)
    states = jobs(["5", "6"], None)
    assert states["5"] == JobState("FAILED", "NonZeroExitCode")
    assert states["6"].state == "UNKNOWN"
    assert not states["6"].ended
    assert "forgotten" in states["6"].explanation
    assert len(slurm.calls("squeue")) == 1


def test_a_command_that_hangs_is_ended_at_its_limit(slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "LIMIT_S", 0.5)
    slurm.says("squeue", {"hang": True})
    with pytest.raises(SlurmError, match=r"in 1 call of at most 0\.5 s, last: no answer in time"):
        jobs(["1"], None, tries=1)
    assert without_hanging_on(slurm.folder)


def test_garbage_and_time_outs_of_squeue_are_retried_and_then_said(
    slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm.ends_waits_for_what_hangs(monkeypatch)
    slurm.says("squeue", "%&/ oops\n", {"hang": True}, "1|RUNNING|None\n")
    assert jobs(["1"], None)["1"].state == "RUNNING"
    slurm.says("squeue", "%&/ oops\n")
    with pytest.raises(SlurmError, match="squeue gave no readable answer in 3 calls.*oops.*scontrol ping"):
        jobs(["1"], None)
    assert len(slurm.calls("squeue")) == 6
    slurm.says("squeue", {"error": "squeue: unrecognized option", "returncode": 1})
    with pytest.raises(SlurmError, match="unrecognized option"):
        jobs(["1"], None)
    assert len(slurm.calls("squeue")) == 7  # this will not pass: not tried again
    assert without_hanging_on(slurm.folder)


def test_an_answer_that_was_there_in_time_counts_though_it_is_read_late(
    slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    class HeldMeanwhile(subprocess.Popen[str]):
        """As where this process gets no processor until long after the command has ended."""

        def communicate(self, input: str | None = None, timeout: float | None = None) -> tuple[str, str]:  # noqa: A002
            if timeout == calls.LIMIT_S:
                os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
                raise subprocess.TimeoutExpired(self.args, timeout)
            return super().communicate(input)

    monkeypatch.setattr(subprocess, "Popen", HeldMeanwhile)
    slurm.says("squeue", "1|RUNNING|None\n")
    assert jobs(["1"], None)["1"].state == "RUNNING"
    assert len(slurm.calls("squeue")) == 1


class Refused(subprocess.Popen[str]):
    """As where the kernel starts no further process: the first `number` calls fail."""

    number = 0

    def __init__(self, *words: Any, **options: Any) -> None:
        if Refused.number:
            Refused.number -= 1
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        super().__init__(*words, **options)


def test_a_command_that_cannot_be_started_is_tried_again(
    slurm: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm.says("squeue", "1|RUNNING|None\n")
    slurm.says("sbatch", "7\n")
    monkeypatch.setattr(subprocess, "Popen", Refused)
    Refused.number = 2
    assert jobs(["1"], None)["1"].state == "RUNNING"
    Refused.number = 2
    assert submit(SITE, need_in(tmp_path), ["true"]) == "7"
    assert len(slurm.calls("squeue")) == 1  # what did not start has submitted nothing
    Refused.number = 3
    with pytest.raises(
        SlurmError, match="in 3 calls of at most 300 s, last: it could not be started, .*temporarily unav"
    ):
        jobs(["1"], None)
    Refused.number = 3
    with pytest.raises(SlurmError, match=r"sbatch did not submit .* last: it could not be started"):
        submit(SITE, need_in(tmp_path), ["true"])


def test_cancel_names_exactly_the_jobs(slurm: FakeSlurm) -> None:
    slurm.says("scancel", {"error": "scancel: error: Socket timed out on send/recv operation", "returncode": 1}, "")
    cancel(["12", "13", "12"], None)
    assert slurm.calls("scancel") == [["12", "13"]] * 2
    cancel([], None)  # scancel without a job could mean others'
    assert len(slurm.calls("scancel")) == 2


def test_cancelling_what_has_ended_is_fine_and_others_jobs_are_not(slurm: FakeSlurm) -> None:
    ended = "scancel: error: Kill job error on job id 12: Invalid job id specified\n"
    slurm.says("scancel", {"error": ended, "returncode": 1})
    cancel(["12"], None)
    denied = "scancel: error: Kill job error on job id 13: Access/permission denied\n"
    slurm.says("scancel", {"error": ended + denied, "returncode": 1})
    with pytest.raises(SlurmError, match="permission denied"):
        cancel(["12", "13"], None)


@pytest.mark.parametrize("hostile", ["", "--user=root", "1,2", "1 2", "-u", "1;2", "12_4", "12_x", "١"])
def test_what_is_no_id_reaches_no_command(slurm: FakeSlurm, hostile: str) -> None:
    slurm.says("scancel", "")
    slurm.says("squeue", "")
    for call in (cancel, jobs):
        with pytest.raises(ValueError, match="not the id of a job"):
            call(["1", hostile], None)
    assert slurm.calls("scancel") == slurm.calls("squeue") == []
