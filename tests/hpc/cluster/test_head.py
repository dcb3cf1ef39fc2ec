"""A controller's job whose Ray head does not start: tried again, then given up in a way that a launch can go on from.

`ray` is a script beside a `python` that is the interpreter's own place as `hpc.cluster.head` sees it; no Ray runs.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from hpc.cluster.cluster_folder import ClusterFolder
from hpc.cluster.head import HEAD_TRIES, MAX_SHORT_RUNS
from hpc.sites.site import Site
from transtailor.errors import MISTAKE, TRY_AGAIN

ROOT = Path(__file__).resolve().parents[3]
AS_INSTALLED_IN = """
import sys
sys.executable = sys.argv.pop(1)
from hpc.cluster import head
head.FOLDER_LIMIT_S, head.WORKED_S = float(sys.argv.pop(1)), float(sys.argv.pop(1))
sys.exit(head.main())
"""
# The first FAILING heads write a log as Ray does, and end; the next tells an address, and stays until END is there.
RAY = """#!/bin/sh
for word in "$@"; do case $word in --temp-dir=*) folder="${word#--temp-dir=}";; --port=*) port="$word";; esac; done
echo "$folder $port" >> "$STARTS"
if [ "$(wc -l < "$STARTS")" -le "$FAILING" ]; then
    mkdir -p "$folder/session_2026-01-01/logs"
    echo "the port is taken" > "$folder/session_2026-01-01/logs/gcs_server.err"
    exit 1
