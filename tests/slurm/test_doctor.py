"""The doctor on a real SLURM: what it finds sound, what it misses, and that it leaves nothing behind."""

import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpc.doctor.names import VERDICT
from tests.slurm.disturbances import folders_of_nodes, left_behind
from tests.slurm.sweep import until
from tests.slurm.testbed import Testbed

pytestmark = pytest.mark.parametrize("slurm", [False], ids=["no accounting"], indirect=True, scope="module")
SITE = {"partition": "main", "cpus_per_node": 1, "memory_gb": 1.5, "walltime_min": 10, "drain_before_s": 30}


@pytest.fixture
def folder(slurm: Testbed, tmp_path: Path) -> Iterator[Path]:
    """One that all nodes see; afterwards it is as it was, no job is there, and no process or temporary folder more."""
    yield tmp_path
    assert {path.name for path in tmp_path.iterdir()} - {VERDICT} == {"site.toml"}
    assert queued(slurm) == ""
    until(lambda: not left_behind(tmp_path), 300.0, "its processes to end")
    until(lambda: not folders_of_nodes(), 300.0, "the nodes' temporary folders to go")


def queued(slurm: Testbed) -> str:
    words = ["squeue", "--noheader", "--format=%i %T %j"]
    return subprocess.run(words, env=slurm.environment, capture_output=True, text=True, check=True).stdout


def started(folder: Path, *words: str, sbatch: str = "", **changes: object) -> subprocess.Popen[str]:
    """`transtailor doctor` for a site that differs so from SITE."""
    lines = [f"{key} = {value!r}" for key, value in (SITE | changes).items()]
    (folder / "site.toml").write_text("\n".join(lines) + f"\n[sbatch]\n{sbatch}\n")
    command = [
        sys.executable,
        "-m",
        "transtailor",
        "doctor",
        "--site",
        str(folder / "site.toml"),
        "--folder",
        str(folder),
    ]
    return subprocess.Popen(
        [*command, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=hear_all_signals
    )


def hear_all_signals() -> None:
    """In a child: also where the tests themselves run in the background, which ignores some."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def examined(folder: Path, *words: str, sbatch: str = "", **changes: object) -> tuple[int, str]:
    """Exit code and list of a doctor that runs to its end."""
    process = started(folder, *words, sbatch=sbatch, **changes)
    out, _ = process.communicate(timeout=500)
    return process.returncode, out


def marks(out: str) -> dict[str, str]:
    """The mark of each check, by its title."""
    return {title: mark for mark, title in re.findall(r"^([✓✗–]) ([^:]*):", out, flags=re.MULTILINE)}


@pytest.mark.long
@pytest.mark.usefixtures("slurm")
def test_two_nodes_have_all_that_a_sweep_needs(folder: Path) -> None:
    code, out = examined(folder, network_interface="eth0", scratch_folder="/dev/shm/$SLURM_JOB_ID/scratch")
    assert code == 0, out
    found = marks(out)
    assert {title for title, mark in found.items() if mark == "–"} == {"accounting", "GPUs of the partition"}, out
    assert "✗" not in found.values()
    assert list(found)[-9:] == [
        "GPUs", "all-reduce between nodes", "Ray head and worker", "files of other machines", "a worker's whole job",
        "the controller's whole job", "signal", "requeue", "nothing left behind",
    ]  # fmt: skip
    assert re.search(r"all-reduce.*gloo.*GB/s", out)
    assert "head on node1, worker on node2" in out
    assert re.search(r"reaches node2 at 10\.78\.0\.12", out)
    assert "Ray's files are in /tmp" in out


@pytest.mark.long
@pytest.mark.usefixtures("slurm")
def test_a_site_of_one_node_says_what_could_not_be_checked(folder: Path) -> None:
    code, out = examined(folder, sbatch='exclude = "node2"')
    assert code == 0, out
    unchecked = {title for title, mark in marks(out).items() if mark == "–"}
    between = {"two nodes", "ports between nodes", "all-reduce between nodes"}
    assert unchecked == {"accounting", "GPUs of the partition", *between}  # its GPUs, which the site does not use
    assert "head on node1, worker on node1" in out
    assert "5 not checked" in out


@pytest.mark.usefixtures("slurm")
def test_an_interface_that_leads_nowhere_is_found_and_nothing_waits_for_it(folder: Path) -> None:
    code, out = examined(folder, network_interface="lo", gres="gpu", gpus_per_node=2)
    assert code == 1
    found = marks(out)
    assert {title for title, mark in found.items() if mark == "✗"} == {"ports between nodes", "GPUs"}
    assert (found["Ray head and worker"], found["requeue"]) == ("–", "✓")
    assert "-> set network_interface in the site" in out
    assert re.search(r"GPUs: the job was given 1 and torch \S+ sees 0", out)  # the test bed's are no GPUs


@pytest.mark.usefixtures("slurm")
def test_a_walltime_that_slurm_takes_and_never_starts_is_found(folder: Path) -> None:
    code, out = examined(folder, walltime_min=600)  # the partition has 60
    assert code == 1
    whole_jobs = {"a worker's whole job", "the controller's whole job"}
    assert {title for title, mark in marks(out).items() if mark == "✗"} == whole_jobs, out
    assert "its walltime is longer than its partition allows: lower walltime_min (PartitionTimeLimit)" in out


@pytest.mark.usefixtures("slurm")
def test_a_setup_that_fails_is_shown_with_its_own_words(folder: Path) -> None:
    code, out = examined(folder, setup=["echo 'module: no such thing' >&2; exit 3"])
    assert code == 1
    assert "✗ folder shared: job" in out
    assert "err | module: no such thing" in out
    assert marks(out)["nothing left behind"] == "✓"


@pytest.mark.long
@pytest.mark.usefixtures("slurm")
def test_a_folder_that_the_nodes_do_not_see(folder: Path) -> None:
    (folder / "site.toml").touch()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as own:
        code, out = examined(folder, "--folder", own)
        assert not list(Path(own).iterdir())
    assert code == 1
    assert f"do the nodes see {own}?" in out


@pytest.mark.usefixtures("slurm")
def test_a_job_that_waits_is_explained_and_given_up(folder: Path) -> None:
    code, out = examined(folder, "--limit-s", "1", sbatch="hold = true")
    assert code == 1
    assert "it did not start in 1 s: it is held by its owner; scontrol release ends that (JobHeldUser)" in out
    assert "--limit-s" in out


@pytest.mark.usefixtures("slurm")
@pytest.mark.parametrize(
    "how",
    [
        signal.SIGTERM,
        pytest.param(signal.SIGINT, marks=pytest.mark.long),
        pytest.param(signal.SIGHUP, marks=pytest.mark.long),
    ],
)
def test_stopped_in_the_middle_it_leaves_nothing(folder: Path, how: signal.Signals) -> None:
    process = started(folder)
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if "ports between nodes" in line:
            break
    process.send_signal(how)
    out, _ = process.communicate(timeout=500)
    assert process.returncode == 130, "".join(seen) + out
    assert "✓ nothing left behind" in out
    assert "Traceback" not in out


@pytest.mark.long
@pytest.mark.usefixtures("slurm")
def test_thorough_waits_for_a_real_walltime(folder: Path) -> None:
    code, out = examined(folder, "--thorough", network_interface="lo")  # so that it need not wait for Ray
    assert code == 1
    assert "✓ requeue: the job was queued again and has started a second time" in out
    assert re.search(r"✓ signal before walltime: USR2 came \d+ s after the start, asked for 60 s before", out)
