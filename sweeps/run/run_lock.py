"""At most one launcher per run: a file lock that the kernel releases when the process ends, however it ends."""

import fcntl
import json
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from sweeps.errors import RunFolderError
from transtailor.documents import read_json
from transtailor.files import is_there, sync
from transtailor.shell import command
from transtailor.waiting import WaitedTooLong, wait_for

LOCK_FILE = "launch.lock"  # in the folder of a run
# `status` takes a shared lock for an instant to see whether it is free; a launch must not fail because of that.
PATIENCE_S = 1.0
POLL_S = 0.05


class RunLock:
    """The lock of a run, held until `release` or the end of the process.

    The first line of its file names the holder; the second has the progress of the sweep.
    """

    def __init__(
        self, path: Path, patience_s: float = PATIENCE_S, *, is_stopped: Callable[[], bool] = lambda: False
    ) -> None:
        """Take the lock.

        Args:
            path: the lock file; created if it is missing.
            patience_s: how long to wait for another holder.
            is_stopped: ends the wait; asked before each pause of it.

        Raises:
            RunFolderError: another process holds it; the text says which one.
        """
        # Not inherited by programs that this process starts: a left-over child must not keep the run locked.
        self._handle: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            _wait_and_take(self._handle, path, patience_s, is_stopped)
            # Who holds the lock is the file's only line
            holder = {
                "pid": os.getpid(),
                "host": socket.gethostname(),
                "since": datetime.now(UTC).isoformat(timespec="seconds"),
            }
            os.ftruncate(self._handle, 0)
            self._second_line_at = os.pwrite(self._handle, f"{json.dumps(holder)}\n".encode(), 0)
            with suppress(OSError):  # a full disk is reported elsewhere
                sync(path)  # for other machines, which would see the holder only when it ends
        except BaseException:
            self.release()
            raise

    def tell(self, line: str) -> None:
        """Write the second line, of which a reader may see half. Raises OSError: the disk refuses it."""
        if self._handle is not None:
            written_bytes = os.pwrite(self._handle, line.encode(), self._second_line_at)
            os.ftruncate(self._handle, self._second_line_at + written_bytes)  # the line before may be longer

    def release(self) -> None:
        """Release the lock; a second call has no effect."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def holder_of(path: Path) -> dict[str, Any] | None:
    """Return who holds a lock: pid, host and since (each may be missing for an instant); None if the lock is free."""
    if not is_there(path):
        return None
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:  # removed meanwhile
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read_holder(handle)
    except OSError:  # a file system without locks: no process can hold one
        return None
    finally:
        os.close(handle)
    return None


def _wait_and_take(handle: int, path: Path, patience_s: float, is_stopped: Callable[[], bool]) -> None:
    """Take the lock, at the latest after `patience_s`. Raises RunFolderError: another process holds it."""

    def could_take() -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if is_stopped():
                raise WaitedTooLong from None
            return False
        except OSError as error:
            raise RunFolderError(
                f"the file system of {path.parent} has no locks (flock): {error.strerror}. Without them two launches "
                "could be at work on one run: type --runs with a folder of another file system, or have this one "
                "mounted with them (Lustre: -o flock, NFS: without nolock)"
            ) from error
        return True

    try:
        wait_for(
            could_take, f"the process that runs {path.parent} to release it", patience_s, poll_s=POLL_S, poll_to_s=1.0
        )
    except WaitedTooLong:
        holder = _read_holder(handle)
        raise RunFolderError(
            f"{path.parent} is being run already, by process {holder.get('pid', '?')} on "
            f"{holder.get('host', '?')} since {holder.get('since', '?')}; {command('status', path.parent)} shows "
            f"it; wait for it, or, to stop it, type: {command('stop', path.parent)}"
        ) from None


def _read_holder(handle: int) -> dict[str, Any]:
    try:
        holder = read_json(os.pread(handle, 4096, 0).partition(b"\n")[0])
        since = datetime.fromisoformat(holder["since"])
        return {"pid": int(holder["pid"]), "host": str(holder["host"]), "since": str(since)}
    except (ValueError, LookupError, TypeError):  # read between the holder's truncation and its writing
        return {}
