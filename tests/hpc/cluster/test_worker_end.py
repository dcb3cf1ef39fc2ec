"""A worker's job whose Ray node ends: as it was to, or by itself, which is a fault that is told. No Ray runs.

`ray` is a script beside a `python` that is the interpreter's own place as `hpc.cluster.worker` sees it.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpc.cluster.cluster_folder import ClusterFolder, Head
from hpc.cluster.worker import FAILED, SUCCESS
from hpc.sites.site import Site

ROOT = Path(__file__).resolve().parents[3]
GENERATION = "0123456789abcdef"
# It tells when it has seen its raylet, which ends no sooner.
AS_INSTALLED_IN = """
import os, sys
from pathlib import Path

sys.executable = sys.argv.pop(1)
from hpc.cluster import worker
from hpc.ray import node

look = node.child_of

def seen(*words):
    raylet = look(*words)
    if raylet:
        Path(os.environ["END"] + ".seen").touch()
    return raylet

node.child_of, worker.CHECK_S = seen, 0.1
worker.WANTED_LIMIT_S, node.EXIT_LIMIT_S = (float(word) for word in os.environ["LIMITS"].split())
sys.exit(worker.main())
"""
# Like `ray start --block`: it ends when its raylet ended with a code other than 0, and stays otherwise.
RAY = """#!/bin/sh
for word in "$@"; do case $word in --temp-dir=*) folder="${word#--temp-dir=}";; esac; done
mkdir -p "$folder/session_2026-01-01/logs"
cp "$LAST_WORDS" "$folder/session_2026-01-01/logs/raylet.out"
echo "a rank's own words" > "$folder/session_2026-01-01/logs/worker-1.out"
"${0%/*}/raylet" &
raylet=$!
trap 'kill $raylet; exit 0' TERM
wait $raylet
code=$?
[ $code -ne 0 ] || exec sleep 600
echo "Some Ray subprocesses exited unexpectedly: raylet [exit code=$code]"
exit 1
"""
RAYLET = """#!/bin/sh
touch "$END.up"
while [ ! -e "$END" ] || [ ! -e "$END.seen" ]; do sleep 0.1; kill -0 $PPID || exit 1; done 2>/dev/null
exit "$(cat "$END")"
"""
LAST_WORDS = "Raylet could not connect to Runtime Env Agent\n"
TOLD = r"the Ray node of job 7 was not to end, and ended \d+ s after its start \((?P<what>.*)\); its logs: (?P<logs>.*)"


class Worker:
    """A cluster's folder with a head that listens, and a worker's job whose raylet is up.

    Limits: how many seconds it waits for a sign that its end was wanted, and for the end of `ray start`.
    """

    def __init__(self, tmp_path: Path, limits: str) -> None:
        self.folder = ClusterFolder(tmp_path / "cluster")
        self.folder.make(Site(cpus_per_node=1, walltime_min=10, network_interface="lo"), "demo")
        self.folder.set_head(Head(address="127.0.0.1:1", generation=GENERATION, job="6"))
        self._end, words = tmp_path / "end", tmp_path / "words"
        words.write_text(LAST_WORDS)
        python = tmp_path / "bin" / "python"
        python.parent.mkdir()
        for name, text in (
            ("python", f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n'),
            ("ray", RAY),
            ("raylet", RAYLET),
        ):
            (python.parent / name).write_text(text)
            (python.parent / name).chmod(0o755)
        job = {"SLURM_JOB_ID": "7", "SLURM_CPUS_ON_NODE": "1", "PYTHONPATH": str(ROOT)}
        fake = {"END": str(self._end), "LAST_WORDS": str(words), "LIMITS": limits}
        self.process = subprocess.Popen(
            [sys.executable, "-c", AS_INSTALLED_IN, str(python), str(self.folder.path), GENERATION],
            env=os.environ | job | fake, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        end_s = time.monotonic() + 300.0
        while not self._end.with_name("end.up").exists():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < end_s

    def end_raylet(self, code: int) -> None:
        """Its raylet ends by itself, with that code."""
        temporary = self._end.with_name("end.new")
        temporary.write_text(str(code))
        temporary.rename(self._end)

    def ended(self) -> tuple[int, str, str]:
        """The job's exit code, and what it wrote to its two logs."""
        out, said = self.process.communicate(timeout=300.0)
        return self.process.returncode, out, said

    @property
    def kept(self) -> list[str]:
        """What is kept of Ray's own logs."""
        return sorted(str(file.relative_to(self.folder.logs)) for file in self.folder.logs.glob("*/*"))


@pytest.fixture
def worker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Worker]:
    worker = Worker(tmp_path, getattr(request, "param", "300 300"))
    yield worker
    worker.process.kill()
    worker.process.communicate()


@pytest.mark.parametrize(
    ("worker", "code", "what"),
    [("0.5 0.5", 0, "its raylet"), ("0.5 300", 134, "`ray start` with code 1")],
    indirect=["worker"],
)
def test_a_node_that_ends_by_itself_is_a_fault_and_says_why(worker: Worker, code: int, what: str) -> None:
    worker.end_raylet(code)
    returned, out, said = worker.ended()
    assert returned == FAILED
    reason = re.fullmatch(TOLD, said.splitlines()[-1])
    assert reason, said
    assert reason["what"] == what
    assert reason["logs"] == str(worker.folder.logs / "ray-worker-7")
    assert worker.kept == ["ray-worker-7/raylet.out"]
    assert (worker.folder.logs / "ray-worker-7" / "raylet.out").read_text() == LAST_WORDS
    assert ("raylet [exit code=134]" in out) == (code == 134)
    assert "this worker ends" not in out


def _released_by_the_driver_a_moment_late(worker: Worker) -> None:
    worker.end_raylet(0)
    worker.folder.release("7")


def _head_ended(worker: Worker) -> None:
    worker.folder.unset_head(GENERATION)


def _head_ended_and_the_raylet_saw_it_first(worker: Worker) -> None:
    worker.end_raylet(134)
    worker.folder.unset_head(GENERATION)


def _warned(worker: Worker) -> None:
    worker.process.send_signal(signal.SIGUSR2)


def _ended_by_slurm(worker: Worker) -> None:
    worker.process.send_signal(signal.SIGTERM)


@pytest.mark.check
@pytest.mark.parametrize(
    ("comes", "why"),
    [
        (_released_by_the_driver_a_moment_late, "the driver has released the node"),
        (_head_ended, "its head has ended"),
        (_head_ended_and_the_raylet_saw_it_first, "its head has ended"),
        (_warned, "SLURM warned of the job's end, and the node was drained"),
        (_ended_by_slurm, "SLURM ends the job"),
    ],
)
def test_an_end_that_was_wanted_is_none(comes: object, why: str, worker: Worker) -> None:
    assert callable(comes)
    comes(worker)
    returned, out, said = worker.ended()
    assert (returned, said) == (SUCCESS, "")
    assert out.splitlines()[-1] == f"this worker ends: {why}"
    assert worker.kept == []
