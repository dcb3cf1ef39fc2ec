"""The workers of a cluster: real Ray nodes where some join, SLURM's commands faked, and a clock that the test moves."""

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hpc.cluster.cluster_folder import ClusterFolder, Head
from hpc.cluster.needs import START_LIMIT_S, RankNeed, limits_of
from hpc.cluster.nodes import worker_nodes
from hpc.errors import GpuHoursSpentError, SiteError
from hpc.ray.private import drain_node, draining_nodes, release_node
from hpc.sites.site import Site, SubmissionLimits
from tests.hpc.fakes.commands import FakeSlurm, is_asking, without_hanging_on
from transtailor.waiting import wait_for

SITE = Site(cpus_per_node=2, walltime_min=60, drain_before_s=120, idle_s=50, limits=SubmissionLimits(max_jobs=4))
NEED = RankNeed(ranks=1, cpus_per_rank=1)
GENERATION = "0123456789abcdef"
LIMIT_S = 300.0  # for what takes a fraction of a second on a machine that has nothing else to do


@pytest.mark.parametrize(
    ("need", "max_jobs", "slots_per_worker", "workers_per_slot"),
    [
        (RankNeed(ranks=1, cpus_per_rank=1), 4, 8, 1),
        (RankNeed(ranks=2, cpus_per_rank=3), 4, 1, 1),
        (RankNeed(ranks=4, cpus_per_rank=4), 4, 1, 2),
        (RankNeed(ranks=1, cpus_per_rank=1, gpus_per_rank=0.25), 4, 8, 1),
        (RankNeed(ranks=1, cpus_per_rank=1, gpus_per_rank=1), 4, 4, 1),
        (RankNeed(ranks=2, cpus_per_rank=1, gpus_per_rank=4), 4, 1, 2),
    ],
)
def test_how_many_trials_a_node_takes(
    need: RankNeed, max_jobs: int, slots_per_worker: int, workers_per_slot: int
) -> None:
    site = Site(cpus_per_node=8, gpus_per_node=4, walltime_min=60, limits=SubmissionLimits(max_jobs=max_jobs))
    limits = limits_of(site, need)
    assert (limits.slots_per_worker, limits.workers_per_slot) == (slots_per_worker, workers_per_slot)
    assert limits.max_workers == max_jobs - 1  # the controller is a job, too


@pytest.mark.parametrize(
    "need",
    [
        RankNeed(ranks=1, cpus_per_rank=9),
        RankNeed(ranks=1, cpus_per_rank=1, gpus_per_rank=5),
        RankNeed(ranks=40, cpus_per_rank=8),
    ],
)
def test_what_does_not_fit_is_refused_with_what_there_is(need: RankNeed) -> None:
    site = Site(cpus_per_node=8, gpus_per_node=4, walltime_min=60, limits=SubmissionLimits(max_jobs=4))
    with pytest.raises(SiteError, match=r"does not fit: a node has 8 CPUs and 4 GPUs, and limits.max_jobs = 4"):
        limits_of(site, need)


def test_a_walltime_that_leaves_no_time_to_drain_is_refused() -> None:
    with pytest.raises(SiteError, match=r"drain_before_s = 120 is half of its walltime or more \(walltime_min = 4\)"):
        limits_of(Site(cpus_per_node=1, walltime_min=4, drain_before_s=120), NEED)


def test_a_clock_that_is_set_changes_no_wait(machine: "Machine", monkeypatch: pytest.MonkeyPatch) -> None:
    really, before_s = time.time, machine.cluster.now_s
    monkeypatch.setattr(time, "time", lambda: really() - 7200.0)
    assert 0.0 <= machine.cluster.now_s - before_s < LIMIT_S


