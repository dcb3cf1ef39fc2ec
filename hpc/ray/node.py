"""Run one node of a Ray cluster inside a job: `ray start` with exactly the resources of the job."""

import fcntl
import os
import re
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpc.environment import for_ranks
from hpc.errors import ClusterError
from hpc.ray.limits import raise_limits
from hpc.ray.orphan_cleanup import MARK, folder_for_ray
from transtailor.lines import lines_of
from transtailor.machine import visible_gpus
from transtailor.waiting import reap

JOB_LABEL = "slurm-job"  # a label of each Ray node: the id of the job that holds it
OBJECT_STORE_BYTES = 100_000_000  # enough: results are in tables and the cache, Ray carries only small messages
LOST_HEAD_S = 10  # how long a node lives when its head does not answer
_CHECK_PERIOD_S, _CHECK_TIMEOUT_S, _FAILED_CHECKS = 1, 2, 5
NODE_DEATH_S = _FAILED_CHECKS * (_CHECK_PERIOD_S + _CHECK_TIMEOUT_S)
"""After how long at most a head takes a node for dead that does not answer; by default it would be 64 s."""
_HEALTH_CHECKS = {
    "RAY_health_check_period_ms": f"{1000 * _CHECK_PERIOD_S}",
    "RAY_health_check_timeout_ms": f"{1000 * _CHECK_TIMEOUT_S}",
    "RAY_health_check_failure_threshold": f"{_FAILED_CHECKS}",
}
EXIT_LIMIT_S = 3.0  # `ray start` polls its servers about once a second, and ends when one of them has
MOST_COMPLAINTS = 20  # of a node
LONGEST_LINE = 400
_OF_AN_ERROR = re.compile(r"\[[^]]* [EC] \d+ \d+\]")  # a line of a log of Ray; C: a crash
AMD_VARIABLES = ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")
_INTERFACE_ADDRESS = 0x8915  # SIOCGIFADDR
_NOWHERE = "192.0.2.1"  # reserved for documentation; to ask for the route sends no packet


@dataclass(frozen=True, kw_only=True)
class JobAllocation:
    """What a job has of this node."""

    job: str  # SLURM's id
    cpus: int
    memory_bytes: int | None  # None if not known
    gpus: int


def allocation(environment: Mapping[str, str]) -> JobAllocation:
    """Return the resources that SLURM names in a job's environment; never those of the whole machine.

        >>> allocation({"SLURM_JOB_ID": "7", "SLURM_CPUS_ON_NODE": "8", "CUDA_VISIBLE_DEVICES": "0,1"})
        JobAllocation(job='7', cpus=8, memory_bytes=None, gpus=2)

    Raises:
        ClusterError: this is not a job of SLURM, or its GPUs are not supported.
    """
    try:
        job = environment["SLURM_JOB_ID"]
        cpus = int(environment.get("SLURM_CPUS_PER_TASK") or environment["SLURM_CPUS_ON_NODE"])
    except KeyError as error:
        raise ClusterError(f"this is not a job of SLURM: {error} is not set; it is started by sbatch") from error
    gpus = visible_gpus(environment.get("CUDA_VISIBLE_DEVICES", ""))
    if gpus == 0:
        _refuse_amd_gpus(environment)
    return JobAllocation(job=job, cpus=cpus, memory_bytes=_memory_bytes(environment, cpus), gpus=gpus)


def _memory_bytes(environment: Mapping[str, str], cpus: int) -> int | None:
    """Return the memory of a job with that many CPUs; None if SLURM does not limit it."""
    node_mb = environment.get("SLURM_MEM_PER_NODE")
    if node_mb:
        return int(node_mb) * 2**20
    cpu_mb = environment.get("SLURM_MEM_PER_CPU")
    if cpu_mb:
        return int(cpu_mb) * cpus * 2**20
    return None


def _refuse_amd_gpus(environment: Mapping[str, str]) -> None:
    """Raise ClusterError if a job was given AMD GPUs."""
    for name in AMD_VARIABLES:
        if environment.get(name):
            raise ClusterError(
                f"the job was given AMD GPUs ({name} = {environment[name]}): ROCm is not supported, trials run on "
                "NVIDIA's GPUs (CUDA) or on CPUs; set gpus_per_node = 0 in the site, or choose another partition"
            )


