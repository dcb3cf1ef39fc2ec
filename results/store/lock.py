"""A lock that one process at a time holds on a run or an export."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def hold_lock(lock: Path) -> Iterator[None]:
    """Holds a lock on a file, which the kernel releases when the process ends, however it ends.

    Args:
        lock: made where it is not there; its folder is there.

    Raises:
        BlockingIOError: another process holds it.
    """
    handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)
