"""Make temporary folders with processes that belong to them; find and remove what a killed owner leaves. Without Ray.

As a program this is a guard: it waits until its owner has ended in any way, and then clears the owner's folder.
"""

import errno
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hpc.errors import FolderError
from transtailor.lines import lines_of
from transtailor.terminal import say
from transtailor.waiting import KILL_LIMIT_S, WaitedTooLong, wait_for

# Every process that descends from the owner's servers has this variable with the folder's path.
MARK = "TRANSTAILOR_RAY_FOLDER"
PREFIX = "transtailor-ray-"
OWNER = "owner"  # file in the folder: machine, process id and its start, one per line
SHORT = Path("/tmp")
LONGEST_BYTES = 16  # Ray adds r/session_<date>_<time>_<process id>/sockets/plasma_store
FOLDER_REFUSED = frozenset(
    [errno.EACCES, errno.EDQUOT, errno.EIO, errno.ENOENT, errno.ENOSPC, errno.EPERM, errno.EROFS, errno.ESTALE]
)
END_LIMIT_S = 5.0
POLL_S = 0.05
CLEARED = b"cleared"  # the owner sends it to its guard when no work is left


@contextmanager
def guarded_folder(below: Path = SHORT) -> Iterator[Path]:
    """Make a new folder. On leaving, the folder is removed, and all processes with its mark have ended.

    If this process is killed, a guard does this. If the guard is killed too, the next call removes the folder.

    Args:
        below: the parent. Ray puts sockets into the folder, whose paths are limited to 107 bytes: if `below` is too
            long for that, the folder is made in /tmp.

    Raises:
        FolderError: the disk or its rights refuse the folder; the text says what to set.
    """
    try:
        folder, guard = _start_guarded(below)
    except OSError as error:
        if error.errno not in FOLDER_REFUSED:
            raise
        raise FolderError(_describe_refusal(below, error)) from error
    is_left_to_guard = False
    try:
        yield folder
    except KeyboardInterrupt:  # a second Ctrl-C: the guard clears when this process has ended
        is_left_to_guard = True
        raise
    finally:
        if not is_left_to_guard:
            clear(folder)
            with suppress(subprocess.TimeoutExpired):  # it has no work left, and is no process of Ray's
                guard.communicate(CLEARED, END_LIMIT_S)


def _is_short(folder: Path) -> bool:
    return len(os.fsencode(folder)) <= LONGEST_BYTES


def _describe_refusal(below: Path, error: OSError) -> str:
    """Return why no folder can be made below a parent, and what to set instead."""
    place = str(below) if _is_short(below) else f"{SHORT} ({below} is too long for Ray's sockets)"
    return (
        f"no temporary folder can be made in {place}: {error}; set TMPDIR, or scratch_folder of the site on a cluster, "
        f"to a folder that can be written and whose path has at most {LONGEST_BYTES} bytes"
    )