class Machine:
    """A folder and a `Cluster` whose events are kept; with a Ray head, which others have, too, or without any Ray."""

    def __init__(self, tmp_path: Path, slurm: FakeSlurm, ray_cluster: Any) -> None:
        self.slurm, self.ray = slurm, ray_cluster
        self.folder = ClusterFolder(tmp_path / "cluster")
        self.folder.make(SITE, "demo")
        self.events: list[tuple[str, str | None]] = []
        self.cluster = self.at(SITE)
        self.name = self.cluster.job_name

    def at(self, site: Site, need: RankNeed = NEED, **more: float) -> Any:
        """A cluster at another site, or for other trials."""
        from hpc.cluster.cluster import Cluster

        return Cluster(self.folder, site, GENERATION, need, ("worker",), self._note, **more)

    def _note(self, kind: str, *, job: str | None = None, node: str | None = None, detail: str | None = None) -> None:  # noqa: ARG002
        self.events.append((kind, job))

    def join(self, job: str) -> Any:
        """A Ray node of that job joins; no two of this file's tests may have the same jobs."""
        return self.ray.add_node(num_cpus=2, labels={"slurm-job": job})

    def tick(self, now_s: float, cluster: Any = None) -> None:
        """Ticks at one moment until SLURM's answers are in, and what follows from them is done."""
        cluster = cluster or self.cluster
        end_s = time.monotonic() + LIMIT_S
        self._tick_once(cluster, now_s)
        while is_asking(cluster):
            assert time.monotonic() < end_s, self.events
            time.sleep(0.01)
            self._tick_once(cluster, now_s)

    def _tick_once(self, cluster: Any, now_s: float) -> None:
        if self.ray is not None:
            cluster.tick(now_s)
            return
        cluster.observe({}, frozenset(), now_s)
        cluster.reconcile(now_s)

    def since(self, number: int) -> list[tuple[str, str | None]]:
        """The events after the first `number`."""
        return self.events[number:]


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    slurm = FakeSlurm(tmp_path, monkeypatch)
    slurm.says("sbatch", *(f"{number}\n" for number in range(101, 110)))
    slurm.says("squeue", "")
    slurm.says("scancel", "")
    return slurm


@pytest.fixture
def machine(tmp_path: Path, slurm: FakeSlurm) -> Machine:
    return Machine(tmp_path, slurm, None)


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[Any]:
    import ray
    from ray.cluster_utils import Cluster as RayCluster

    ray_cluster = RayCluster()
    ray_cluster.add_node(num_cpus=0, include_dashboard=False)
    ray.init(address=ray_cluster.address, log_to_driver=False)
    yield ray_cluster
    ray.shutdown()
    ray_cluster.shutdown()


@pytest.fixture
def with_ray(tmp_path: Path, slurm: FakeSlurm, ray_cluster: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    yield Machine(tmp_path, slurm, ray_cluster)
    monkeypatch.undo()
    for node in list(ray_cluster.worker_nodes):
        ray_cluster.remove_node(node, allow_graceful=False)
    wait_for(lambda: not any(node.alive for node in worker_nodes(NEED).values()), "the nodes to leave Ray", LIMIT_S)


@pytest.mark.check
def test_a_node_that_dies_while_it_is_drained_or_released_ends_nothing(with_ray: Machine) -> None:
    for job, end in (("303", partial(drain_node, why="its walltime ends", within_s=60.0)), ("304", release_node)):
        node = with_ray.join(job)
        wait_for(lambda job=job: job in worker_nodes(NEED), "the node to join", LIMIT_S)
        with_ray.ray.remove_node(node, allow_graceful=False)
        end(worker_nodes(NEED)[job].id)
        wait_for(lambda job=job: not worker_nodes(NEED)[job].alive, "the node to leave Ray", LIMIT_S)


@pytest.mark.check
def test_a_node_that_was_drained_and_died_between_two_looks_has_left(with_ray: Machine) -> None:
    cluster = with_ray.cluster
    with_ray.slurm.says("squeue", f"301|RUNNING|NONE|node1|None|{with_ray.name}\n")
    with_ray.join("301")
    with_ray.tick(1000.0)
    node = worker_nodes(NEED)["301"]
    drain_node(node.id, "SLURM warned it", 60.0)
    wait_for(lambda: not worker_nodes(NEED)["301"].alive, "the drained node to end", LIMIT_S)
    with_ray.tick(1001.0)
    assert with_ray.events == [("worker_joined", "301"), ("worker_draining", "301"), ("worker_ended", "301")]
    assert cluster.lost_one_since(1000.0)  # trials that were there moved


@pytest.mark.check
def test_a_node_that_is_drained_is_lost_while_a_trial_still_runs_there(with_ray: Machine) -> None:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    class Rank:
        def node(self) -> str:
            return str(ray.get_runtime_context().get_node_id())

    with_ray.join("302")
    wait_for(lambda: "302" in worker_nodes(NEED), "the node to join", LIMIT_S)
    node = worker_nodes(NEED)["302"].id
    rank = ray.remote(Rank).options(num_cpus=1, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False))
    trial = rank.remote()
    assert ray.get(trial.node.remote(), timeout=LIMIT_S) == node
    assert with_ray.cluster.lost_nodes([node]) == []
    drain_node(node, "SLURM warned it", LIMIT_S)
    assert with_ray.cluster.lost_nodes([node]) == [node]
    assert worker_nodes(NEED)["302"].alive


