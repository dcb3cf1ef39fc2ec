"""A lock that one process at a time holds on a run or an export."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from results.errors import ResultsError


@contextmanager
def hold_lock(lock: Path, busy: str) -> Iterator[None]:
    """Hold a lock on a file; the kernel releases it when the process ends for any reason.

    Args:
        lock: the file, created if missing; its folder exists.
        busy: the text of the error if another process holds it.

    Raises:
        ResultsError: another process holds it.
    """
    handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ResultsError(busy) from None
        yield
    finally:
        os.close(handle)
