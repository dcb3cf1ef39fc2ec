"""All private names of Ray that `hpc` uses; no other file may use one.

`RAY` has the names, why each of them is needed, and the version that they were tried with. None of them is looked up
before it is used, so that `RAY.check()` can name the one that an installed version lacks.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RaySystemError
from ray.job_config import JobConfig

from hpc.errors import ClusterError
from transtailor.private_names import PrivateNames

RAY = PrivateNames(
    library="ray[tune]",
    tried="2.60.0",
    names={
        "ray._private.worker.init(_temp_dir)": "a local Ray keeps its files in a folder that is removed with it",
        "ray._private.worker.init(_node_ip_address)": "a driver finds its own node by the address that the head has",
        "ray._private.worker.connect(_py_driver_sys_path)": "workers import only installed code",
        "ray._private.ray_constants.ENABLE_RAY_CLUSTER": "a local Ray listens only on the loopback",
        "ray._private.node.Node.start_api_server": "a local Ray has no dashboard, and no process or port for it",
        "ray._private.node.Node.start_monitor": "a local Ray does not grow by itself, and has no process for that",
        "ray._private.node.Node.start_log_monitor": "a local Ray's output is not read, and has no process for that",
        "ray._raylet.Config.initialize": "Ray reads its variables again, after they were set",
        "ray._raylet.AuthenticationTokenLoader.instance": "Ray reads its token again",
        "ray._raylet.AuthenticationTokenLoader.reset_cache": "Ray reads its token again",
        "ray._raylet.get_authentication_mode": "a driver makes sure that Ray asks for the token",
        "ray._raylet.AuthenticationMode.TOKEN": "a driver makes sure that Ray asks for the token",
        "ray._private.state.available_resources_per_node": "which nodes work",
        "ray._private.state.state.get_draining_nodes": "which nodes are draining",
        "ray._private.worker.global_worker": "nodes are drained through its client",
        "ray._private.worker.connect(gcs_client)": "nodes are drained through this client",
        "ray._raylet.InnerGcsClient.drain_node": "a node is drained, or released when it has no work",
    },
)
IDLE = 1  # of Ray's DrainNodeReason
PREEMPTION = 2


def start_on_the_loopback(folder: Path, **options: Any) -> None:
    """Call `ray.init` for a Ray with its files in `folder`, which no other machine reaches.

    Without the servers for a dashboard, autoscaling and logs it starts sooner, and listens on fewer ports.
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
def _set(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Set an attribute of a class or module for this block."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def _start_nothing(_node: Any, **_: Any) -> None:
    """Replace the start of a server."""


def join_on(own_address: str, **options: Any) -> None:
    """Call `ray.init` for a driver on the node with this address."""
    ray.init(_node_ip_address=own_address, job_config=_installed_code_only(), **options)


class _NoFolders(list[str]):
    """A list that stays empty."""

    def extend(self, _: object) -> None:
        """Ignore the driver's working folder, which workers would search before the installed packages."""


def _installed_code_only() -> JobConfig:
    """Return a configuration under which a package `results` in the working folder is not imported instead of ours."""
    config = JobConfig()
    config._py_driver_sys_path = _NoFolders()
    return config


def read_environment_again() -> None:
    """Make Ray, which reads its variables on import, read them again."""
    compiled: Any = ray._raylet
    compiled.Config.initialize("")
    compiled.AuthenticationTokenLoader.instance().reset_cache()


def check_shows_token() -> None:
    """Raise ClusterError unless Ray in this process is in its token mode: it sends a token, and asks for one.

    Ray's variables have no public contract: one that another Ray has renamed would silently open the cluster.
    """
    compiled: Any = ray._raylet
    if compiled.get_authentication_mode() != compiled.AuthenticationMode.TOKEN:
        raise ClusterError(
            "Ray in this process is not in its token mode, though RAY_AUTH_MODE is set, so nothing is started; install "
            "the version of Ray that pyproject.toml names"
        )


def free_resources() -> dict[str, dict[str, float]]:
    """Return the free resources of each node, by its id."""
    free: dict[str, dict[str, float]]
    free = ray._private.state.available_resources_per_node()  # type: ignore[no-untyped-call]
    return free


def draining_nodes() -> frozenset[str]:
    """Return the ids of nodes that accept no new work and end without work; works in any process of the cluster."""
    return frozenset(ray._private.state.state.get_draining_nodes())


def drain_node(node: str, why: str, within_s: float) -> None:
    """Make a node accept no new work, and end when it has none; one that has just died is left to the next look.

    Args:
        why: for Ray's logs.
        within_s: how long the node will still exist.
    """
    deadline_ms = int((time.time() + within_s) * 1000)
    _drain(node, PREEMPTION, why, deadline_ms)


def release_node(node: str) -> bool:
    """End a node if it has no work; return whether it ends. Ray decides, so no work can start meanwhile."""
    return _drain(node, IDLE, "no work is left for it", 0)


def _drain(node: str, reason: int, why: str, deadline_ms: int) -> bool:
    worker: Any = ray._private.worker.global_worker
    try:
        accepted, _ = worker.gcs_client.drain_node(node, reason, why, deadline_ms)
    except RaySystemError:  # the head cannot reach the node, and does not know yet that it died
        return False
    return bool(accepted)
