"""The job of a controller: a Ray head, and the command that uses the cluster.

    python -m hpc.cluster.head CLUSTER_FOLDER -- COMMAND

The command finds the cluster by `GENERATION_VARIABLE` and Ray's own variables. The cluster ends with it, but if it is
killed, or ends with the code TRY_AGAIN, it is started again. If the head dies, or the walltime is near, the job is
queued again and starts both again. A head that does not start is tried `HEAD_TRIES` times; then this program ends with
TRY_AGAIN, and the user has to launch the sweep again. Where it gives up, it calls the site's `on_end`; otherwise the
command does.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from hpc.cluster.cluster_folder import ClusterFolder, Head
from hpc.cluster.sweep_end import call_on_end
from hpc.cluster.worker import Warnings
from hpc.errors import ClusterError, FolderError, HeadStartError, SlurmError
from hpc.ray.node import RayNode, allocation, own_address, ray_environment
from hpc.ray.orphan_cleanup import folder_for_ray, guarded_folder, scratch_folder
from hpc.slurm.jobs import requeue
from hpc.slurm.script import QUEUED_AGAIN
from transtailor.errors import MISTAKE, TRY_AGAIN
from transtailor.files import is_there
from transtailor.sources import ForeignCodeError, check_code
from transtailor.terminal import say
from transtailor.waiting import Unlimited, WaitedTooLong, reap, wait_for

GENERATION_VARIABLE = "TRANSTAILOR_GENERATION"
START_LIMIT_S = 120.0  # of a head, in each try
HEAD_TRIES = 3
FOLDER_LIMIT_S = 600.0  # for the shared folder to take a file
FOLDER_POLL_S = 5.0
MAX_RESTARTS = 20  # of the job, for any reason; after that a folder that is broken from the start is left to its owner
WORKED_S = 1800.0  # if a job ran as long, its folder did work, and the fault is a new one
CHECK_S = 0.5
DRIVES = Unlimited("a sweep takes as long as its trials do; SLURM's walltime ends the job")
END_LIMIT_S = 30.0  # for the command to end cleanly
RESTART_PAUSE_S = 1.0
SHORT_S = 60.0
MAX_SHORT_RUNS = 5  # in a row, of a command that is started again; then it is given up
_PR_SET_PDEATHSIG = 1


def main() -> int:
    """Run head and command; return the exit code of the command, or TRY_AGAIN or MISTAKE if that has none."""
    if len(sys.argv) < 4 or sys.argv[1] == "--" or sys.argv[2] != "--":
        say("type: python -m hpc.cluster.head CLUSTER_FOLDER -- COMMAND", to=sys.stderr)
        return MISTAKE
    folder = ClusterFolder(Path(sys.argv[1]))
    command = sys.argv[3:]
    warnings = Warnings()
    began_s = time.monotonic()
    try:
        check_code()
        folder.check()
        code = serve(folder, command, warnings)
    except HeadStartError as error:
        call_on_end(folder, "failed")
        _say(f"{error}; launch the sweep again to resume")  # a launch that follows shows this log's end
        return TRY_AGAIN
    except (FolderError, OSError) as error:  # such as a folder that is full, or does not answer
        restarts = int(os.environ.get("SLURM_RESTART_COUNT", "0"))  # also those at a walltime, or by SLURM itself
        if restarts < MAX_RESTARTS or time.monotonic() - began_s > WORKED_S:
            return _queue_again(folder, error)
        _say(f"{error}; the job was queued again {restarts} times in all: fix the folder and launch the sweep again")
        call_on_end(folder, "failed")
        return TRY_AGAIN
    except (ClusterError, ForeignCodeError) as error:
        _say(error)
        if not warnings.is_now:
            call_on_end(folder, "interrupted" if is_there(folder.stop) else "failed")
        return MISTAKE
    if code is not None:
        return code
    if warnings.is_now:  # SLURM ends this job, or has queued it again already
        return TRY_AGAIN
    return _queue_again(folder)


def _say(text: object) -> None:
    with suppress(OSError):  # the log is in the same folder
        say(text)


def serve(folder: ClusterFolder, command: Sequence[str], warnings: Warnings, *, tries: int = HEAD_TRIES) -> int | None:
    """Run head and command; return the exit code of the command, None if both have to be started again.

    Args:
        command: uses the cluster.
        warnings: SLURM's signals to this job.
        tries: how often a head may be started until one listens.

    Raises:
        HeadStartError: none did.
        ClusterError: this is not a job of SLURM, or it ends.
    """
    # The controller runs no trials: Ray places nothing on a node without CPUs and GPUs.
    job = replace(allocation(os.environ), gpus=0)
    address = own_address(folder.site().network_interface)
    faults: list[HeadStartError] = []
    for _ in range(tries):
        try:
            # One head, on ports that the kernel chooses
            generation = uuid.uuid4().hex
            logs = folder.logs / f"ray-head-{generation[:8]}"
            with scratch_folder(job.job) as scratch, guarded_folder(scratch) as temporary:
                options = ["--head", "--port=0", "--num-cpus=0", "--num-gpus=0", "--include-dashboard=false"]
                variables = ray_environment(folder.token, temporary) | folder.tls(address, temporary)
                node = RayNode(job, temporary, variables, address, options, drain_s=0)
                try:
                    listens_at = _wait_for_address(folder, node, temporary, logs, warnings)
                    _publish_head(folder, Head(address=listens_at, generation=generation, job=job.job), warnings)
                    say(f"Ray head {generation} listens at {listens_at}")
                    environment = os.environ | variables | {GENERATION_VARIABLE: generation}
                    code = _run(command, environment, node, warnings)
                    if code is None and node.has_ended():
                        say(f"the Ray head {node.describe_end(logs)}")
                    return code
                finally:
                    with suppress(OSError, ValueError):  # the next head overwrites it
                        folder.unset_head(generation)
                    node.kill()
        except HeadStartError as error:
            faults.append(error)
            say(f"start {len(faults)} of at most {tries}: {error}")
            if warnings.is_near:
                return None
        time.sleep(RESTART_PAUSE_S)
    raise HeadStartError(f"no Ray head started in {tries} tries; the last one: {faults[-1]}")


def _publish_head(folder: ClusterFolder, head: Head, warnings: Warnings) -> None:
    """Write the head's address into the shared folder; raise FolderError if that fails for `FOLDER_LIMIT_S`."""
    last_error = "it is full"

    def write_head() -> bool:
        nonlocal last_error
        _check_wanted(folder, warnings)
        try:
            folder.set_head(head)
        except OSError as error:
            last_error = str(error)
            return False
        return True

    try:
        wait_for(write_head, f"room in the shared folder {folder.path}", FOLDER_LIMIT_S, poll_s=FOLDER_POLL_S)
    except WaitedTooLong as late:
        raise FolderError(f"{late}: {last_error}; make room there") from None


