"""Run the checks of the doctor on a node, as its job: in order, each reported when it ends.

    python -m hpc.doctor.job FOLDER RANK LIMIT_S     (how long it waits for the other job to start)

Each wait has a limit, so that the job ends by itself if the doctor on the login node is killed.
"""

import fcntl
import os
import platform
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from hpc.cluster.cluster_folder import ClusterFolder, Head
from hpc.cluster.head import serve
from hpc.cluster.worker import Warnings
from hpc.doctor.finding import Checks, DoctorFolder, Finding, NodePort, NodeState, environment, failure, fine, unknown
from hpc.doctor.names import NamesWatch
from hpc.errors import ClusterError, SlurmError
from hpc.ray.limits import FILES_PER_WORKER, OTHER_FILES, list_fatal_limits, open_files, raise_limits
from hpc.ray.node import own_address
from hpc.ray.orphan_cleanup import LONGEST_BYTES, SHORT
from hpc.sites.site import Need
from hpc.slurm.calls import ONCE
from hpc.slurm.jobs import would_start
from transtailor.documents import Record
from transtailor.waiting import WaitedTooLong, reap, wait_for

CLOCK_LIMIT_S = 120.0
PEER_LIMIT_S = 60.0  # for the other node to reach the same check
CONNECT_LIMIT_S = 10.0
TORCH_LIMIT_S = 120.0  # mostly for the import of torch
RAY_LIMIT_S = 300.0  # START_LIMIT_S of the head, then a worker that joins, and a task
SIGNAL_LIMIT_S = 300.0  # after the checks, until the job ends by itself
LAST_LIMIT_S = 60.0  # of a job that the login node should end
SCRATCH_BYTES = 2**20
LEAST_WORKERS = 100  # if the site sets no limit
INTERFACE_ADVICE = "set network_interface in the site to one that the nodes share"


@dataclass(frozen=True, kw_only=True)
class Node:
    """The node of this process: its rank, and what the doctor asks of it."""

    folder: DoctorFolder
    rank: int
    question: Checks

    def report(self, check: str, finding: Finding) -> None:
        """See `DoctorFolder.report`."""
        self.folder.report(check, self.rank, finding)

    @property
    def others(self) -> list[int]:
        """The ranks of the other nodes."""
        return [rank for rank in range(self.question.ranks) if rank != self.rank]


def main() -> int:
    """Run all checks; return 0, since the findings are in the folder."""
    warnings = Warnings()
    folder = DoctorFolder(Path(sys.argv[1]))
    if os.environ.get("SLURM_RESTART_COUNT", "0") != "0":  # this start shows that a job is started again
        folder.write("restarted", Record())
        return 0
    question = folder.wait_to_read("question", Checks, float(sys.argv[3]))
    node = Node(folder=folder, rank=int(sys.argv[2]), question=question)
    if question.signal_alone:
        _signal(node, warnings)
        return 0
    names = _hello(node)
    new_folders: list[Path] = []
    try:
        _checks(node, warnings, new_folders)
        if not warnings.is_now:
            node.report("names", _run_check(names.finding))
    finally:
        for folder_path in new_folders:
            with suppress(OSError):  # another program uses it by now
                folder_path.rmdir()
    _signal(node, warnings)
    return 0


def _checks(node: Node, warnings: Warnings, new_folders: list[Path]) -> None:
    """Run and report all checks before the signal; stop once SLURM ends the job.

    The folders that are made on the node are added to `new_folders`.
    """
    question = node.question
    checks: dict[str, Callable[[], Finding]] = {
        "environment": lambda: _environment(question.environment),
        "scratch": lambda: _scratch(question.scratch, new_folders),
        "limits": lambda: limits_finding(question.workers),
        "locks": lambda: lock_finding(node.folder.lock),
        "submission": lambda: _submission(node),
        "ports": lambda: _ports(node),
    }
    for check, run in checks.items():
        if warnings.is_now:
            return
        node.report(check, _run_check(run))
    if _ports_are_closed(node):
        for check in ("all-reduce", "ray"):
            node.report(check, unknown("not tried, as the nodes do not reach each other"))
    _torch(node)
    if node.folder.read(f"ray-{node.rank}", Finding) is None and not warnings.is_now:
        node.report("ray", _run_check(lambda: _ray(node, warnings)))