@pytest.mark.check
@pytest.mark.usefixtures("ray_cluster")
def test_however_often_a_trial_looks_at_its_nodes_the_head_is_asked_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import ray

    from hpc.ranks import ray_ranks

    asked: list[str] = []
    monkeypatch.setattr(ray_ranks, "draining_nodes", lambda: asked.append("draining") or draining_nodes())
    whole = ray.nodes
    monkeypatch.setattr(ray, "nodes", lambda: asked.append("all") or whole())
    monkeypatch.setattr(ray_ranks, "LOOK_EVERY_S", 1e9)
    nodes = ray_ranks.GroupNodes()
    assert not any(nodes.check() for _ in range(100))
    assert asked == ["draining", "all"]
    monkeypatch.setattr(ray_ranks, "LOOK_EVERY_S", 0.0)
    monkeypatch.setattr(ray_ranks, "COUNT_EVERY_S", 1e9)
    assert not any(nodes.check() for _ in range(3))
    assert asked[2:] == ["draining"] * 3


@pytest.mark.check
def test_near_its_walltime_a_worker_is_drained_after_its_successor_was_asked_for(with_ray: Machine) -> None:
    from datetime import datetime

    with_ray.slurm.says("sbatch", "201\n", "202\n")
    cluster = with_ray.cluster
    cluster.wanted_slots = 2
    with_ray.tick(1000.0)
    with_ray.join("201")
    end = datetime.fromtimestamp(1000.0 + 3600.0).isoformat()
    running = f"201|RUNNING|{end}|node1|None|{with_ray.name}\n"
    with_ray.slurm.says("squeue", running)
    with_ray.tick(1001.0)
    with_ray.tick(1010.0)  # the queue is asked again soon after somebody joined
    assert with_ray.events == [("worker_submitted", "201"), ("worker_joined", "201")]
    with_ray.tick(1000.0 + 3600.0 - 239.0)
    assert with_ray.since(2) == [("worker_submitted", "202")]
    assert (cluster.slots, len(draining_nodes())) == (2, 0)
    with_ray.slurm.says("squeue", f"{running}202|PENDING|N/A||Priority|{with_ray.name}\n")
    with_ray.tick(1000.0 + 3600.0 - 119.0)
    events = with_ray.since(3)
    assert events[0] == ("worker_draining", "201")
    assert events[1:] in ([], [("worker_ended", "201")])  # idle as it is, the node may have gone already
    assert len(draining_nodes()) <= 1


@pytest.mark.check
def test_an_idle_worker_is_given_back_and_a_new_driver_takes_over_what_is_there(with_ray: Machine) -> None:
    with_ray.folder.set_head(Head(address="node2:1", generation="f" * 16, job="49"))
    cluster = with_ray.cluster = with_ray.at(SITE)
    with_ray.join("77")  # a driver that was killed had asked for it
    running = f"77|RUNNING|NONE|node1|None|{with_ray.name}\n78|PENDING|N/A||Priority|{with_ray.name}\n"
    old = "50|RUNNING|NONE|node2|None|" + with_ray.name.replace(GENERATION[:8], "ffffffff") + "\n"
    foreign = "60|RUNNING|NONE|node2|None|demo-00000000-worker-01234567\n"
    with_ray.slurm.says("squeue", running + old + foreign)
    cluster.wanted_slots = 2
    with_ray.tick(1000.0)
    assert with_ray.slurm.calls("sbatch") == []
    assert with_ray.slurm.calls("scancel") == [["50"]]  # of an earlier head; no other cluster's
    cluster.wanted_slots = 0
    with_ray.tick(1001.0)
    with_ray.tick(1060.0)
    assert ("worker_draining", "77") in with_ray.events
    assert ["78"] in with_ray.slurm.calls("scancel")


def test_a_site_where_workers_die_is_asked_less_and_less(machine: Machine) -> None:
    cluster = machine.cluster
    cluster.wanted_slots = 2
    submitted = []
    for second in range(0, 600):
        machine.tick(1000.0 + second)
        submitted.append(len(machine.slurm.calls("sbatch")))
    assert submitted[-1] <= 9
    assert len(machine.slurm.calls("squeue")) <= 60


