"""Files that are whole or not there, also for a reader at that moment and after a loss of power."""

import fcntl
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def make_durable_folder(folder: Path) -> None:
    """Makes the folder and those above it, so that they survive a loss of power."""
    if folder.is_dir():
        return
    made = [folder]
    while not made[-1].parent.is_dir():
        made.append(made[-1].parent)
    folder.mkdir(parents=True, exist_ok=True)
    for new in made:
        sync_folder(new.parent)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_durably(path: Path, fill: Callable[[BinaryIO], object]) -> Path:
    """The path, after `fill` has written the content of the file; an old file there is replaced at once.

    Readers leave names that begin with a dot alone, so none sees half a file.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with temporary.open("xb") as stream:
            fill(stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
    return path


def put_in_place(made: Path, path: Path) -> None:
    """Gives a file that somebody else's code has made its name in the same folder, once its content is durable."""
    with made.open("rb") as stream:
        os.fsync(stream.fileno())
    made.replace(path)
    sync_folder(path.parent)


@contextmanager
def held(lock: Path) -> Iterator[None]:
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