def own_address(interface: str | None = None) -> str:
    """Return this machine's IPv4 address on `interface` (None: on the default route).

    Raises:
        ClusterError: it has none.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        if interface is None:
            try:
                datagrams.connect((_NOWHERE, 9))
            except OSError:  # no default route
                return _address_of_host_name()
            return str(datagrams.getsockname()[0])
        try:
            reply = fcntl.ioctl(datagrams, _INTERFACE_ADDRESS, struct.pack("256s", interface.encode()[:15]))
        except OSError as error:
            text = f"network_interface = {interface!r} has no IPv4 address on {socket.gethostname()}: {error.strerror}"
            raise ClusterError(f"{text} (interfaces here: {_interfaces()})") from error
        return socket.inet_ntoa(reply[20:24])


def _address_of_host_name() -> str:
    """Return the IPv4 address of the host's name; raises ClusterError if other nodes could not reach it."""
    host = socket.gethostname()
    try:
        address = socket.gethostbyname(host)
        if not address.startswith("127."):
            return address
        fault = f"the address of its name is {address}"
    except OSError as error:
        fault = f"its name has no IPv4 address ({error.strerror})"
    raise ClusterError(
        f"{host} has no default route, and {fault}, so that no other node reaches it: set network_interface in the "
        f"site (interfaces here: {_interfaces()})"
    )


def _interfaces() -> str:
    return ", ".join(name for _, name in socket.if_nameindex())


class RayNode:
    """A running `ray start --block`, as a child of this process."""

    def __init__(
        self,
        job: JobAllocation,
        folder: Path,
        variables: Mapping[str, str],
        address: str,
        options: Sequence[str],
        *,
        drain_s: float,
    ) -> None:
        """Start the node.

        Args:
            job: the resources that it may use.
            folder: a guarded one, for its temporary files.
            variables: of its cluster, see `ray_environment`.
            options: further words for `ray start`: whether it is a head, and its resources.
            drain_s: how long running work may continue after SIGTERM.
        """
        environment = for_ranks(os.environ) | dict(variables) | _HEALTH_CHECKS
        environment |= {
            MARK: str(folder),
            "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": f"{drain_s:g}",
            "RAY_gcs_rpc_server_reconnect_timeout_s": str(LOST_HEAD_S),
        }
        self._ray_folder = folder_for_ray(folder)
        words = [
            str(Path(sys.executable).with_name("ray")), "start", f"--node-ip-address={address}",
            f"--object-store-memory={OBJECT_STORE_BYTES}", "--disable-usage-stats", f"--temp-dir={self._ray_folder}",
            f"--labels={JOB_LABEL}={job.job}", "--include-log-monitor=false", "--no-monitor", "--block",
        ]  # fmt: skip
        if job.memory_bytes is not None:
            words.append(f"--memory={max(0, job.memory_bytes - OBJECT_STORE_BYTES)}")
        raise_limits()
        self._raylet: int | None = None  # the id of its process, once that was seen
        self._complaints = 0  # the number of those that were told
        self._began_s = time.monotonic()
        self._ended_s: float | None = None  # when the end was noticed
        with signals_ignored():
            self._process = subprocess.Popen([*words, *options], env=environment, stdin=subprocess.DEVNULL)

    def has_ended(self) -> bool:
        """Whether the node has ended; `ray start --block` itself stays when its raylet was drained and has ended."""
        raylet = child_of(self._process.pid, "raylet", self._raylet)
        raylet_has_ended = raylet is None and self._raylet is not None
        if raylet is not None:
            self._raylet = raylet
        has_ended = raylet_has_ended or self._process.poll() is not None
        if has_ended and self._ended_s is None:
            self._ended_s = time.monotonic()
        return has_ended

    def drain(self) -> None:
        """Make the node accept no new work, and end when its work is done, or after `drain_s`."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def describe_end(self, logs: Path) -> str:
        """Describe how the node ended: which process, and when. Keep its logs as `logs`."""
        ended_s = time.monotonic() if self._ended_s is None else self._ended_s
        try:
            code = self._process.wait(max(0.0, ended_s + EXIT_LIMIT_S - time.monotonic()))
            what = f"`ray start` with code {code}"
        except subprocess.TimeoutExpired:
            what = "its raylet"
        return f"ended {ended_s - self._began_s:.0f} s after its start ({what}); its logs: {self.keep_logs(logs)}"

    def new_complaints(self) -> list[str]:
        """Return the errors since the last call; at most `MOST_COMPLAINTS` in all."""
        new = errors_of(self._ray_folder)[self._complaints : MOST_COMPLAINTS]
        self._complaints += len(new)
        return new

    def keep_logs(self, logs: Path) -> str:
        """Copy the logs of Ray's servers to the folder `logs`; return where they are, for a message."""
        log_folders = sorted(self._ray_folder.glob("session_2*/logs"))
        if not log_folders:
            return "no file: it wrote none"
        # The output of ranks may be large, and is in the logs of their trials.
        ignored = shutil.ignore_patterns("worker-*", "python-core-*")
        try:
            shutil.copytree(log_folders[0], logs, ignore=ignored, ignore_dangling_symlinks=True)
        except OSError as error:  # such as a full disk
            return f"{logs}, incomplete ({error})"
        return str(logs)

    def kill(self) -> None:
        """End the process that was started here; its descendants have its folder's mark."""
        reap(self._process)


