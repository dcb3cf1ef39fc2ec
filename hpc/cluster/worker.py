"""The job of a worker: one Ray node that serves one head, and ends with it.

    python -m hpc.cluster.worker CLUSTER_FOLDER GENERATION

It ends by itself when its head has ended, when it was drained, and some time after SLURM's warning of its end; the last
line that it prints says which. If the node ends otherwise, the exit code is 1, and Ray's own logs are kept.
"""

import signal

if __name__ == "__main__":  # before slow imports: a signal is kept until `Warnings` handles it
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])

import argparse
import os
import sys
from pathlib import Path
from types import FrameType

from hpc.cluster.cluster_folder import ClusterFolder, Head, HeadReader
from hpc.errors import ClusterError
from hpc.ray.node import RayNode, allocation, own_address, ray_environment
from hpc.ray.orphan_cleanup import guarded_folder, scratch_folder
from transtailor.errors import FAILED, SUCCESS
from transtailor.sources import ForeignCodeError, check_code
from transtailor.terminal import say
from transtailor.waiting import Unlimited, WaitedTooLong, wait_for

HEAD_LIMIT_S = 300.0
CHECK_S = 1.0
SERVES = Unlimited("a worker serves as long as its head lives; SLURM's walltime ends it")
NODE_ENDED = "the node has ended"
WANTED_LIMIT_S = 10.0  # between the end of a node and the last evidence that it was wanted


class Warnings:
    """SLURM's signals to this job: its end is near (USR2), or has come (TERM)."""

    def __init__(self) -> None:
        self.is_near = False
        self.is_now = False
        signal.signal(signal.SIGUSR2, self._note_near)
        signal.signal(signal.SIGTERM, self._note_now)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR2])

    def _note_near(self, _number: int, _frame: FrameType | None) -> None:
        self.is_near = True

    def _note_now(self, _number: int, _frame: FrameType | None) -> None:
        self.is_now = True


def main() -> int:
    """Serve until the head, the node or the job ends; return the exit code."""
    parser = argparse.ArgumentParser(description="The job of a worker.", allow_abbrev=False)
    parser.add_argument("folder", type=Path)
    parser.add_argument("generation")
    options = parser.parse_args()
    folder = ClusterFolder(options.folder)
    warnings = Warnings()
    try:
        check_code()
        folder.check()
        say(f"this worker ends: {serve(folder, options.generation, warnings)}")
    except (ClusterError, ForeignCodeError) as error:
        say(error, to=sys.stderr)
        return FAILED
    return SUCCESS


def serve(folder: ClusterFolder, generation: str, warnings: Warnings) -> str:
    """Run the node until it has to end; return the reason.

    Raises:
        ClusterError: there is no such head, the job cannot have a node, or the node ended unexpectedly.
    """
    read_newest_head = HeadReader(folder)
    head = _wait_for_head(folder, read_newest_head, generation, warnings)
    job = allocation(os.environ)
    site = folder.site()
    options = [f"--address={head.address}", f"--num-cpus={job.cpus}", f"--num-gpus={job.gpus}"]
    address = own_address(site.network_interface)
    drain_s = max(1.0, site.drain_before_s - 5.0)
    with scratch_folder(job.job) as scratch, guarded_folder(scratch) as temporary:
        variables = ray_environment(folder.token, temporary) | folder.tls(address, temporary)
        node = RayNode(job, temporary, variables, address, options, drain_s=drain_s)
        try:
            return _watch(node, folder, read_newest_head, generation, warnings, job.job)
        finally:
            node.kill()


def _wait_for_head(folder: ClusterFolder, read_newest_head: HeadReader, generation: str, warnings: Warnings) -> Head:
    """Return the head of this generation, once it listens. Raises ClusterError if another one has replaced it."""

    def read_head() -> Head | None:
        if warnings.is_near or warnings.is_now:
            raise ClusterError("SLURM warned this job of its end before it had joined a head")
        head = read_newest_head()
        if head is not None and head.generation != generation:
            raise ClusterError(f"the head that this job was for has ended; now there is one of job {head.job}")
        return head

    what = f"the Ray head {generation}; its log is the controller's, in {folder.logs}"
    return wait_for(read_head, what, HEAD_LIMIT_S, error=ClusterError)


def _watch(
    node: RayNode, folder: ClusterFolder, read_newest_head: HeadReader, generation: str, warnings: Warnings, job: str
) -> str:
    """Wait until a started node has to end, or has ended; return the reason. Raises ClusterError like `serve`."""
    is_drained = False

    def find_end() -> str | None:
        nonlocal is_drained
        for text in node.new_complaints():
            say(f"raylet: {text}")
        if node.has_ended():
            return NODE_ENDED
        if warnings.is_near and not is_drained:
            node.drain()
            is_drained = True
        return _why_now(read_newest_head, generation, warnings)

    why = wait_for(find_end, "the end of the head, of the node or of this job", SERVES, poll_s=CHECK_S, tell=None)
    if why != NODE_ENDED:
        return why
    if is_drained:
        return "SLURM warned of the job's end, and the node was drained"

    def find_reason() -> str | None:
        if folder.is_released(job):
            return "the driver has released the node"
        return _why_now(read_newest_head, generation, warnings)

    try:
        return wait_for(find_reason, "the reason why the node ended", WANTED_LIMIT_S)
    except WaitedTooLong:
        end = node.describe_end(folder.logs / f"ray-worker-{job}")
        raise ClusterError(f"the Ray node of job {job} was not to end, and {end}") from None


def _why_now(read_newest_head: HeadReader, generation: str, warnings: Warnings) -> str | None:
    """Return why the worker has to end at once; None if it does not."""
    head = read_newest_head()
    if head is None or head.generation != generation:
        return "its head has ended"
    return "SLURM ends the job" if warnings.is_now else None


if __name__ == "__main__":
    code = main()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])  # Python gives up its handlers before it has ended
    sys.exit(code)
