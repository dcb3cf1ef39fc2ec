"""The hidden folder in which one process makes a data set before it gets its name; kept for a call that continues."""

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tailor.common.errors import ConfigError
from tailor.facts.manifest import MANIFEST_FILE
from tailor.prepare.listing import FilesRefused
from transtailor.files import name_folder, sync
from transtailor.shell import command

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def workspace(final: Path) -> Iterator[Path]:
    """Make a folder next to `final`, in which `final` is made while the context lasts.

    The folder is removed after success and after the user's mistake, and kept after other errors. It is also kept if
    single files are refused after something was unpacked or decoded, because the next call needs that.

    Raises:
        ConfigError: `final` exists, its parent cannot be written to, another process is making it, or there is no room.
    """
    if final.exists() and not (final / MANIFEST_FILE).is_file():  # perhaps the photographs themselves
        raise ConfigError(f"{final} is there already and is no data set; choose another name, or another --to")
    if final.exists():
        raise ConfigError(
            f"{final} is there already; to verify it, type: {command('data', 'check', final)}. To make it again, "
            "remove it first or choose another name"
        )
    work = final.with_name(f".{final.name}.preparing")
    try:
        work.mkdir(parents=True, exist_ok=True)
        handle = os.open(work / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise ConfigError(f"cannot write to {final.parent}: {error.strerror}; {_remedy(error)}") from error
    try:
        _lock(handle, final)
        try:
            yield work
        except ConfigError as error:
            has_results = any(path.is_dir() for path in work.iterdir())
            is_needed_again = isinstance(error, FilesRefused) and has_results
            if not is_needed_again:
                shutil.rmtree(work)
            raise
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            raise ConfigError(
                f"cannot write {final}: {error.strerror}; {_remedy(error)}, and type it again: what is done is kept in "
                f"{work}"
            ) from error
        shutil.rmtree(work)
    finally:
        os.close(handle)


def publish(folders: Mapping[Path, Path]) -> None:
    """Give finished folders their names, once all of them are on disk. Raises ConfigError: a name is taken by now."""
    for folder in folders:
        for path in [*folder.iterdir(), folder]:
            sync(path)
    for folder, final in folders.items():
        try:
            name_folder(folder, final)
        except FileExistsError as error:
            raise ConfigError(f"{error}; remove it, or choose another name") from error


def _remedy(error: OSError) -> str:
    if error.errno in NO_ROOM:
        return "make room, or give another --to"
    return "give a folder of yours in --to"


def _lock(handle: int, final: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ConfigError(f"{final} is being prepared by another process; wait for it, or stop it") from error
    if os.fstat(handle).st_nlink == 0:  # the other process ended between our open and our lock
        raise ConfigError(f"{final} was being prepared by another process, which ended just now; type it again")