@contextmanager
def signals_ignored() -> Iterator[None]:
    """Have children that are started inside ignore the signals by which a scheduler warns all processes of a job.

    Otherwise the signals would end them at once. Their parent handles the warning.
    """
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGUSR1, signal.SIGUSR2)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ray_environment(token: Path, folder: Path) -> dict[str, str]:
    """Return the variables for a process of the cluster with this secret, whose files are in this folder."""
    return {
        # Torch's default, which it sets in the environment, is one folder in /tmp for all programs of the user, under
        # a name that another user may have taken.
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "",  # the user's token for another cluster would override the file
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USE_TLS": "0",  # unless the cluster has certificates of its own
        "RAY_USAGE_STATS_ENABLED": "0",
        # Ray would end workers, and Tune the sweep with them, when a machine is 95% full, whoever filled it. Without,
        # the kernel ends a process, Ray's first, which is a death like others.
        "RAY_memory_monitor_refresh_ms": "0",
        # A head would keep an event of each call, up to 100,000, for the absent dashboard.
        "RAY_task_events_report_interval_ms": "0",
    }


def python_of_workers() -> dict[str, Any]:
    """Return options for `ray.init` if the path of Python has to be quoted: Ray writes it into a line of bash."""
    quoted = shlex.quote(sys.executable)
    return {} if quoted == sys.executable else {"runtime_env": {"py_executable": quoted}}


def errors_of(ray_folder: Path) -> list[str]:
    """Return the lines of `raylet.err`: the output of processes that could not start."""
    texts = [file.read_text(errors="replace") for file in sorted(ray_folder.glob("session_2*/logs/raylet.err"))]
    return [line[:LONGEST_LINE] for text in texts for line in lines_of(text) if line.strip()]


def last_errors(ray_folder: Path) -> str:
    """Return the last two errors of a raylet, in one line."""
    logs = [file.read_text(errors="replace") for file in sorted(ray_folder.glob("session_2*/logs/raylet.out"))]
    records = [line[:LONGEST_LINE] for log in logs for line in lines_of(log) if _OF_AN_ERROR.match(line)]
    return " | ".join([*records, *errors_of(ray_folder)][-2:]) or "it reported no error"


def child_of(process_id: int, name: str, known: int | None = None) -> int | None:
    """Return the id of a process's living child of that name; None if there is none.

    A search reads a file of each process of this machine. So `known`, the answer of an earlier call, is tried first.
    """
    if known is not None and _is_living_child(Path(f"/proc/{known}/stat"), process_id, name):
        return known
    for status in Path("/proc").glob("[0-9]*/stat"):
        if _is_living_child(status, process_id, name):
            return int(status.parent.name)
    return None


def _is_living_child(status: Path, parent_id: int, name: str) -> bool:
    """Whether the process with this file `stat` has that parent and that name, and has not ended."""
    try:
        text = status.read_text()
    except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
        return False
    own_name, _, fields = text.partition(" (")[2].rpartition(") ")  # such as 7 (ray let) S 1 7 ...
    state, parent = fields.split()[:2]
    return own_name == name and int(parent) == parent_id and state != "Z"