def _run_check(run: Callable[[], Finding]) -> Finding:
    """Run a check; an error is a failure."""
    try:
        return run()
    except (ClusterError, OSError) as error:
        return failure(str(error), "see the text; the machine's administrator can say more")


def _hello(node: Node) -> NamesWatch:
    """Report the rights of new files here, and after the login node's answer the time of this node.

    Return what looks for the names that the login node makes next.
    """
    with tempfile.TemporaryDirectory(prefix="rights-", dir=node.folder.path) as private_folder:
        file = Path(private_folder, "file")
        file.touch(mode=0o600)
        rights = tuple(oct(path.stat().st_mode & 0o777) for path in (Path(private_folder), file))
    state = NodeState(node=platform.node(), rights=rights, time_s=time.time())
    node.folder.write(f"hello-{node.rank}", state)
    node.folder.wait_to_read("clock", Record, CLOCK_LIMIT_S)
    names = NamesWatch(node.folder, node.rank)
    node.folder.write(f"clock-{node.rank}", replace(state, time_s=time.time()))
    return names


def _environment(on_login_node: Mapping[str, str]) -> Finding:
    on_this_node = environment()
    differences = []
    for name, version in on_login_node.items():
        if on_this_node[name] != version:
            differences.append(f"{name} is {on_this_node[name]}, on the login node {version}")
    if differences:
        advice = "launch with the environment that the jobs have: see setup and container in the site"
        return failure("; ".join(differences), f"{advice}; the nodes run {sys.executable}")
    return fine(", ".join(f"{name} {version}" for name, version in on_this_node.items()))


def scratch_path(text: str | None, variables: Mapping[str, str]) -> Path:
    """Return the folder for temporary files that the site's `scratch_folder` (None: not set) names in a job.

        >>> str(scratch_path("/scratch/$SLURM_JOB_ID", {"SLURM_JOB_ID": "7"}))
        '/scratch/7'

    Raises:
        ClusterError: it names a variable that is not set.
    """
    if text is None:
        return Path(variables.get("TMPDIR", SHORT))
    for name in re.findall(r"\$([A-Z_][A-Z0-9_]*)", text):
        if name not in variables:
            raise ClusterError(f"scratch_folder = {text!r}: ${name} is not set in jobs")
    return Path(re.sub(r"\$([A-Z_][A-Z0-9_]*)", lambda match: variables[match[1]], text))


def _scratch(text: str | None, new_folders: list[Path]) -> Finding:
    """Make the folder if it is absent, add it to `new_folders`, and write into it as Ray will."""
    advice = "set scratch_folder in the site to a folder of the node that you may write to"
    try:
        path = scratch_path(text, os.environ)
        new_folders += [folder for folder in (path, *path.parents) if not folder.exists()]
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(bytes(SCRATCH_BYTES))
            file.flush()
        is_short_enough = len(os.fsencode(path)) <= LONGEST_BYTES
        ray_parent = path if is_short_enough else SHORT
        with tempfile.TemporaryDirectory(dir=ray_parent) as below, socket.socket(socket.AF_UNIX) as listening:
            listening.bind(f"{below}/socket")
    except (ClusterError, OSError) as error:
        return failure(str(error), advice)
    os.environ["TMPDIR"] = str(path)
    free_gb = shutil.disk_usage(path).free / 2**30
    sockets = "it is short enough for Ray's sockets"
    if ray_parent != path:
        sockets = f"Ray's files are in {ray_parent}, as this has more than {LONGEST_BYTES} bytes"
    return fine(f"{path} takes files, {free_gb:.0f} GB free; {sockets}")


