"""Run the checks of the doctor on a node, as its job: in order, each reported when it ends.

    python -m hpc.doctor.job FOLDER RANK LIMIT_S     (how long it waits for the other job to start)

Each wait has a limit, so that the job ends by itself if the doctor on the login node is killed.
"""

import fcntl
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hpc.cluster.cluster_folder import ClusterFolder, Head
from hpc.cluster.head import serve
from hpc.cluster.worker import Warnings
from hpc.doctor.finding import Checks, DoctorFolder, Finding, environment, failure, fine, rights_finding, unknown
from hpc.doctor.names import NamesWatch
from hpc.errors import ClusterError, SlurmError
from hpc.ray.orphan_cleanup import LONGEST_BYTES, SHORT
from hpc.sites.site import Need
from hpc.slurm.jobs import would_start
from transtailor.documents import Record
from transtailor.waiting import WaitedTooLong, reap, wait_for

END_LIMIT_S = 10.0  # of a worker that was told to end
TORCH_LIMIT_S = 120.0  # mostly for the import of torch
RAY_LIMIT_S = 300.0  # START_LIMIT_S of the head, then a worker that joins, and a task
SIGNAL_LIMIT_S = 300.0  # after the checks, until the job ends by itself
LAST_LIMIT_S = 60.0  # of a job that the login node should end
SCRATCH_BYTES = 2**20
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


def main() -> int:
    """Run all checks, in order; stop once SLURM ends the job. Return 0, since the findings are in the folder."""
    warnings = Warnings()
    folder = DoctorFolder(Path(sys.argv[1]))
    if os.environ.get("SLURM_RESTART_COUNT", "0") != "0":  # this start shows that a job is started again
        folder.write("restarted", Record())
        return 0
    question = folder.wait_to_read("question", Checks, float(sys.argv[3]))
    node = Node(folder=folder, rank=int(sys.argv[2]), question=question)
    names = NamesWatch(folder, node.rank)  # before the login node makes the names
    node.report("rights", _run_check(lambda: rights_finding(folder.path)))
    new_folders: list[Path] = []  # that are made on this node
    checks: dict[str, Callable[[], Finding]] = {
        "environment": lambda: _environment(question.environment),
        "scratch": lambda: _scratch(question.scratch, new_folders),
        "locks": lambda: lock_finding(folder.lock),
        "submission": lambda: _submission(node),
    }
    try:
        for check, run in checks.items():
            if not warnings.is_now:
                node.report(check, _run_check(run))
        if not warnings.is_now:
            _torch(node)
        if not warnings.is_now:
            node.report("ray", _run_check(lambda: _ray(node, warnings)))
        if not warnings.is_now:
            node.report("names", _run_check(names.finding))
    finally:
        for folder_path in new_folders:
            with suppress(OSError):  # another program uses it by now
                folder_path.rmdir()
    _signal(node, warnings)
    return 0


def _run_check(run: Callable[[], Finding]) -> Finding:
    """Run a check; an error is a failure."""
    try:
        return run()
    except (ClusterError, OSError) as error:
        return failure(str(error), "see the text; the machine's administrator can say more")


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
        return fine(would_start(site, need, ["true"]))
    except SlurmError as error:
        advice = "the controller has to: may nodes submit (AllocNodes of the partition), is SLURM on PATH there?"
        return failure(f"a node cannot submit a worker: {error}", advice)


def _torch(node: Node) -> None:
    """Check GPUs and all-reduce in a separate process, which can be ended if it hangs, and frees its memory."""
    question = node.question
    arguments = [str(node.folder.path), str(node.rank), str(question.ranks), str(question.gpus)]
    command = _python("hpc.doctor.torch_check", *arguments, question.interface or "")
    try:
        end = f"its process ended with code {subprocess.run(command, timeout=TORCH_LIMIT_S, check=False).returncode}"
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
        if node.question.ranks == 1:
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
        reap(worker, END_LIMIT_S)
    if code != 0:
        return failure(f"the worker ended with code {code}", "see the log above")

    def read_answer() -> Finding | None:
        return node.folder.read("ray", Finding) or node.folder.read("ray-0", Finding)

    wait_for(read_answer, "the driver's answer", RAY_LIMIT_S, error=ClusterError)
    return node.folder.read("ray", Finding) or unknown("see the head's node")


def _signal(node: Node, warnings: Warnings) -> None:
    """Wait for SLURM's signal and report it; then wait a little for the job's end."""
    node.report("listens", fine("all checks have ended"))
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
