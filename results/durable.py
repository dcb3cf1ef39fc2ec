"""Files that are whole or not there, also for a reader at that moment and after a loss of power."""

import os
import uuid
from collections.abc import Callable
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
