"""The folder of a run while it is being created, and its removal if the creation was killed."""

import os
import re
import shutil
import socket
import uuid
from contextlib import suppress
from pathlib import Path

from sweeps.run.run_lock import LOCK_FILE, holder_of

_NAME = re.compile(r"\.[^@]+@(?P<host>[^@]+)@(?P<pid>\d+)@[0-9a-f]{8}\.creating")


def temporary_name(name: str) -> str:
    """Return a name for the folder of a run until it is whole; no other process uses it."""
    return f".{name}@{socket.gethostname()}@{os.getpid()}@{uuid.uuid4().hex[:8]}.creating"


def remove_abandoned(runs: Path) -> None:
    """Remove what this user's killed creations on this host have left behind, and nothing else."""
    for path in runs.glob(".*.creating"):
        name = _NAME.fullmatch(path.name)
        is_mine = False  # also if another launch has just renamed or removed it
        with suppress(FileNotFoundError):
            is_mine = path.stat().st_uid == os.getuid()
        if not name or name["host"] != socket.gethostname() or not is_mine:
            continue
        # The process id is not enough: containers can share a host name without sharing ids. The lock is.
        if not _is_alive(int(name["pid"])) and holder_of(path / LOCK_FILE) is None:
            shutil.rmtree(path, ignore_errors=True)  # another launch may be removing it at this moment


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return not isinstance(error, ProcessLookupError)  # PermissionError: another user's process
    return True
