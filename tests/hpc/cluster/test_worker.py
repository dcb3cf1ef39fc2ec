"""A worker that SLURM warns of its end (USR2) before it is of use: it ends in peace, at whatever moment that comes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hpc.cluster.cluster_folder import ClusterFolder, Head
from hpc.cluster.worker import FAILED
from hpc.errors import FolderError
from hpc.sites.site import Site
from sweeps.slurm.cluster_run import worker_command
from transtailor.files import write_folder
from transtailor.sources import code_digest, sources

ROOT = Path(__file__).resolve().parents[3]
KEPT = """
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
os.kill(os.getpid(), signal.SIGUSR2)
from hpc.cluster.worker import Warnings
heard = Warnings()
print(heard.is_near, signal.pthread_sigmask(signal.SIG_BLOCK, []))
"""


@pytest.fixture
def folder(tmp_path: Path) -> ClusterFolder:
    """A cluster's folder in which no head has told where it listens: a worker waits for one, for minutes."""
    folder = ClusterFolder(tmp_path / "cluster")
    folder.make(Site(cpus_per_node=1, walltime_min=10), "demo")
    return folder


def worker_words(folder: ClusterFolder) -> list[str]:
    """What starts a worker of that cluster, on a copy of the code beside it."""
    files = sources()
    write_folder(folder.path.parent / "code", files)
    return [*worker_command(folder.path.parent / "code", code_digest(files)), str(folder.path), "0123456789abcdef"]


def _ignores_the_warning(process: subprocess.Popen[str]) -> bool:
    """Whether the kernel says so: bash has read its first word."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    (ignored,) = [int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigIgn")]
    return bool(ignored & 1 << (signal.SIGUSR2 - 1))


def test_a_worker_that_is_warned_all_the_time_from_its_first_moment_does_not_die_of_it(folder: ClusterFolder) -> None:
    words = worker_words(folder)
    job = {"SLURM_JOB_ID": "7", "SLURM_CPUS_ON_NODE": "1"}
    process = subprocess.Popen(words, env=os.environ | job, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        end_s = time.monotonic() + 300.0
        while not _ignores_the_warning(process):
            assert process.poll() is None
            assert time.monotonic() < end_s
        while process.poll() is None and time.monotonic() < end_s:
            process.send_signal(signal.SIGUSR2)
            time.sleep(0.001)  # so that Python gets on in between
        out, said = process.communicate(timeout=300.0)
    finally:
        process.kill()
        process.communicate()
    assert (process.returncode, out) == (FAILED, "")
    assert said == "SLURM warned this job of its end before it had joined a head\n"


@pytest.mark.parametrize("planted", ["torch.py", "hpc/errors.py"])
def test_a_worker_does_not_run_code_that_was_not_launched(folder: ClusterFolder, planted: str) -> None:
    words = worker_words(folder)
    with (folder.path.parent / "code" / planted).open("a") as file:
        file.write("\n# planted\n")
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300.0)
    assert (done.returncode, done.stdout) == (FAILED, "")
    assert "is not the copy of the code that was launched" in done.stderr


def test_a_worker_does_not_join_where_others_say_what_it_does(folder: ClusterFolder) -> None:
    code = folder.path.parent / "code"
    write_folder(code, sources())
    folder.token.chmod(0o640)
    words = [*worker_command(code, code_digest(sources())), str(folder.path), "0123456789abcdef"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300.0)
    assert (done.returncode, done.stdout) == (FAILED, "")
    assert f"others can read {folder.token} (mode 640)" in done.stderr


def test_a_worker_whose_folder_cannot_be_read_ends_with_a_line(folder: ClusterFolder) -> None:
    folder.set_head(Head(address="127.0.0.1:1", generation="0123456789abcdef", job="6"))
    (folder.path / "site.json").unlink()
    (folder.path / "site.json").mkdir()
    job = {"SLURM_JOB_ID": "7", "SLURM_CPUS_ON_NODE": "1"}
    words = worker_words(folder)
    done = subprocess.run(words, env=os.environ | job, capture_output=True, text=True, check=False, timeout=300.0)
    assert (done.returncode, done.stdout) == (FAILED, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"the cluster's folder {folder.path} cannot be read: [Errno 21] Is a directory")


def test_what_the_file_system_reports_is_an_error_of_the_cluster(folder: ClusterFolder) -> None:
    for name in ("released", "token"):
        (folder.path / name).unlink(missing_ok=True)
        (folder.path / name).symlink_to("n" * 300)  # ENAMETOOLONG, which `exists` raises, like ESTALE
    with pytest.raises(FolderError, match="cannot be read"):
        folder.is_released("7")
    with pytest.raises(FolderError, match="cannot be read"):
        folder.check()


def test_a_warning_that_came_before_anybody_listened_is_heard() -> None:
    done = subprocess.run([sys.executable, "-c", KEPT], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "True set()\n"
