"""Files and folders that are whole or not there: for a reader at that moment, after a kill, and after a loss of power.

Each one is made under a temporary name beside its own, synced, renamed, and the folder above is synced, so what a call
has confirmed by returning is on the disk under its name. Temporary names are `.<name>.<8 digits>.tmp`: readers leave
names that begin with a dot alone, and what a kill leaves behind is found by the pattern `.*.tmp`.
"""

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

Content = str | bytes | Callable[[BinaryIO], object]
"""A text (written as UTF-8), bytes, or a function that writes into the stream that it is given."""


def write_file(path: Path, content: Content, *, mode: int | None = None) -> Path:
    """Write a file; what was there before is replaced at once. Returns the path.

    Args:
        path: its folder is there.
        content: what the file holds afterwards.
        mode: 0o600 keeps it to this user, from the first moment on; None: others may read it, as the umask says.
    """
    temporary = _temporary(path)
    try:
        _write_new(temporary, content, mode)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)
    return path


def write_folder(path: Path, files: Mapping[str, bytes] | Mapping[Path, bytes]) -> None:
    """Make a folder of files, and the folders above it; nobody sees a part of it.

    Args:
        path: where it is to be.
        files: path in the folder -> content.

    Raises:
        FileExistsError: somebody was first; nothing is left behind.
    """
    temporary = _temporary(path)
    make_folder(path.parent)
    try:
        temporary.mkdir()
        for name, content in files.items():
            file = temporary / name
            file.parent.mkdir(parents=True, exist_ok=True)
            _write_new(file, content)
        for folder, _, _ in os.walk(temporary):
            sync(Path(folder))
        name_folder(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def name_file(made: Path, path: Path) -> None:
    """Give a file in the same folder, that other code has made, its name; what was there before is replaced at once."""
    sync(made)
    made.replace(path)
    sync(path.parent)


def name_folder(made: Path, path: Path) -> None:
    """Give a folder its name beside it; what is in the folder is on the disk already.

    Raises:
        FileExistsError: a folder with something in it has that name.
    """
    try:
        made.replace(path)
    except OSError as error:
        if path.exists():
            raise FileExistsError(f"{path} is there already") from error
        raise
    sync(path.parent)


def refuse_unwritable(folder: Path, option: str, error: type[Exception]) -> None:
    """Raise `error` unless what was typed behind `option` is a folder to write to, or may be made; leaves nothing."""
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as refused:
        why = f"{existing} cannot be written to ({refused.strerror})"
        raise error(f"{option} {folder}: {why}; type {option} with a folder of yours") from refused


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, so that they survive a loss of power."""
    if folder.is_dir():
        return
    made = [folder]
    while not made[-1].parent.is_dir():
        made.append(made[-1].parent)
    folder.mkdir(parents=True, exist_ok=True)
    for new in made:
        sync(new.parent)


@contextmanager
def deny_others_writing() -> Iterator[None]:
    """What is made meanwhile can be written to by this user alone, whatever the umask lets others do."""
    before = os.umask(0o077)
    os.umask(before | 0o022)
    try:
        yield
    finally:
        os.umask(before)


def sync(path: Path) -> None:
    """Bring the content of a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")


def _write_new(path: Path, content: Content, mode: int | None = None) -> None:
    # Whoever may write to a file decides what it says or does: never a group, whatever the umask lets it do.
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644 if mode is None else mode)
    with os.fdopen(handle, "wb") as stream:
        if callable(content):
            content(stream)
        else:
            stream.write(content.encode() if isinstance(content, str) else content)
        stream.flush()
        os.fsync(stream.fileno())