def limits_finding(workers: int | None) -> Finding:
    """Return whether the limits of this job let a head serve its workers, and do not end ranks.

    Args:
        workers: the site's limit for a sweep; None is no limit.
    """
    raise_limits()
    most_workers = max(0, open_files() - OTHER_FILES) // FILES_PER_WORKER
    faults = [f"processes are limited to {text}" for text in list_fatal_limits()]
    if most_workers < (workers or LEAST_WORKERS):
        faults.append(f"{open_files()} open files are enough for a head with some {most_workers} workers")
    if faults:
        advice = "have the limits of jobs raised (limits.conf or LimitNOFILE of slurmd), or see ulimit in setup"
        return failure("; ".join(faults), advice)
    return fine(f"{open_files()} open files, enough for some {most_workers} workers; no limit ends large processes")


def lock_finding(lock: Path) -> Finding:
    """Return whether this machine sees a lock that another one holds on a file."""
    advice = "give another folder, or have it mounted with locks of the whole cluster (Lustre: flock, not localflock)"
    with lock.open("rb+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return fine("a lock of the login node is seen here")
        except OSError as error:
            return failure(f"the file system has no locks (flock): {error.strerror}", advice)
    return failure("a lock that the login node holds was given a second time: two controllers could run", advice)


def _submission(node: Node) -> Finding:
    """Return whether a node may submit workers, as a controller does; submits no job."""
    site = ClusterFolder(node.folder.path / "cluster").site()
    if site.container != site.controller.container:
        return unknown("not tried from in here: the controller does not run in this container")
    need = Need(log_folder=node.folder.path, signal_before_s=site.drain_before_s, requeue=False)
    try:
        return fine(would_start(site, need, ["true"], ONCE))
    except SlurmError as error:
        advice = "the controller has to: may nodes submit (AllocNodes of the partition), is SLURM on PATH there?"
        return failure(f"a node cannot submit a worker: {error}", advice)


def _ports(node: Node) -> Finding:
    """Return whether this node reaches each other node on a port that its kernel chose; it listens itself meanwhile."""
    try:
        address = own_address(node.question.interface)
    except ClusterError as error:
        return failure(str(error), INTERFACE_ADVICE)
    if not node.others:
        return unknown(f"not between nodes, as there is one; its address is {address}")
    with socket.create_server((address, 0)) as listening:
        port = listening.getsockname()[1]
        word = secrets.token_hex(16)
        threading.Thread(target=_greet, args=(listening, word, len(node.others)), daemon=True).start()
        node.folder.write(f"port-{node.rank}", NodePort(node=platform.node(), address=address, port=port, word=word))
        reached = []
        for rank in node.others:
            other = node.folder.wait_to_read(f"port-{rank}", NodePort, PEER_LIMIT_S)
            description = f"{other.node} at {other.address} (port {other.port})"
            try:
                _reach(other)
            except OSError as error:
                advice = f"{INTERFACE_ADVICE}, or have TCP between the nodes let through"
                return failure(f"cannot reach {description} from {address}: {error}", advice)
            finally:
                node.folder.write(f"reached-{node.rank}-{rank}", Record())
            reached.append(description)
        for rank in node.others:  # they reach this node only while it listens
            with suppress(ClusterError):  # that is their own finding
                node.folder.wait_to_read(f"reached-{rank}-{node.rank}", Record, 2 * CONNECT_LIMIT_S)
    return fine(f"reaches {', '.join(reached)}")


def _reach(other: NodePort) -> None:
    """Raise OSError unless the other node answers with its own word."""
    with socket.create_connection((other.address, other.port), CONNECT_LIMIT_S) as link:
        if link.recv(len(other.word), socket.MSG_WAITALL).decode(errors="replace") != other.word:
            raise ConnectionError("something else answered there")


def _greet(listening: socket.socket, word: str, times: int) -> None:
    """Answer that many connections with the word of this node."""
    listening.settimeout(PEER_LIMIT_S)
    with suppress(OSError):  # no connection: that is the finding of the other node
        for _ in range(times):
            link, _ = listening.accept()
            with link:
                link.sendall(word.encode())


def _ports_are_closed(node: Node) -> bool:
    """Whether a node does not reach another one; the next checks would then wait until their limits."""
    ranks = range(node.question.ranks)
    findings = [node.folder.wait_to_read(f"ports-{rank}", Finding, PEER_LIMIT_S) for rank in ranks]
    return any(finding.state == "missing" for finding in findings)


def _torch(node: Node) -> None:
    """Check GPUs and all-reduce in a separate process, which can be ended if it hangs, and frees its memory."""
    if not node.others:
        node.report("all-reduce", unknown("not between nodes, as there is one"))
    has_all_reduce_finding = node.folder.read(f"all-reduce-{node.rank}", Finding) is not None
    gpus = node.question.gpus
    if has_all_reduce_finding and not gpus:
        node.report("gpus", fine("none, as the site says"))
        return
    ranks = 1 if has_all_reduce_finding else node.question.ranks
    arguments = [str(node.folder.path), str(node.rank), str(ranks), str(gpus), node.question.interface or ""]
    try:
        process = subprocess.run(_python("hpc.doctor.torch_check", *arguments), timeout=TORCH_LIMIT_S, check=False)
        end = f"its process ended with code {process.returncode}"
    except subprocess.TimeoutExpired:  # run() has killed it
        end = f"not ended after {TORCH_LIMIT_S:g} s"
    # The first report of a check stays: these are for a process that has not reported.
    node.report("gpus", failure(end, "try `python -c 'import torch; print(torch.cuda.device_count())'` in a job"))
    node.report("all-reduce", failure(end, INTERFACE_ADVICE))


def _ray(node: Node, warnings: Warnings) -> Finding:
    """Start Ray as a sweep does: rank 0 has the head and a driver, the last rank a worker."""
    cluster = ClusterFolder(node.folder.path / "cluster")
    if node.rank == 0:
        command = _python("hpc.doctor.ray_check", str(node.folder.path))
        if not node.others:
            command.append("--with-worker")
        code = serve(cluster, command, warnings, tries=2)  # on a busy node Ray gives up its first start
        advice = "see the log above; does `ray start --head` work there?"
        return node.folder.read("ray", Finding) or failure(f"the driver ended with code {code}", advice)

    def read_head() -> Head | None:
        if warnings.is_now or node.folder.read("ray-0", Finding) is not None:
            raise ClusterError("the other node has given up its head")
        return cluster.head()

    head = wait_for(read_head, "the Ray head of the other node", RAY_LIMIT_S, error=ClusterError)
    worker = subprocess.Popen(_python("hpc.cluster.worker", str(cluster.path), head.generation))
    try:
        code = worker.wait(RAY_LIMIT_S)
    except subprocess.TimeoutExpired:
        return failure(f"the worker did not end in {RAY_LIMIT_S:g} s", "the log of the job says more")
    finally:
        worker.terminate()
        reap(worker, CONNECT_LIMIT_S)
    if code != 0:
        return failure(f"the worker ended with code {code}", "see the log above")

    def read_answer() -> Finding | None:
        return node.folder.read("ray", Finding) or node.folder.read("ray-0", Finding)

    wait_for(read_answer, "the driver's answer", RAY_LIMIT_S, error=ClusterError)
    return node.folder.read("ray", Finding) or unknown("see the head's node")


def _signal(node: Node, warnings: Warnings) -> None:
    """Wait for SLURM's signal and report it; then wait a little for the job's end."""
    node.folder.write(f"listens-{node.rank}", Record())
    with suppress(WaitedTooLong):  # the login node has a limit too
        wait_for(lambda: warnings.is_near or warnings.is_now, "USR2", SIGNAL_LIMIT_S)
    if warnings.is_near:
        node.report("signal", fine("USR2 came"))
    else:
        advice = "see signal_before_s in the job's text: transtailor plan demo --site SITE --script"
        node.report("signal", failure("no USR2 came before the job's end", advice))
    if not warnings.is_now:  # requeued or cancelled from the login node
        with suppress(WaitedTooLong):
            wait_for(lambda: warnings.is_now, "the end", LAST_LIMIT_S)


def _python(module: str, *words: str) -> list[str]:
    return [sys.executable, "-P", "-m", module, *words]


if __name__ == "__main__":
    sys.exit(main())
