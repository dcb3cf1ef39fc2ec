"""Draining Ray's nodes: the only calls of Ray's that are not part of its public interface; a test holds them."""

import time
from typing import Any

import ray
from ray._private.state import state as cluster_state

IDLE, PREEMPTION = 1, 2  # Ray's DrainNodeReason


def draining_nodes() -> frozenset[str]:
    """Ids of the nodes that take nothing new and end as soon as nothing runs there; in any process of the cluster."""
    return frozenset(cluster_state.get_draining_nodes())


def drain_node(node: str, why: str, within_s: float) -> None:
    """Lets a node take nothing new, and end as soon as nothing runs there.

    Args:
        node: its id.
        why: for Ray's logs.
        within_s: how long the node will still be there.
    """
    deadline_ms = int((time.time() + within_s) * 1000)
    _gcs().drain_node(node, PREEMPTION, why, deadline_ms)


def release_node(node: str) -> bool:
    """Ends a node if nothing runs there; whether it does. Ray decides, so that nothing can start meanwhile."""
    accepted, _ = _gcs().drain_node(node, IDLE, "no work is left for it", 0)
    return bool(accepted)


def _gcs() -> Any:
    return ray._private.worker.global_worker.gcs_client  # type: ignore[attr-defined]
