"""The doctor's list on a SLURM that does what a real one will not do at will; the test plays the job's nodes."""

import io
import json
import os
import re
import shlex
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hpc.doctor import job, names
from hpc.doctor.checklist import Checklist
from hpc.doctor.finding import (
    Checks,
    DoctorFolder,
    Finding,
    NodePort,
    NodeState,
    environment,
    failure,
    fine,
    merge_findings,
    unknown,
)
from hpc.doctor.login import NODE_CHECKS, Doctor
from hpc.doctor.names import VERDICT, read_verdict
from hpc.doctor.slurm_checks import ping
from hpc.doctor.watch import clock_finding, skew_s
from hpc.errors import ClusterError
from hpc.sites.site import Controller, Site
from tests.hpc.fakes.commands import FakeSlurm
from transtailor.__main__ import main
from transtailor.documents import Record
from transtailor.waiting import wait_for

SMALL = Path(__file__).parents[1].joinpath("fakes") / "small_slurm.py"
SITE = Site(cpus_per_node=4, memory_gb=8, gpus_per_node=2, walltime_min=60)
LIMIT_S = 500.0


class SmallSlurm:
    """Commands on PATH, and a thread that plays the nodes of the doctor's job."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.parent = folder / "slurm", folder / "shared"
        self.findings: dict[str, Finding] = {}
        self.signal = fine("USR2 came")  # what the nodes tell when a signal was sent
        self.behind_s = 0.0
        self.is_silent = False
        self.over = threading.Event()
        (self.folder / "bin").mkdir(parents=True)
        self.parent.mkdir()
        (self.folder / "gres").write_text("gpu:a100:2(S:0-1)\n(null)\n")
        for name in ("sbatch", "squeue", "scancel", "scontrol", "sinfo"):
            words = shlex.join([sys.executable, "-SI", str(SMALL), name, str(self.folder)])
            (self.folder / "bin" / name).write_text(f'#!/bin/sh\n{words} "$@"\n')
            (self.folder / "bin" / name).chmod(0o755)
        (self.folder / "state").touch()
        self.first_state("RUNNING|None")
        self.refuses({})
        monkeypatch.setenv("PATH", str(self.folder / "bin"))
        monkeypatch.setattr("hpc.doctor.watch.LOOK_EVERY_S", 0.1)

    def refuses(self, refusals: dict[str, str]) -> None:
        (self.folder / "refusals.json").write_text(json.dumps(refusals))

    def first_state(self, text: str) -> None:
        (self.folder / "first_state").write_text(text)

    def calls(self, name: str) -> list[list[str]]:
        lines = [json.loads(line) for line in (self.folder / "calls").read_text().splitlines()]
        return [words for command, *words in lines if command == name]

    def examine(self, site: Site = SITE, *, limit_s: float = LIMIT_S) -> tuple[bool, str]:
        """Whether nothing is missing, and the list."""
        stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
        nodes = threading.Thread(target=self._play)
        nodes.start()
        is_sound = Doctor(site, self.parent, Checklist(stream), limit_s).run()
        nodes.join(LIMIT_S)
        assert not nodes.is_alive()
        assert {path.name for path in self.parent.iterdir()} <= {VERDICT}
        assert self.state in ("", "CANCELLED|None", "FAILED|NonZeroExitCode")
        stream.seek(0)
        return is_sound, stream.read()

    @property
    def state(self) -> str:
        return (self.folder / "state").read_text()

    def _play(self) -> None:
        """What the jobs' program tells on two nodes, or on as many as are there; ends with the jobs."""
        submitted = self.folder / "submitted-7"
        if not self._until(submitted) or self.is_silent:
            return
        words = shlex.split(submitted.read_text().splitlines()[-1])
        folder = DoctorFolder(Path(words[words.index("hpc.doctor.job") + 1]))
        if not self._until(folder.path / "question.json"):
            return
        ranks = range(folder.wait_to_read("question", Checks, LIMIT_S).ranks)
        for rank in ranks:
            state = NodeState(node=f"node{rank}", rights=("0o700", "0o600"), time_s=0.0)
            folder.write(f"hello-{rank}", state)
        if not self._until(folder.path / "clock.json"):
            return
        for rank in ranks:
            state = NodeState(node=f"node{rank}", rights=(), time_s=time.time() - self.behind_s)
            folder.write(f"clock-{rank}", state)
            for check in NODE_CHECKS:
                finding = self.findings.get(check, fine(f"{check} is well"))
                folder.write(f"{check}-{rank}", replace(finding, node=f"node{rank}"))
            folder.write(f"listens-{rank}", Record())
        if self._until(self.folder / "signalled"):
            for rank in ranks:
                folder.write(f"signal-{rank}", replace(self.signal, node=f"node{rank}"))

    def _until(self, path: Path) -> bool:
        """Whether the file came before the job's end."""

        def come() -> str | None:
            if path.exists():
                return "came"
            ended = self.state.partition("|")[0] in ("CANCELLED", "FAILED")
            return "over" if ended or self.over.is_set() else None

        return wait_for(come, str(path), LIMIT_S) == "came"


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallSlurm]:
    monkeypatch.setattr(names, "APART_S", 0.0)
    small = SmallSlurm(tmp_path, monkeypatch)
    yield small
    small.over.set()


