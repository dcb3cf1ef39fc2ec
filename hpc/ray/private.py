"""What `hpc` uses of Ray that is no part of its public interface; no other file may use such a name.

The names, why each of them is needed, and the version that they were tried with stand in `RAY`. None of them is looked
up before it is used, so that `RAY.check()` can name the one that an installed version lacks.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.job_config import JobConfig

from transtailor.private_names import PrivateNames

RAY = PrivateNames(
    library="ray[tune]",
    tried="2.60.0",
    names={
        "ray._private.worker.init(_temp_dir)": "a local Ray keeps its files in a folder that goes with it",
        "ray._private.worker.init(_node_ip_address)": "a driver finds its own node by the address that the head has",
        "ray._private.worker.connect(_py_driver_sys_path)": "workers import installed code alone",
        "ray._private.ray_constants.ENABLE_RAY_CLUSTER": "a local Ray listens on the loopback alone",
        "ray._private.node.Node.start_api_server": "a local Ray has no dashboard, and no process or port for it",
        "ray._private.node.Node.start_monitor": "a local Ray does not grow by itself, and has no process for that",
        "ray._private.node.Node.start_log_monitor": "nobody reads what a local Ray prints, so no process carries it",
        "ray._raylet.Config.initialize": "Ray reads its variables again, after they were set",
        "ray._raylet.AuthenticationTokenLoader.instance": "Ray reads its token again",
        "ray._raylet.AuthenticationTokenLoader.reset_cache": "Ray reads its token again",
        "ray._raylet.get_authentication_mode": "a driver makes sure that Ray asks for the token",
        "ray._raylet.AuthenticationMode.TOKEN": "a driver makes sure that Ray asks for the token",
        "ray._private.state.available_resources_per_node": "which nodes work",
        "ray._private.state.state.get_draining_nodes": "which nodes are being left",
        "ray._private.worker.global_worker": "nodes are drained through its client",
        "ray._private.worker.connect(gcs_client)": "nodes are drained through this client",
        "ray._raylet.InnerGcsClient.drain_node": "a node is left, or given back when nothing runs there",
    },
)
IDLE, PREEMPTION = 1, 2  # Ray's DrainNodeReason


def start_on_the_loopback(folder: Path, **options: Any) -> None:
    """`ray.init` with its files in `folder`; no other machine reaches it.

    Without its servers for a dashboard, for growing and for printed lines it starts sooner, and listens on fewer ports.
    """
    node = ray._private.node.Node
    with (
        _set(ray._private.ray_constants, "ENABLE_RAY_CLUSTER", False),
        _set(node, "start_api_server", _start_nothing),
        _set(node, "start_monitor", _start_nothing),
        _set(node, "start_log_monitor", _start_nothing),
    ):
        ray.init(_temp_dir=str(folder), job_config=_installed_code_only(), **options)


@contextmanager
def _set(place: Any, name: str, value: Any) -> Iterator[None]:
    """Has another value there meanwhile."""
    before = getattr(place, name)
    setattr(place, name, value)
    try:
        yield
    finally:
        setattr(place, name, before)


def _start_nothing(_node: Any, **_: Any) -> None:
    """In the place of a server."""


def join_on(own_address: str, **options: Any) -> None:
    """`ray.init` of a driver on the node with this address."""
    ray.init(_node_ip_address=own_address, job_config=_installed_code_only(), **options)


class _NoFolders(list[str]):
    """Stays empty."""

    def extend(self, _: object) -> None:
        """Ray adds the driver's working folder, which its workers would search before all that is installed."""


def _installed_code_only() -> JobConfig:
    """A package `results` in the folder where somebody works is not imported in the place of ours."""
    config = JobConfig()
    config._py_driver_sys_path = _NoFolders()
    return config


def read_environment_again() -> None:
    """Lets Ray, which reads its variables when it is imported, see what they are now."""
    compiled: Any = ray._raylet
    compiled.Config.initialize("")
    compiled.AuthenticationTokenLoader.instance().reset_cache()


def shows_token() -> bool:
    """Whether Ray's client in this process takes it that each call shows a token."""
    compiled: Any = ray._raylet
    return bool(compiled.get_authentication_mode() == compiled.AuthenticationMode.TOKEN)


def free_resources() -> dict[str, dict[str, float]]:
    """What is free on each node, by its id."""
    free: dict[str, dict[str, float]]
    free = ray._private.state.available_resources_per_node()  # type: ignore[no-untyped-call]
    return free


def draining_nodes() -> frozenset[str]:
    """Ids of the nodes that take nothing new and end as soon as nothing runs there; in any process of the cluster."""
    return frozenset(ray._private.state.state.get_draining_nodes())


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
    worker: Any = ray._private.worker.global_worker
    return worker.gcs_client
