"""The hidden folder in which a data set is made before it gets its name: one process at a time, kept if interrupted."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tailor.core.errors import ConfigError
from transtailor.files import name_folder, sync
from transtailor.shell import command


@contextmanager
def workspace(final: Path) -> Iterator[Path]:
    """A folder beside `final` to make it in; gone after success and after the user's mistake, kept after all else.

    Raises:
        ConfigError: `final` is there already, its parent cannot be written to, or another process is making it.
    """
    if final.exists():
        raise ConfigError(
            f"{final} is there already; to verify it, type: {command('data', 'check', final)}. To make it anew, "
            "remove it first or choose another name"
        )
    work = final.with_name(f".{final.name}.preparing")
    try:
        work.mkdir(parents=True, exist_ok=True)
        handle = os.open(work / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise ConfigError(f"cannot write to {final.parent}: {error}; give a folder of yours in --to") from error
    try:
        _lock(handle, final)
        try:
            yield work
        except ConfigError:
            shutil.rmtree(work)
            raise
        shutil.rmtree(work)
    finally:
        os.close(handle)


def publish(folder: Path, final: Path) -> None:
    """Gives a finished folder its name, once all of it is on the disk.

    Raises:
        ConfigError: `final` is there by now.
    """
    for path in [*folder.iterdir(), folder]:
        sync(path)
    try:
        name_folder(folder, final)
    except OSError as error:
        raise ConfigError(f"cannot write {final}: {error}; remove it, or choose another name") from error


def _lock(handle: int, final: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ConfigError(f"{final} is being prepared by another process; wait for it, or stop it") from error
    if os.fstat(handle).st_nlink == 0:  # the other one ended between our opening and locking
        raise ConfigError(f"{final} was being prepared by another process, which ended just now; type it again")
