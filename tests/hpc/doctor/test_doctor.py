"""The doctor's list on a SLURM that does what a real one will not do at will; the test plays the job's nodes."""

import json
import os
import shlex
import sys
import threading
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest

from hpc.doctor import job, names
from hpc.doctor.finding import (
    Checks,
    DoctorFolder,
    Finding,
    environment,
    failure,
    fine,
    merge_findings,
    unknown,
)
from hpc.doctor.login import NODE_CHECKS, Doctor
from hpc.doctor.names import VERDICT, read_verdict
from hpc.doctor.slurm_checks import ping
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
        monkeypatch.setattr("hpc.doctor.login.LOOK_EVERY_S", 0.1)

    def refuses(self, refusals: dict[str, str]) -> None:
        (self.folder / "refusals.json").write_text(json.dumps(refusals))

    def first_state(self, text: str) -> None:
        (self.folder / "first_state").write_text(text)

    def calls(self, name: str) -> list[list[str]]:
        lines = [json.loads(line) for line in (self.folder / "calls").read_text().splitlines()]
        return [words for command, *words in lines if command == name]

    def examine(self, site: Site = SITE, *, limit_s: float = LIMIT_S) -> tuple[bool, str]:
        """Whether nothing is missing, and the list."""
        nodes = threading.Thread(target=self._play)
        nodes.start()
        with redirect_stdout(StringIO()) as printed:
            is_sound = Doctor(site, self.parent, limit_s).run()
        nodes.join(LIMIT_S)
        assert not nodes.is_alive()
        assert {path.name for path in self.parent.iterdir()} <= {VERDICT}
        assert self.state in ("", "CANCELLED|None", "FAILED|NonZeroExitCode")
        return is_sound, printed.getvalue()

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
            for check in ("rights", *NODE_CHECKS, "listens"):
                finding = self.findings.get(check, fine(f"{check} is well"))
                folder.write(f"{check}-{rank}", replace(finding, node=f"node{rank}"))
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
    assert marked(out, "–") == []
    ends = ["Ray head and worker", "files of other machines", "signal", "requeue", "nothing left behind"]
    assert marked(out, "✓")[-5:] == ends
    text = (slurm.folder / "submitted-7").read_text()
    for line in ("--nodes=1", "--cpus-per-task=1", "--mem=4096MB", "--gpus-per-node=1", "--time=15", "--requeue"):
        assert f"#SBATCH {line}\n" in text
    second = (slurm.folder / "submitted-8").read_text()
    assert set(second.splitlines()[:-1]) - set(text.splitlines()) == {"#SBATCH --exclude=node7"}
    assert slurm.calls("scancel") == [["--signal=USR2", "7", "8"], ["7", "8"]]
    real = [words for words in slurm.calls("sbatch") if "--test-only" not in words]
    assert len(real) == 2


@pytest.mark.parametrize(
    ("refusal", "advice"),
    [
        ("Invalid account or account/partition combination specified", "account is missing or wrong: sacctmgr show"),
        ("no --mem here\nsbatch: error: Batch job submission failed: Unspecified error", "about --mem, set memory"),
    ],
)
def test_what_slurm_refuses_of_all_jobs_is_said_before_anything_is_submitted(
    slurm: SmallSlurm, refusal: str, advice: str
) -> None:
    slurm.refuses({"sbatch": refusal})
    slurm.over.set()
    is_sound, out = slurm.examine()
    assert not is_sound
    assert marked(out, "✗") == ["a worker's job", "the controller's job"]
    assert advice in out
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


def test_where_no_job_gets_two_nodes_one_is_examined(slurm: SmallSlurm) -> None:
    slurm.refuses({"--test-only": "Requested node configuration is not available"})
    is_sound, out = slurm.examine()
    assert is_sound, out
    assert "two nodes" in marked(out, "–")
    assert slurm.calls("scancel") == [["--signal=USR2", "7"], ["7"]]


def test_a_job_that_waits_too_long_is_cancelled_and_its_reason_said(slurm: SmallSlurm) -> None:
    slurm.first_state("PENDING|AssocGrpGRES")
    slurm.is_silent = True
    is_sound, out = slurm.examine(limit_s=0.5)
    assert not is_sound
    assert marked(out, "✗") == ["job starts"]
    assert "did not start in 0.5 s: AssocGrpGRES" in out
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
    slurm.findings = {"locks": failure("no lock", "mount it"), "ray": unknown("not tried")}
    is_sound, out = slurm.examine()
    assert not is_sound
    assert marked(out, "✗") == ["locks"]
    assert "    -> mount it\n" in out
    assert marked(out, "–") == ["Ray head and worker"]
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