def _start_guarded(below: Path) -> tuple[Path, "subprocess.Popen[bytes]"]:
    """Make the folder and start its guard; raises OSError, and leaves no folder."""
    if not _is_short(below):
        below = SHORT
    remove_abandoned(below)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=below))
    try:
        owner_lines = [_machine(), str(os.getpid()), str(_start_ticks(os.getpid()))]
        (folder / OWNER).write_text("\n".join(owner_lines))
        guard = subprocess.Popen(
            [sys.executable, "-P", "-m", "hpc.ray.orphan_cleanup", str(folder)],
            stdin=subprocess.PIPE,  # its other end closes when this process ends
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:  # a full disk, no more processes: without owner and guard it would never be removed
        shutil.rmtree(folder)
        raise
    return folder, guard


@contextmanager
def scratch_folder(job: str) -> Iterator[Path]:
    """Yield this job's folder for temporary files; remove it at the end if it is empty and named after the job."""
    folder = Path(os.environ.get("TMPDIR", SHORT))
    try:
        yield folder
    finally:
        if job in folder.name:
            with suppress(OSError):
                folder.rmdir()


def folder_for_ray(folder: Path) -> Path:
    """Return the folder for Ray in a guarded one: Ray makes it open to all users, and the outer one is private."""
    return folder / "r"


def clear(folder: Path) -> None:
    """Wait shortly for the processes with the folder's mark to end, kill the rest, and remove the folder."""
    try:
        wait_for(lambda: not _find_marked(folder), f"processes of {folder} to end", END_LIMIT_S, poll_s=POLL_S)
    except WaitedTooLong:
        kill_marked(folder)
    shutil.rmtree(folder, ignore_errors=True)  # the owner and its guard may both be at it


def kill_marked(folder: Path) -> None:
    """Kill all processes with the folder's mark; report those that do not end, as when a disk does not answer."""

    def kill_rest() -> bool:
        process_ids = _find_marked(folder)
        for process_id in process_ids:
            with suppress(ProcessLookupError):  # it has ended meanwhile
                os.kill(process_id, signal.SIGKILL)
        return not process_ids

    try:
        wait_for(kill_rest, f"killed processes of {folder} to end", KILL_LIMIT_S, poll_s=POLL_S)
    except WaitedTooLong:
        say(f"processes {_find_marked(folder)} were killed and have not ended: they are abandoned", to=sys.stderr)


def remove_abandoned(below: Path = SHORT) -> None:
    """Clear folders of this user whose owner has ended without clearing them.

    Any user may put anything of such a name into /tmp; only folders of this user are touched.
    """
    for folder in below.glob(f"{PREFIX}*"):
        try:
            status = folder.lstat()
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
                continue
            machine, process_id, started_at = lines_of((folder / OWNER).read_text())
            is_abandoned = _has_ended(machine, process_id, started_at)
        except (OSError, ValueError):  # it is being made or removed now, or its owner file is odd
            continue
        if is_abandoned:
            clear(folder)


def _has_ended(machine: str, process_id: str, started_at: str) -> bool:
    """Whether the owner of a folder, as its file names it, has ended; one on another machine counts as alive."""
    if machine == _machine():
        return str(_start_ticks(int(process_id))) != started_at
    return _was_switched_off_since(machine)


def _find_marked(folder: Path) -> list[int]:
    """Return the ids of other living processes that belong to the folder."""
    marked = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        process_id = int(process.name)
        if process_id != os.getpid() and _belongs(process, folder):
            marked.append(process_id)
    return marked


def _belongs(process: Path, folder: Path) -> bool:
    """Whether a process (its folder in /proc) has the folder's mark, or a file below the folder open for writing.

    The latter is needed because a process that sets its title may overwrite the environment that the kernel shows.
    """
    try:
        environment = (process / "environ").read_bytes().split(b"\0")
        if f"{MARK}={folder}".encode() in environment:
            return True
        for descriptor in (process / "fd").iterdir():
            is_writable = os.lstat(descriptor).st_mode & stat.S_IWUSR
            if is_writable and str(descriptor.readlink()).startswith(f"{folder}/"):
                return True
        return False
    except (FileNotFoundError, PermissionError, ProcessLookupError):  # it has ended, or is another user's
        return False


def _machine() -> str:
    """Return a name of the space of process ids: containers may share /tmp but not their processes."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    namespace = Path("/proc/self/ns/pid").readlink()
    return f"{socket.gethostname()} {boot} {namespace}"


def _was_switched_off_since(machine: str) -> bool:
    """Whether the owner of a folder ran on this machine before its last boot."""
    host, boot, _ = machine.split(" ")
    own_host, own_boot, _ = _machine().split(" ")
    return host == own_host and boot != own_boot


def _start_ticks(process_id: int) -> int | None:
    """Return when a process started, in clock ticks since boot, which tells it from a later one with its id.

    Return None if it has ended.
    """
    try:
        status = Path(f"/proc/{process_id}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(status.rpartition(")")[2].split()[19])


if __name__ == "__main__":
    # A scheduler that ends a job signals all of its processes; the guard has to do its work then.
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    if sys.stdin.buffer.read() != CLEARED:
        clear(Path(sys.argv[1]))
