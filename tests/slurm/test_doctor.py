"""The doctor on a real SLURM: what it finds sound, what it misses, and that it leaves nothing behind."""

import re
import signal
import subprocess
import sys
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
    assert {title for title, mark in found.items() if mark == "–"} == {"GPUs of the partition"}, out
    assert "✗" not in found.values()
    assert list(found)[-7:] == [
        "GPUs", "all-reduce between nodes", "Ray head and worker", "files of other machines", "signal", "requeue",
        "nothing left behind",
    ]  # fmt: skip
    assert "gloo, 16.8 MB of 2 nodes" in out
    assert "head on node1, worker on node2" in out
    assert "Ray's files are in /tmp" in out


@pytest.mark.long
@pytest.mark.usefixtures("slurm")
def test_an_interface_that_leads_nowhere_is_found(folder: Path) -> None:
    code, out = examined(folder, network_interface="lo", gres="gpu", gpus_per_node=2)
    assert code == 1
    found = marks(out)
    missing = {title for title, mark in found.items() if mark == "✗"}
    assert missing == {"GPUs", "all-reduce between nodes", "Ray head and worker"}
    assert found["requeue"] == "✓"
    assert "-> set network_interface in the site" in out
    assert re.search(r"GPUs: the job was given 1 and torch \S+ sees 0", out)  # the test bed's are no GPUs


@pytest.mark.usefixtures("slurm")
def test_a_setup_that_fails_is_shown_with_its_own_words(folder: Path) -> None:
    code, out = examined(folder, setup=["echo 'module: no such thing' >&2; exit 3"])
    assert code == 1
    assert "✗ folder shared: job" in out
    assert "err | module: no such thing" in out
    assert marks(out)["nothing left behind"] == "✓"


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
        if "jobs submitted by nodes" in line:
            break
    process.send_signal(how)
    out, _ = process.communicate(timeout=500)
    assert process.returncode == 130, "".join(seen) + out
    assert "✓ nothing left behind" in out
    assert "Traceback" not in out