def marked(out: str, mark: str) -> list[str]:
    """The titles of the checks with a mark."""
    return [line[2:].partition(":")[0] for line in out.splitlines() if line.startswith(mark)]


def test_all_is_well_and_no_more_is_asked_for_than_needed(slurm: SmallSlurm) -> None:
    is_sound, out = slurm.examine()
    assert is_sound, out
    verdict = read_verdict(slurm.parent)
    assert verdict is not None and verdict.finding.text == "names is well"
    assert marked(out, "–") == ["accounting"]  # there is no sacct
    whole_jobs = ["a worker's whole job", "the controller's whole job"]
    ends = ["files of other machines", *whole_jobs, "signal", "requeue", "nothing left behind"]
    assert marked(out, "✓")[-6:] == ends
    text = (slurm.folder / "submitted-7").read_text()
    for line in ("--nodes=1", "--cpus-per-task=1", "--mem=4096MB", "--gpus-per-node=1", "--time=15", "--requeue"):
        assert f"#SBATCH {line}\n" in text
    second = (slurm.folder / "submitted-8").read_text()
    assert set(second.splitlines()[:-1]) - set(text.splitlines()) == {"#SBATCH --exclude=node7"}
    assert slurm.calls("scancel") == [["--signal=USR2", "7", "8"], ["7", "8", "9", "10"]]
    real = [words for words in slurm.calls("sbatch") if "--test-only" not in words]
    assert len(real) == 4
    whole = (slurm.folder / "submitted-9").read_text()
    for line in ("--cpus-per-task=4", "--mem=8192MB", "--gpus-per-node=2", "--time=60", "--no-requeue"):
        assert f"#SBATCH {line}\n" in whole


def test_a_job_that_slurm_takes_and_never_starts_is_a_miss(slurm: SmallSlurm) -> None:
    (slurm.folder / "state-9").write_text("PENDING|PartitionTimeLimit")
    is_sound, out = slurm.examine()
    assert not is_sound
    assert marked(out, "✗") == ["a worker's whole job"]
    said = "it would wait for ever: its walltime is longer than its partition allows: lower walltime_min"
    assert f"✗ a worker's whole job: {said} (PartitionTimeLimit)\n" in out


def test_a_whole_job_that_cannot_be_submitted_beside_the_doctors_own_is_said(slurm: SmallSlurm) -> None:
    slurm.refuses({"#SBATCH --no-requeue": "Job violates accounting/QOS policy (QOSMaxSubmitJobPerUserLimit)"})
    is_sound, out = slurm.examine()
    assert is_sound, out
    assert marked(out, "–") == ["accounting", "a worker's whole job"]
    assert "– a worker's whole job: not tried beside the doctor's own jobs: " in out
    assert "QOSMaxSubmitJobPerUserLimit" in out


def test_an_account_that_is_missing_is_said_before_anything_is_submitted(slurm: SmallSlurm) -> None:
    slurm.refuses({"sbatch": "Batch job submission failed: Invalid account or account/partition combination"})
    slurm.over.set()
    is_sound, out = slurm.examine()
    assert not is_sound
    assert marked(out, "✗") == ["a worker's job", "the controller's job"]
    assert "account is missing or wrong: sacctmgr show associations" in out
    assert "all further checks: not done, as SLURM takes no such jobs" in out


def test_a_partition_that_wants_a_gpu_of_each_job_wants_one_of_the_controller(slurm: SmallSlurm) -> None:
    slurm.refuses({"without GPUs": "QOSMinGRES"})
    slurm.first_state("PENDING|PartitionTimeLimit")  # the doctor ends after the checks on the login node
    slurm.is_silent = True
    is_sound, out = slurm.examine()
    assert not is_sound
    assert "the controller's job" in marked(out, "✗") and "a worker's job" in marked(out, "✓")
    assert "set gpus_per_node; for the controller below [controller], or there a partition without GPUs" in out
    _, out = slurm.examine(SITE.model_copy(update={"controller": Controller(gpus_per_node=1)}))
    assert "the controller's job" in marked(out, "✓")


