"""Commands of SLURM that hang, or cannot be started, while a cluster runs: it goes on. Fakes of SLURM, and no Ray."""

import errno
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hpc.cluster.cluster import Cluster
from hpc.cluster.cluster_folder import ClusterFolder
from hpc.cluster.needs import RankNeed
from hpc.cluster.nodes import WorkerNode
from hpc.sites.site import Site, SubmissionLimits
from tests.hpc.fakes.commands import FakeSlurm, end_hanging_on, is_asking, started_from
from transtailor.waiting import wait_for

SITE = Site(cpus_per_node=2, walltime_min=60, drain_before_s=120, idle_s=50, limits=SubmissionLimits(max_jobs=4))
LIMIT_S = 300.0  # for what takes a fraction of a second on a machine that has nothing else to do
HANGS = {"hang": True}


class Sweep:
    """A cluster that wants one worker, and what it was told."""

    def __init__(self, tmp_path: Path, slurm: FakeSlurm) -> None:
        folder = ClusterFolder(tmp_path / "cluster")
        folder.make(SITE, "demo")
        self.slurm = slurm
        self.logs = folder.logs
        self.events: list[tuple[str, str | None]] = []
        self.details: list[str] = []
        self.cluster = Cluster(
            folder, SITE, "0123456789abcdef", RankNeed(ranks=1, cpus_per_rank=1), ("worker",), self._note
        )
        self.cluster.wanted_slots = 2
        self.nodes: dict[str, WorkerNode] = {}

    def _note(self, kind: str, *, job: str | None = None, node: str | None = None, detail: str | None = None) -> None:  # noqa: ARG002
        self.events.append((kind, job))
        self.details.append(detail or "")

    def set_node(self, job: str, *, alive: bool = True) -> None:
        """A node of Ray joins for that job, or is dead."""
        self.nodes[job] = WorkerNode(id=f"node-{job}", host="node1", alive=alive, places=2, busy=True)

    def tick_until(self, happened: Callable[[], bool], now_s: float) -> None:
        """Ticks at one moment until that is so."""
        end_s = time.monotonic() + LIMIT_S
        while not happened():
            assert time.monotonic() < end_s, self.events
            self.cluster.observe(self.nodes, frozenset(), now_s)
            self.cluster.reconcile(now_s)


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sweep]:
    """A command that hangs does so for longer than the test may take: whoever waited for it would never come back."""
    monkeypatch.setattr("hpc.cluster.cluster.CLOSE_S", 0.5)
    slurm = FakeSlurm(tmp_path, monkeypatch)
    monkeypatch.setattr("hpc.slurm.calls.LIMIT_S", 3600.0)
    slurm.says("squeue", "")
    slurm.says("scancel", "")
    slurm.says("sbatch", "101\n", "102\n")
    sweep = Sweep(tmp_path, slurm)
    sweep.tick_until(lambda: ("worker_submitted", "101") in sweep.events, 1000.0)
    sweep.set_node("101")
    sweep.tick_until(lambda: sweep.cluster.slots == 2, 1001.0)
    yield sweep
    end_hanging_on(tmp_path)


@pytest.mark.parametrize("command", ["squeue", "sbatch", "scancel"])
def test_while_a_command_hangs_workers_are_seen_and_the_other_commands_are_called(command: str, sweep: Sweep) -> None:
    slurm, cluster = sweep.slurm, sweep.cluster
    before = {name: len(slurm.calls(name)) for name in ("squeue", "sbatch", "scancel")}
    slurm.says(command, *[""] * before[command], HANGS)  # those before are over
    sweep.set_node("101", alive=False)

    def all_were_called() -> bool:
        return all(len(slurm.calls(name)) > number for name, number in before.items())

    sweep.tick_until(all_were_called, 1100.0)
    assert ("worker_lost", "101") in sweep.events
    assert slurm.calls("scancel")[-1] == ["101"]
    assert cluster.slots == 0
    sweep.set_node("77")  # of an earlier driver of the sweep
    sweep.tick_until(lambda: cluster.slots == 2, 1101.0)
    assert ("worker_joined", "77") in sweep.events
    if command != "sbatch":
        sweep.tick_until(lambda: ("worker_submitted", "102") in sweep.events, 1102.0)
    assert started_from(slurm.folder), "the command has hung all the while"


def test_what_cannot_be_cancelled_is_cancelled_again_when_the_queue_still_has_it(sweep: Sweep) -> None:
    slurm, cluster = sweep.slurm, sweep.cluster
    slurm.says("scancel", {"error": "scancel: error: Socket timed out on send/recv operation", "returncode": 1}, "")
    cluster.wanted_slots = 0
    sweep.set_node("101", alive=False)
    sweep.tick_until(lambda: ("worker_refused", None) in sweep.events and not is_asking(cluster), 1100.0)
    slurm.says("squeue", f"101|RUNNING|NONE|node1|None|{cluster.job_name}\n")
    sweep.tick_until(lambda: len(slurm.calls("scancel")) == 2 and not is_asking(cluster), 1140.0)
    assert slurm.calls("scancel") == [["101"], ["101"]]
    slurm.says("squeue", "")
    looks = len(slurm.calls("squeue"))
    sweep.tick_until(lambda: len(slurm.calls("squeue")) == looks + 1 and not is_asking(cluster), 1180.0)
    assert len(slurm.calls("scancel")) == 2


def test_a_sweep_ends_while_scancel_hangs(sweep: Sweep) -> None:
    sweep.slurm.says("scancel", HANGS)
    sweep.cluster.wanted_slots = 4
    sweep.tick_until(lambda: ("worker_submitted", "102") in sweep.events, 1002.0)
    sweep.cluster.close()
    assert wait_for(lambda: sweep.slurm.calls("scancel") or None, "the call", LIMIT_S) == [["102"]]
    assert started_from(sweep.slurm.folder), "nobody has waited for it"


def _no_process(patch: pytest.MonkeyPatch, _: Sweep) -> None:
    class NoProcess(subprocess.Popen[str]):
        def __init__(self, *_: object, **__: object) -> None:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

        def __del__(self) -> None:
            pass

    patch.setattr(subprocess, "Popen", NoProcess)


def _no_thread(patch: pytest.MonkeyPatch, _: Sweep) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")  # as Python does

    patch.setattr(threading.Thread, "start", start)


def _no_folder(_: pytest.MonkeyPatch, sweep: Sweep) -> None:
    sweep.logs.rename(sweep.logs.with_name("away"))
    sweep.logs.write_text("in the way")


@pytest.mark.parametrize(
    ("breaks", "said"),
    [
        (_no_process, "sbatch did not submit .*Resource temporarily unavailable"),
        (_no_thread, "can't start new thread"),
        (_no_folder, "File exists"),
    ],
)
def test_what_the_drivers_node_lacks_for_a_while_is_reported_and_tried_again(
    breaks: Callable[[pytest.MonkeyPatch, Sweep], None], said: str, sweep: Sweep
) -> None:
    sweep.set_node("101", alive=False)
    with pytest.MonkeyPatch.context() as patch:
        breaks(patch, sweep)
        sweep.tick_until(
            lambda: any(re.search(said, text) for text in sweep.details) and not is_asking(sweep.cluster), 1100.0
        )
    if sweep.logs.is_file():
        sweep.logs.unlink()
        sweep.logs.with_name("away").rename(sweep.logs)
    assert ("worker_submitted", "102") not in sweep.events
    sweep.tick_until(lambda: ("worker_submitted", "102") in sweep.events, 3000.0)