fi
mkdir -p "$folder/session_2026-01-01/logs"
cd "$folder/session_2026-01-01/logs"
echo "the disk is full" > gcs_server.out
echo "127.0.0.1:1" > "$folder/ray_current_cluster"
[ -z "$THEN" ] || touch "$THEN"
while [ ! -e "$END" ]; do sleep 0.1; done
"""


class Controller:
    """A cluster's folder, and the job that is to hold its head."""

    def __init__(self, tmp_path: Path) -> None:
        self.folder = ClusterFolder(tmp_path / "cluster")
        tell = ("sh", "-c", 'echo "$1" "$2" >> "$2/told"', "tell")
        self.folder.make(Site(cpus_per_node=1, walltime_min=10, network_interface="lo", on_end=tell), "demo")
        self._python, self._starts = tmp_path / "bin" / "python", tmp_path / "starts"
        (tmp_path / "bin").mkdir()
        python, scontrol = f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n', "#!/bin/sh\necho no >&2\nexit 1\n"
        for name, text in (("python", python), ("ray", RAY), ("scontrol", scontrol)):
            (tmp_path / "bin" / name).write_text(text)
            (tmp_path / "bin" / name).chmod(0o755)

    def run(
        self,
        *command: str,
        failing: int,
        restarts: int = 0,
        limit_s: float = 0.5,
        worked_s: float = 1800.0,
        then: Path | None = None,
        log: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """The job, with a `ray` that fails so often before it starts a head; that one makes the file `then`.

        The shared folder may take no file for `limit_s`; after `worked_s` that is a new fault. `log` takes what the
        job prints, instead of the result.
        """
        job = {
            "SLURM_RESTART_COUNT": str(restarts),
            "SLURM_JOB_ID": "7",
            "SLURM_CPUS_ON_NODE": "1",
            "PYTHONPATH": str(ROOT),
        }
        fake = {
            "STARTS": str(self._starts),
            "FAILING": str(failing),
            "END": str(self._starts.with_name("end")),
            "THEN": str(then or ""),
        }
        fake["PATH"] = f"{self._python.parent}:{os.environ['PATH']}"
        limits = [str(limit_s), str(worked_s)]
        words = ["-c", AS_INSTALLED_IN, str(self._python), *limits, str(self.folder.path), "--", *command]
        with open(log or os.devnull, "w") as file:  # noqa: PTH123
            taker = subprocess.PIPE if log is None else file
            return subprocess.run(
                [sys.executable, *words], env=os.environ | job | fake, stdout=taker,
                stderr=taker, text=True, timeout=500, check=False,
            )  # fmt: skip

    @property
    def starts(self) -> list[str]:
        """The folder and the port of each start of a head."""
        return self._starts.read_text().splitlines()

    def took_told(self) -> list[str]:
        """What `on_end` was called with since the last question; the run's folder is left out."""
        file = self.folder.path.parent / "told"
        lines = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        assert all(line.endswith(f" {self.folder.path.parent}") for line in lines)
        return [line.split()[0] for line in lines]

    @property
    def kept_logs(self) -> list[Path]:
        """What is left of Ray's own logs."""
        return sorted(self.folder.logs.glob("ray-head-*/gcs_server.err"))


@pytest.fixture
def controller(tmp_path: Path) -> Controller:
    return Controller(tmp_path)


def test_a_head_that_does_not_start_is_tried_again_on_other_ports(controller: Controller) -> None:
    done = controller.run(sys.executable, "-c", "print('the driver runs'); raise SystemExit(3)", failing=1)
    assert done.returncode == 3, done.stderr
    assert "the driver runs" in done.stdout
    first, second = (start.split() for start in controller.starts)
    assert first[0] != second[0]
    assert first[1] == second[1] == "--port=0"  # the kernel chooses
    (kept,) = controller.kept_logs
    assert f"start 1 of at most {HEAD_TRIES}: the Ray head ended while it started" in done.stdout
    assert str(kept.parent) in done.stdout
    assert kept.read_text() == "the port is taken\n"
    assert controller.folder.head() is None
    assert controller.took_told() == []  # the command has called it


@pytest.mark.check
def test_after_so_many_tries_the_job_ends_and_says_how_to_go_on(controller: Controller) -> None:
    done = controller.run("touch", str(controller.folder.path / "ran"), failing=99)
    assert done.returncode == TRY_AGAIN
    assert len(controller.starts) == len(controller.kept_logs) == HEAD_TRIES
    for kept in controller.kept_logs:
        assert str(kept.parent) in done.stdout
    last = done.stdout.splitlines()[-1]
    assert last.startswith(f"no Ray head started in {HEAD_TRIES} tries")
    assert last.endswith("; launch the sweep again to resume")
    assert "Traceback" not in done.stderr
    assert not (controller.folder.path / "ran").exists()
    assert controller.took_told() == ["failed"]
    assert not any(Path(start.split()[0]).parent.exists() for start in controller.starts)


@pytest.mark.check
def test_a_shared_folder_that_takes_no_file_is_said_and_the_job_queued_again(controller: Controller) -> None:
    in_the_way = controller.folder.path / "head.json"
    in_the_way.mkdir()
    done = controller.run("touch", str(controller.folder.path / "ran"), failing=0)
    assert done.returncode == TRY_AGAIN
    said = f"waited 0.5 s for room in the shared folder {controller.folder.path}: "
    assert f"job 7 is queued again: {said}" in done.stdout
    assert "scontrol failed" in done.stdout  # this one refuses; launch again, it says
    assert "Traceback" not in done.stderr
    assert controller.took_told() == ["failed"]  # as no other job will
    again = controller.run("true", failing=0, restarts=99)
    said = "; the job was queued again 99 times in all: fix the folder and launch the sweep again"
    assert (again.returncode, said in again.stdout) == (TRY_AGAIN, True)  # most of them may be of other walltimes
    assert controller.took_told() == ["failed"]
    later = controller.run("true", failing=0, restarts=99, worked_s=0.1)
    assert "job 7 is queued again: " in later.stdout  # a folder that did work until then
    assert controller.took_told() == ["failed"]
    in_the_way.rmdir()
    assert controller.run("true", failing=0).returncode == 0
    assert controller.took_told() == []


@pytest.mark.check
def test_a_disk_that_takes_no_log_either_keeps_no_job_from_the_queue(controller: Controller) -> None:
    (controller.folder.path / "head.json").mkdir()
    controller.run("true", failing=0, log="/dev/full")
    assert controller.took_told() == ["failed"]  # SLURM was asked, and this one refuses


def test_a_stop_is_heard_while_the_head_starts(controller: Controller) -> None:
    controller.folder.stop.touch()
    done = controller.run("touch", str(controller.folder.path / "ran"), failing=0)
    assert done.returncode == MISTAKE
    assert "a stop was requested while the Ray head started" in done.stdout
    assert not (controller.folder.path / "ran").exists()
    assert controller.took_told() == ["interrupted"]


@pytest.mark.check
def test_a_stop_is_heard_while_the_shared_folder_takes_no_file(controller: Controller) -> None:
    (controller.folder.path / "head.json").mkdir()
    done = controller.run("touch", "ran", failing=0, limit_s=400.0, then=controller.folder.stop)
    assert done.returncode == MISTAKE
    assert "a stop was requested while the Ray head started" in done.stdout
    assert controller.took_told() == ["interrupted"]


@pytest.mark.check
def test_a_command_that_always_ends_at_once_is_given_up(controller: Controller) -> None:
    done = controller.run("sh", "-c", f"exit {TRY_AGAIN}", failing=0)
    assert done.returncode == MISTAKE
    assert f"the command ended within 60 s {MAX_SHORT_RUNS} times in a row" in done.stdout
    assert controller.took_told() == ["failed"]


@pytest.mark.check
def test_a_site_that_cannot_be_read_is_reported_without_a_traceback(controller: Controller) -> None:
    site = controller.folder.path / "site.json"
    for damage, code, said in (
        (lambda: site.write_text("{"), MISTAKE, f"{site} is damaged; launch the sweep again"),
        (lambda: (site.unlink(), site.mkdir()), TRY_AGAIN, "cannot be read: [Errno 21] Is a directory"),
    ):
        damage()
        done = controller.run("true", failing=0)
        assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
        assert said in done.stdout


def test_a_head_that_ends_says_what_it_died_of_and_its_logs_are_kept(controller: Controller) -> None:
    done = controller.run("sh", "-c", 'touch "$END"; exec sleep 600', failing=0)
    assert done.returncode == TRY_AGAIN, done.stderr
    said = re.search(
        r"^the Ray head ended \d+ s after its start \(`ray start` with code 0\); "
        r"its logs: (.*/ray-head-[0-9a-f]{8})$",
        done.stdout,
        re.MULTILINE,
    )
    assert said, done.stdout
    assert "the disk is full" in (Path(said[1]) / "gcs_server.out").read_text()
    assert controller.folder.head() is None