def _wait_for_address(folder: ClusterFolder, node: RayNode, temporary: Path, logs: Path, warnings: Warnings) -> str:
    """Wait for the head to listen; return its address. If it does not, Ray's logs are kept as the folder `logs`."""

    def read_address() -> str | None:
        _check_wanted(folder, warnings)
        if node.has_ended():
            raise ClusterError("the Ray head ended while it started")
        file = folder_for_ray(temporary) / "ray_current_cluster"  # Ray writes it when the head listens
        if not file.exists():
            return None
        return file.read_text().strip() or None

    try:
        return wait_for(read_address, "the Ray head to listen", START_LIMIT_S, error=ClusterError)
    except ClusterError as error:
        if warnings.is_now or is_there(folder.stop):
            raise
        raise HeadStartError(f"{error}; its output is above and in {node.keep_logs(logs)}") from error


def _check_wanted(folder: ClusterFolder, warnings: Warnings) -> None:
    """Raise ClusterError if the head is not wanted any more before the command has begun."""
    if warnings.is_now:
        raise ClusterError("SLURM ended the job while the Ray head started")
    if is_there(folder.stop):
        raise ClusterError("a stop was requested while the Ray head started")


def _run(command: Sequence[str], environment: dict[str, str], node: RayNode, warnings: Warnings) -> int | None:
    """Run the command, and again after it was killed or ended with TRY_AGAIN.

    Return any other exit code; None if the head or the job ends before the command.

    Raises:
        ClusterError: it ended soon after its start too many times in a row.
    """
    short_runs = 0
    pause_s = 0.0
    while short_runs < MAX_SHORT_RUNS:
        began_s = time.monotonic()
        code = _run_once(command, environment, node, warnings, pause_s)
        was_killed = code is not None and code < 0
        if code is None or (code != TRY_AGAIN and not was_killed):
            return code
        reason = f"was killed by {signal.Signals(-code).name}" if was_killed else "cannot continue"
        say(f"the command {reason}: it is started again")
        was_short = time.monotonic() - began_s < SHORT_S
        short_runs = short_runs + 1 if was_short else 0
        pause_s = RESTART_PAUSE_S
    raise ClusterError(f"the command ended within {SHORT_S:g} s {MAX_SHORT_RUNS} times in a row; see its output above")


def _run_once(
    command: Sequence[str], environment: dict[str, str], node: RayNode, warnings: Warnings, pause_s: float
) -> int | None:
    """Run the command; return its exit code, negative if it was killed, or None if head or job end before it."""
    time.sleep(pause_s)
    process = subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=_end_with_parent
    )

    def is_over() -> bool:
        return process.poll() is not None or warnings.is_near or warnings.is_now or node.has_ended()

    try:
        wait_for(is_over, "the end of the command", DRIVES, poll_s=CHECK_S, tell=None)
        return process.poll()
    finally:
        if process.poll() is None:  # it ends cleanly, or is killed after a limit
            process.terminate()
            reap(process, 1.0 if warnings.is_now else END_LIMIT_S)


def _end_with_parent() -> None:
    """In the child, before it becomes the command: have the kernel kill it when this process ends in any way."""
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # SLURM's warning reaches all processes; the parent handles it
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _queue_again(folder: ClusterFolder, why: object = "its walltime or its Ray head has ended") -> int:
    """Have SLURM start this job again, with the same id; `why` is shown while it waits."""
    job = os.environ["SLURM_JOB_ID"]
    _say(f"job {job} {QUEUED_AGAIN}: {why}")
    cluster = None  # if the folder does not answer: that is the node's own cluster, the same one
    with suppress(ClusterError, OSError):
        cluster = folder.site().cluster
    try:
        requeue(job, cluster)
    except SlurmError as error:
        _say(f"{error}; launch the sweep again to resume")
        call_on_end(folder, "failed")
        return TRY_AGAIN
    time.sleep(END_LIMIT_S)  # SLURM ends this process within that time
    return TRY_AGAIN


if __name__ == "__main__":
    code = main()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])  # Python gives up its handlers before it has ended
    sys.exit(code)
