"""The Ray cluster of a day on SLURM: its nodes join, are drained, end and die. What asks Ray for them is real."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hpc.ray.node import JOB_LABEL, JobAllocation
from hpc.ray.orphan_cleanup import folder_for_ray
from tests.simulation.machines import Machines, Node
from tests.simulation.slurm.scheduler import JobRun, Slurm
from tests.simulation.world import Process

START_S = 4.0  # until a head listens, or a node has joined, at most
NOTICES_S = 12.0  # until a head takes a node that it does not hear for dead, and a node its head
PREEMPTED, IDLE, UNEXPECTED = 3, 4, 2  # why a node died, as Ray numbers it


@dataclass(eq=False)
class RayNode(Node):
    """A node of a cluster, with the job that holds it."""

    job: str = ""
    run: JobRun | None = None
    process: Process | None = None
    until_s: float = math.inf  # it is drained: its work may run as long
    death: int = UNEXPECTED
    unheard_s: float = math.inf  # since when

    @property
    def has_ended(self) -> bool:
        """Whether its processes are gone; others may not know that yet."""
        return self.process is None or self.process.dead


class RayCluster:
    """A head and the nodes that have joined it."""

    def __init__(self, address: str, head: RayNode) -> None:
        self.address, self.head = address, head
        self.nodes: list[Node] = []
        self.machines: list[Machines] = []  # of its drivers

    @property
    def joined(self) -> list[RayNode]:
        """All nodes so far, dead ones, too."""
        return [node for node in self.nodes if isinstance(node, RayNode)]

    def is_busy(self, node: RayNode) -> bool:
        """Whether a trial runs on a node."""
        slots = (slot for machine in self.machines for slot in machine.processes if slot.node is node)
        return any(slot.trial is not None and not slot.failed and not slot.process.dead for slot in slots)

    def lose(self, node: RayNode, death: int, lingers_s: float = 0.0) -> None:
        """The cluster has lost a node."""
        if not node.is_lost:
            node.is_lost, node.death = True, death
            for machine in self.machines:
                machine.lose_node(node, lingers_s)


class Clusters:
    """All clusters of a day."""

    def __init__(self, slurm: Slurm) -> None:
        self.slurm, self.world = slurm, slurm.world
        self.all: list[RayCluster] = []
        slurm.on_turn.append(self._turn)

    def at(self, address: str) -> RayCluster:
        """The one whose head listens there."""
        return next(one for one in reversed(self.all) if one.address == address)

    def _turn(self) -> None:
        for cluster in self.all:
            head = cluster.head.run
            for node in cluster.joined:
                if not node.is_lost and node.run is not None and head is not None:
                    self._look(cluster, node, node.run, head)

    def _look(self, cluster: RayCluster, node: RayNode, run: JobRun, head: JobRun) -> None:
        now_s, world = self.world.now_s, self.world
        reaches = not cluster.head.has_ended and head.host.answers and run.host.answers
        node.unheard_s = math.inf if reaches and not node.has_ended else min(node.unheard_s, now_s)
        if node.drains and (now_s >= node.until_s or not cluster.is_busy(node)):
            cluster.lose(node, PREEMPTED)
            self._end(node)
        elif node.has_ended and run.host.answers:
            cluster.lose(node, UNEXPECTED)
        elif now_s - node.unheard_s > NOTICES_S:
            cluster.lose(node, UNEXPECTED, lingers_s=world.chance.random() * NOTICES_S)
            self._end(node)  # a node without a head ends, too

    def _end(self, node: RayNode) -> None:
        assert node.process is not None
        self.world.kill(node.process)

    # What stands for Ray's functions, as a driver on the cluster calls them.

    def nodes(self, cluster: RayCluster) -> list[dict[str, Any]]:
        """As `ray.nodes`."""
        head = {"CPU": 0.0, "node:__internal_head__": 1.0}
        return [self._shown(cluster.head, head), *(self._shown(node, {"CPU": 1.0}) for node in cluster.joined)]

    def _shown(self, node: RayNode, resources: dict[str, float]) -> dict[str, Any]:
        assert node.run is not None
        return {
            "NodeID": node.name, "Alive": not node.is_lost, "Labels": {JOB_LABEL: node.job},
            "NodeManagerHostname": node.run.host.name, "Resources": {} if node.is_lost else resources,
            "DeathReason": node.death, "DeathReasonMessage": "it died" if node.is_lost else "",
        }  # fmt: skip

    def free(self, cluster: RayCluster) -> dict[str, dict[str, float]]:
        """As `hpc.ray.private.free_resources`."""
        return {node.name: {"CPU": 0.0 if cluster.is_busy(node) else 1.0} for node in cluster.joined}

    def draining(self, cluster: RayCluster) -> frozenset[str]:
        """As `hpc.ray.private.draining_nodes`."""
        return frozenset(node.name for node in cluster.joined if node.drains and not node.is_lost)

    def drain(self, cluster: RayCluster, name: str, within_s: float) -> None:
        """As `hpc.ray.private.drain_node`."""
        for node in cluster.joined:
            if node.name == name and not node.is_lost:
                self.leave(node, within_s)

    def leave(self, node: RayNode, within_s: float) -> None:
        """Drain a node."""
        node.drains, node.until_s = True, min(node.until_s, self.world.now_s + within_s)

    def release(self, cluster: RayCluster, name: str) -> bool:
        """As `hpc.ray.private.release_node`."""
        node = next((node for node in cluster.joined if node.name == name), None)
        if node is None or node.is_lost or cluster.is_busy(node):
            return False
        cluster.lose(node, IDLE)
        self._end(node)
        return True


class PlayedNode:
    """What stands for `hpc.ray.node.RayNode` in the jobs: a `ray start`, as a child of the job that makes it."""

    new_complaints = staticmethod(list)

    def __init__(
        self, clusters: Clusters, given: JobAllocation, folder: Path, _variables: object, address: str,
        options: list[str], *, drain_s: float,
    ) -> None:  # fmt: skip
        world = clusters.world
        assert world.current is not None
        run = clusters.slurm.run_of(world.current.process)
        assert run is not None
        self._clusters, self._world, self._drain_s = clusters, world, drain_s
        self._process = world.process(f"{run.process.name} ray")
        run.children.append(self._process)
        self._node = RayNode(world.numbers.randbytes(8).hex(), job=given.job, run=run, process=self._process)
        heads = [word.partition("=")[2] for word in options if word.startswith("--address=")]
        listens_at = f"{address}:{6000 + len(clusters.all)}"
        act = partial(self._join, heads[0]) if heads else partial(self._listen, listens_at, folder)
        world.task(self._process, self._process.name, act)

    def _listen(self, address: str, folder: Path) -> None:
        self._world.sleep(self._world.chance.random() * START_S)
        self._clusters.all.append(RayCluster(address, self._node))
        folder_for_ray(folder).mkdir(parents=True, exist_ok=True)
        (folder_for_ray(folder) / "ray_current_cluster").write_text(address)
        self._world.sleep(math.inf)

    def _join(self, address: str) -> None:
        self._world.sleep(self._world.chance.random() * START_S)
        cluster, own = self._clusters.at(address), self._node.run
        if not cluster.head.has_ended and own is not None and own.host.answers:
            cluster.nodes.append(self._node)
            self._world.sleep(math.inf)

    def has_ended(self) -> bool:
        """As a Ray node's."""
        return self._process.dead or all(task.done for task in self._process.tasks)

    def drain(self) -> None:
        """As a Ray node's."""
        self._clusters.leave(self._node, self._drain_s)

    def describe_end(self, _logs: Path) -> str:
        """As a Ray node's."""
        return "ended (its raylet)"

    def keep_logs(self, _logs: Path) -> str:
        """As a Ray node's."""
        return "no file"

    def kill(self) -> None:
        """As a Ray node's."""
        self._world.kill(self._process)
