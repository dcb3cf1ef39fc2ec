"""The Ray nodes of workers' jobs, as a driver of the cluster sees them."""

import logging
from dataclasses import dataclass

import ray

from hpc.cluster.needs import RankNeed
from hpc.errors import ClusterError
from hpc.ray.node import JOB_LABEL, python_of_workers
from hpc.ray.private import RAY, check_shows_token, free_resources, join_on

DRAINED = (3, 4)  # of Ray's NodeDeathInfo.Reason: AUTOSCALER_DRAIN_PREEMPTED, AUTOSCALER_DRAIN_IDLE


@dataclass(frozen=True, kw_only=True)
class WorkerNode:
    """The Ray node of a worker's job."""

    id: str
    host: str
    alive: bool
    places: int
    busy: bool
    death: str = ""  # Ray's message about it
    was_drained: bool = False  # so its death was wanted


def worker_nodes(need: RankNeed) -> dict[str, WorkerNode]:
    """Return the Ray nodes of workers' jobs, including dead ones, by the job's id; of several the living one."""
    free_by_node = free_resources()
    nodes = {}
    for node in ray.nodes():  # type: ignore[no-untyped-call]
        job = node["Labels"].get(JOB_LABEL)
        resources = node["Resources"]
        is_head = node["Alive"] and "node:__internal_head__" in resources
        if job is None or is_head:
            continue
        if job in nodes and not node["Alive"]:
            continue
        free = free_by_node.get(node["NodeID"], {})
        nodes[job] = WorkerNode(
            id=node["NodeID"],
            host=node["NodeManagerHostname"],
            alive=node["Alive"],
            places=need.places(resources.get("CPU", 0.0), resources.get("GPU", 0.0)),
            busy=any(free.get(name, 0.0) < resources.get(name, 0.0) for name in ("CPU", "GPU")),
            death=node.get("DeathReasonMessage", ""),
            was_drained=not node["Alive"] and node.get("DeathReason") in DRAINED,
        )
    return nodes


def connect(address: str) -> None:
    """Make this process a driver of the cluster at `address`; it runs on the head's node.

    Raises:
        ClusterError: the head does not answer, or Ray is not in its token mode.
        LibraryError: the installed Ray lacks a private name that is used here.
    """
    RAY.check()
    try:
        own_address = address.rpartition(":")[0]
        join_on(own_address, address=address, log_to_driver=False, logging_level=logging.ERROR, **python_of_workers())
    except (ConnectionError, RuntimeError) as error:
        raise ClusterError(f"the Ray head at {address} does not answer: {error}") from error
    check_shows_token()