def test_a_node_that_boots_is_waited_for_as_the_queue_is(machine: Machine) -> None:
    cluster = machine.cluster
    cluster.wanted_slots = 2
    machine.tick(1000.0)
    machine.slurm.says("squeue", f"101|CONFIGURING|2026-01-01T00:00:00|cloud1|None|{machine.name}\n")
    for moment_s in (1040.0, 1400.0, 1800.0):  # no worker joins before it has booted
        machine.tick(moment_s)
        assert machine.events == [("worker_submitted", "101")]
        assert cluster.waits_for == "1 worker to start; SLURM said: its node is starting"
    machine.slurm.says("squeue", f"101|RUNNING|NONE|cloud1|None|{machine.name}\n")
    machine.tick(1840.0)
    assert machine.since(1) == []
    machine.tick(1840.0 + START_LIMIT_S + 1.0)
    assert ("worker_lost", "101") in machine.events
    assert machine.slurm.calls("scancel")[0] == ["101"]


def test_soon_after_a_submission_slurm_is_asked_why_it_waits(machine: Machine) -> None:
    machine.cluster.wanted_slots = 2
    machine.tick(1000.0)
    assert machine.cluster.waits_for == "1 worker to start"  # it may run by now, or have been cancelled
    machine.slurm.says("squeue", f"101|PENDING|N/A||Priority|{machine.name}\n")
    machine.tick(1003.0)
    assert machine.cluster.waits_for == "1 worker to start; SLURM said: jobs with a higher priority are first"


def test_a_refused_submission_is_told_and_tried_later(machine: Machine) -> None:
    machine.slurm.says("sbatch", {"returncode": 1, "error": "sbatch: error: Invalid qos specification"}, "101\n")
    cluster = machine.cluster
    cluster.wanted_slots = 2
    machine.tick(1000.0)
    assert machine.events == [("worker_refused", None)]
    machine.tick(1001.0)
    assert len(machine.events) == 1
    machine.tick(1100.0)
    assert machine.since(1) == [("worker_submitted", "101")]


def test_a_queue_that_does_not_answer_is_asked_once_and_then_at_the_next_look(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = machine.cluster
    cluster.wanted_slots = 2
    machine.tick(1000.0)
    machine.slurm.ends_waits_for_what_hangs(monkeypatch)
    machine.slurm.says("squeue", "", {"hang": True}, f"101|PENDING|N/A||Priority|{machine.name}\n")  # the first is over
    machine.tick(1040.0)
    assert machine.events == [("worker_submitted", "101"), ("worker_refused", None)]
    assert len(machine.slurm.calls("squeue")) == 2
    machine.tick(1080.0)
    assert len(machine.slurm.calls("squeue")) == 3
    assert machine.since(2) == []
    assert without_hanging_on(machine.slurm.folder)


def test_the_first_look_is_patient_so_that_nothing_is_submitted_twice(machine: Machine) -> None:
    busy = {"error": "squeue: error: Socket timed out on send/recv operation", "returncode": 1}
    machine.slurm.says("squeue", busy, f"77|PENDING|N/A||Priority|{machine.name}\n")
    machine.cluster.wanted_slots = 2
    machine.tick(1000.0)
    assert machine.events == []
    assert machine.slurm.calls("sbatch") == []


def test_a_sweep_asks_for_no_more_gpu_hours_than_it_may(machine: Machine) -> None:
    limits = SubmissionLimits(max_jobs=9, gpu_hours_per_sweep=10.0)
    site = SITE.model_copy(update={"gpus_per_node": 2, "limits": limits})  # of 60 minutes: 2 GPU-hours a worker
    need = RankNeed(ranks=1, cpus_per_rank=1, gpus_per_rank=0.5)
    cluster = machine.at(site, need, gpu_hours_before=5.0)
    cluster.wanted_slots = 100
    machine.tick(1000.0, cluster)
    assert [kind for kind, _ in machine.events] == ["worker_submitted"] * 2
    spent = machine.at(site, need, gpu_hours_before=9.0)
    spent.wanted_slots = 1
    with pytest.raises(GpuHoursSpentError, match=r"9.0 of limits.gpu_hours_per_sweep = 10 are used"):
        machine.tick(1000.0, spent)
