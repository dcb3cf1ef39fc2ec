"""Files and folders that are whole or not there: for a reader at that moment, after a kill, and after a loss of power.

Each one is made under a temporary name beside its own, synced, renamed, and the folder above is synced, so what a call
has confirmed by returning is on the disk under its name. Temporary names are `.<name>.<8 digits>.tmp`: readers leave
names that begin with a dot alone, and what a kill leaves behind is found by the pattern `.*.tmp`.
"""

import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

Content = str | bytes | Callable[[BinaryIO], object]
"""A text (written as UTF-8), bytes, or a function that writes into the stream that it is given."""


def write_file(path: Path, content: Content, *, mode: int = 0o666) -> Path:
    """Write a file; what was there before is replaced at once. Returns the path.

    Args:
        path: its folder is there.
        content: what the file holds afterwards.
        mode: who may do what with it; the umask takes bits away, as always. 0o600 keeps it to this user.
    """
    temporary = _temporary(path)
    try:
        _write_new(temporary, content, mode)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
    return path


def write_folder(path: Path, files: Mapping[str | Path, Content]) -> None:
    """Make a folder of files, and the folders above it; nobody sees a part of it.

    Args:
        path: where it is to be; an empty folder there is replaced.
        files: path in the folder -> content.

    Raises:
        OSError: a folder with files in it is there, or the file system refuses; nothing is left behind.
    """
    temporary = _temporary(path)
    try:
        temporary.mkdir(parents=True)
        for name, content in files.items():
            file = temporary / name
            file.parent.mkdir(parents=True, exist_ok=True)
            _write_new(file, content)
        for folder, _, _ in os.walk(temporary):
            sync_folder(Path(folder))
        rename(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def put_in_place(made: Path, path: Path) -> None:
    """Give a file, or a folder of files, that other code has made its name, once its content is on the disk.

    Args:
        made: in the folder of `path`.
        path: its name from now on; a file there is replaced at once.
    """
    for each in [*made.iterdir(), made] if made.is_dir() else [made]:
        _sync(each)
    rename(made, path)


def rename(old: Path, new: Path) -> None:
    """Give something whose content is on the disk another name in its folder; a file there is replaced at once."""
    old.replace(new)
    sync_folder(new.parent)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, so that they survive a loss of power."""
    if folder.is_dir():
        return
    made = [folder]
    while not made[-1].parent.is_dir():
        made.append(made[-1].parent)
    folder.mkdir(parents=True, exist_ok=True)
    for new in made:
        sync_folder(new.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    _sync(folder, os.O_DIRECTORY)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")


def _write_new(path: Path, content: Content, mode: int = 0o666) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(handle, "wb") as stream:
        if callable(content):
            content(stream)
        else:
            stream.write(content.encode() if isinstance(content, str) else content)
        stream.flush()
        os.fsync(stream.fileno())


def _sync(path: Path, flags: int = 0) -> None:
    handle = os.open(path, os.O_RDONLY | flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