@pytest.mark.parametrize(
    ("said", "state"),
    [
        ("Slurmctld(primary) at UPPSALA1 is DOWN", "missing"),
        ("Slurmctld(primary) at UPPSALA1 is UP", "fine"),
        ("Slurmctld(primary) at a is DOWN\nSlurmctld(backup) at b is UP", "fine"),
        ("Slurmctld(primary/backup) at a/b are UP/DOWN", "fine"),
    ],
)
def test_a_machine_whose_name_has_up_in_it_may_be_down(
    said: str, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FakeSlurm(tmp_path, monkeypatch).says("scontrol", said)
    assert ping(None).state == state


def test_without_slurms_commands_there_is_one_line(slurm: SmallSlurm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(slurm.parent))
    slurm.over.set()
    is_sound, out = slurm.examine()
    assert not is_sound
    assert marked(out, "✗") == ["commands"]
    assert "no sbatch, squeue, scancel, scontrol on PATH\n    -> go to a login node" in out


def test_where_no_job_gets_two_nodes_one_is_examined(slurm: SmallSlurm) -> None:
    slurm.refuses({"--test-only": "Requested node configuration is not available"})
    is_sound, out = slurm.examine()
    assert is_sound, out
    assert "two nodes" in marked(out, "–")
    assert slurm.calls("scancel") == [["--signal=USR2", "7"], ["7", "8", "9"]]


def test_a_job_that_waits_too_long_is_cancelled_and_its_reason_said(slurm: SmallSlurm) -> None:
    slurm.first_state("PENDING|AssocGrpGRES")
    slurm.is_silent = True
    is_sound, out = slurm.examine(limit_s=0.5)
    assert not is_sound
    assert marked(out, "✗") == ["job starts"]
    assert "did not start in 0.5 s: all users of the account together have reached the limit of GPUs" in out
    assert slurm.calls("scancel") == [["7"]]


def test_a_job_that_fails_at_once_without_a_log(slurm: SmallSlurm) -> None:
    slurm.first_state("FAILED|NonZeroExitCode")
    slurm.is_silent = True
    is_sound, out = slurm.examine()
    assert not is_sound
    assert marked(out, "✗") == ["folder shared"]
    assert "job 7 or 8 ended (FAILED" in out
    assert f"do the nodes see {slurm.parent}?" in out


def test_what_a_node_misses_is_a_miss_and_the_rest_is_still_checked(slurm: SmallSlurm) -> None:
    slurm.findings = {"ports": failure("cannot reach node1", "open them"), "ray": unknown("not tried")}
    is_sound, out = slurm.examine()
    assert not is_sound
    assert marked(out, "✗") == ["ports between nodes"]
    assert "    -> open them\n" in out
    assert marked(out, "–") == ["accounting", "Ray head and worker"]
    assert "requeue" in marked(out, "✓")


@pytest.mark.parametrize(
    ("gres", "said"),
    [
        ("gpu:a100:no_consume:2", "gpu:a100 is no_consume, which is not supported"),
        ("gpu:mi250x:8(S:0-3)", "gpu:mi250x is a name of AMD GPUs, which are not supported"),
    ],
)
def test_gpus_that_trials_cannot_use_are_missed(slurm: SmallSlurm, gres: str, said: str) -> None:
    (slurm.folder / "gres").write_text(f"{gres}\n")
    slurm.refuses({"sbatch": "no"})  # this is known before a job
    slurm.over.set()
    _, out = slurm.examine()
    assert f"✗ GPUs of the partition: {said}" in out
    assert slurm.calls("sinfo") == [["--noheader", "--exact", "--format=%G"]]


def test_only_the_gpus_that_the_site_names_count(slurm: SmallSlurm) -> None:
    (slurm.folder / "gres").write_text("gpu:mi250x:8\ngpu:a100:2\n")
    slurm.refuses({"sbatch": "no"})
    slurm.over.set()
    _, out = slurm.examine(SITE.model_copy(update={"gres": "gpu:a100", "partition": "gpu"}))
    assert "✓ GPUs of the partition: gpu:a100\n" in out
    assert slurm.calls("sinfo") == [["--noheader", "--exact", "--format=%G", "--partition=gpu"]]


@pytest.mark.parametrize(
    ("gpus", "gres", "devices", "said"),
    [
        (
            4,
            "gpu:a100:2,gpu:3090:4",
            "1 GPU for each rank, as the site has gpus_per_node = 4",
            "✓ GPUs of the partition: gp",
        ),
        (
            0,
            "gpu:a100:2",
            "CPUs for each rank, as the site has gpus_per_node = 0",
            "– GPUs of the partition: sinfo lists gpu",
        ),
        (
            0,
            "(null)",
            "CPUs for each rank, as the site has gpus_per_node = 0",
            "✓ GPUs of the partition: none, as the si",
        ),
    ],
)
def test_it_says_which_devices_trials_get(slurm: SmallSlurm, gpus: int, gres: str, devices: str, said: str) -> None:
    (slurm.folder / "gres").write_text(f"{gres}\n")
    slurm.refuses({"sbatch": "no"})
    slurm.over.set()
    _, out = slurm.examine(SITE.model_copy(update={"gres": "gpu:3090" if gpus else None, "gpus_per_node": gpus}))
    assert f"✓ devices of trials: {devices}, unless [resources] gpus_per_rank of the spec says otherwise\n" in out
    assert said in out


def test_a_clock_that_is_behind(slurm: SmallSlurm) -> None:
    slurm.behind_s = 5000.0
    is_sound, out = slurm.examine()
    assert not is_sound
    assert marked(out, "✗") == ["clocks"]
    assert re.search(r"node0 is at least (4\d{3}|5000)\.\d s behind; node1 .*\n    -> have the clocks set by NTP", out)


@pytest.mark.parametrize(
    ("refused", "title", "advice"),
    [("requeue", "requeue", "may you requeue"), ("--signal", "signal", "keeps signals from it")],
)
def test_what_slurm_refuses_to_do_to_jobs(slurm: SmallSlurm, refused: str, title: str, advice: str) -> None:
    slurm.refuses({refused: "Access/permission denied"})
    is_sound, out = slurm.examine()
    assert not is_sound
    assert marked(out, "✗") == [title]
    assert "permission denied" in out
    assert advice in out


def test_a_signal_that_did_not_reach_the_nodes_is_a_miss(slurm: SmallSlurm) -> None:
    slurm.signal = failure("no USR2 came before the job's end", "see signal_before_s")
    is_sound, out = slurm.examine()
    assert not is_sound
    assert marked(out, "✗") == ["signal"] and "no USR2 came before the job's end" in out


def test_a_mistake_in_typing_is_none_of_the_cluster(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--site", "no-such-site"]) == 2
    assert "no site 'no-such-site'" in capsys.readouterr().err
    (tmp_path / "site.toml").write_text('cpus_per_node = 1\nwalltime_min = 5\nshared_folder = "/shared"\n')
    assert main(["doctor", "--site", str(tmp_path / "site.toml"), "--folder", str(tmp_path)]) == 2
    assert "not below the site's shared_folder = /shared" in capsys.readouterr().err


def test_a_folder_may_be_below_the_shared_one_by_another_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "site.toml").write_text(f'cpus_per_node = 1\nwalltime_min = 5\nshared_folder = "{tmp_path / "link"}"\n')
    monkeypatch.setenv("PATH", str(tmp_path))  # without SLURM's commands, so that it ends at its first check
    assert main(["doctor", "--site", str(tmp_path / "site.toml"), "--folder", str(tmp_path / "real")]) == 1
    assert "not below" not in capsys.readouterr().err


@pytest.mark.parametrize("text", ["nan", "inf", "0", "-1"])
def test_a_wait_without_an_end_is_a_mistake(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--site", "example", "--limit-s", text]) == 2
    assert f"--limit-s {text}: expected seconds, more than 0" in capsys.readouterr().err


# --- what runs on the nodes ---


@pytest.mark.parametrize(
    ("asked_s", "node_s", "seen_s", "skew"),
    [(100, 101, 102, 0), (100, 100, 100, 0), (100, 107, 102, 5), (100, 93, 102, -7)],
)
def test_only_what_the_delay_cannot_explain_is_skew(asked_s: float, node_s: float, seen_s: float, skew: float) -> None:
    assert skew_s(asked_s, node_s, seen_s) == skew
    finding = clock_finding([NodeState(node="a", rights=(), time_s=node_s)], asked_s, seen_s)
    assert finding.state == ("missing" if abs(skew) > 2 else "fine")


def test_findings_of_nodes_become_one() -> None:
    assert merge_findings({"a": fine("x"), "b": fine("x")}) == fine("x")
    assert merge_findings({"a": fine("x"), "b": fine("y")}).text == "a: x; b: y"
    assert merge_findings({"a": fine("x"), "b": failure("y", "do")}) == failure("b: y", "do")


def test_an_environment_that_differs_is_named() -> None:
    here = environment()
    assert job._environment(here).state == "fine"
    finding = job._environment(here | {"torch": "1.0"})
    assert finding.state == "missing"
    assert finding.text == f"torch is {here['torch']}, on the login node 1.0"


def test_the_scratch_folder_is_made_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/tmp")
    monkeypatch.setenv("SLURM_JOB_ID", "5")
    new_folders: list[Path] = []
    finding = job._scratch(f"{tmp_path}/$SLURM_JOB_ID/x", new_folders)
    assert finding.state == "fine", finding.text
    assert "Ray's files are in /tmp" in finding.text
    assert new_folders == [tmp_path / "5" / "x", tmp_path / "5"]
    assert os.environ["TMPDIR"] == str(tmp_path / "5" / "x")
    assert job._scratch("$NOT_SET_HERE/x", []).text.endswith("$NOT_SET_HERE is not set in jobs")
    (tmp_path / "file").touch()
    assert job._scratch(str(tmp_path / "file"), []).state == "missing"


def two_nodes(folder: Path, interface: str | None) -> list[Finding]:
    """What two nodes find that are both this machine."""
    findings: dict[int, Finding] = {}
    question = Checks(
        ranks=2, gpus=0, interface=interface, scratch=None, environment={}, workers=None, signal_alone=False
    )

    def look(rank: int) -> None:
        node = job.Node(folder=DoctorFolder(folder), rank=rank, question=question)
        findings[rank] = job._ports(node)

    threads = [threading.Thread(target=look, args=(rank,)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    return [findings[rank] for rank in (0, 1)]


def test_ports_are_tried_in_both_directions(tmp_path: Path) -> None:
    findings = two_nodes(tmp_path, "lo")
    assert [finding.state for finding in findings] == ["fine", "fine"]
    assert "127.0.0.1 (port" in findings[0].text
    assert two_nodes(tmp_path, "none0")[0].text.startswith("network_interface = 'none0' has no IPv4 address")


def test_whoever_answers_at_a_port_must_be_the_other_node() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        threading.Thread(target=job._greet, args=(other, "some other", 1), daemon=True).start()
        with pytest.raises(ConnectionError, match="something else answered"):
            job._reach(NodePort(node="", address="127.0.0.1", port=other.getsockname()[1], word="a" * 10))


def test_a_terminal_without_such_signs_gets_words() -> None:
    raw = io.BytesIO()
    checklist = Checklist(io.TextIOWrapper(raw, encoding="ascii"))
    checklist.add("x", fine("é"))
    checklist.add("y", failure("m", "do\x1b[2J"))
    assert raw.getvalue().decode("ascii") == "ok   x: \\xe9\nMISS y: m\n    -> do\\x1b[2J\n"
    assert checklist.misses == 1


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_what_is_waited_for_is_erased_on_a_terminal_and_no_text_is_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "20")
    checklist = Checklist(Terminal())
    checklist.show_wait("a job " * 10)
    checklist.add("x", fine("[red]" * 10))
    waiting, shown = checklist.stream.getvalue().split("\r\x1b[2K")[1:]  # type: ignore[attr-defined]
    assert len(waiting) <= 20
    assert shown.replace("\x1b[32m", "").replace("\x1b[0m", "") == f"ok   x: {'[red]' * 10}\n"


def test_a_restarted_job_tells_and_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    monkeypatch.setattr(sys, "argv", ["job", str(tmp_path)])
    monkeypatch.setattr(job, "Warnings", lambda: None)
    assert job.main() == 0
    assert DoctorFolder(tmp_path).read("restarted", Record) == Record()


def test_a_report_that_stands_is_not_overwritten(tmp_path: Path) -> None:
    folder = DoctorFolder(tmp_path)
    folder.report("gpus", 0, fine("two"))
    folder.report("gpus", 0, failure("later", ""))
    assert folder.read_findings("gpus", [0]) == fine("two")
    assert folder.read_findings("gpus", [0, 1]) is None
    with pytest.raises(ClusterError, match=r"waited 0.1 s for none\.json"):
        folder.wait_to_read("none", Record, 0.1)
