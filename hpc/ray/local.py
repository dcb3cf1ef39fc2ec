"""A private Ray on this machine: started, ended, and removed here."""

import logging
import os
import secrets
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import ray

from hpc.environment import for_ranks
from hpc.errors import ClusterError
from hpc.folders.orphan_cleanup import MARK, folder_for_ray, guarded_folder, kill_marked
from hpc.ray.limits import open_files, raise_limits
from hpc.ray.node import OBJECT_STORE_BYTES, child_of, python_of_workers, ray_environment
from hpc.ray.private import RAY, read_environment_again, start_on_the_loopback
from transtailor.files import write_file
from transtailor.lines import first_line
from transtailor.terminal import say

SHARED_MEMORY = Path("/dev/shm")
START_TRIES = 2
_raylets: dict[int, int] = {}  # process -> its raylet that was seen last


@contextmanager
def local_ray(cpus: int, gpus: int = 0) -> Iterator[Path]:
    """Start a Ray with these numbers of CPUs and GPUs, never join another one; yields a folder for temporary files.

    The folder is removed at the end.

    It listens only on the loopback, and answers only with its token: a new one, in a file of that folder which only
    this user can read. On leaving, all processes of this Ray have ended. They also end, within seconds, when this
    process is killed.

    Raises:
        ClusterError: Ray did not start.
        LibraryError: the installed Ray lacks a private name that is used here.
    """
    RAY.check()
    raise_limits()
    with guarded_folder() as folder:
        token = folder / "token"
        write_file(token, secrets.token_hex(32), mode=0o600)
        removed = dict.fromkeys(os.environ.keys() - for_ranks(os.environ).keys())
        with _environment(removed | ray_environment(token, folder) | {MARK: str(folder)}):
            try:
                _start_in_tries(folder, cpus, gpus)
                del os.environ[MARK]  # processes that are started from here on are no part of this Ray
                yield folder
            finally:
                ray.shutdown()


def has_raylet() -> bool:
    """Whether the Ray that this process has started still has its raylet: without it no process starts or ends."""
    me = os.getpid()
    raylet = child_of(me, "raylet", _raylets.get(me))
    if raylet is not None:
        _raylets[me] = raylet
    return raylet is not None


def _start_in_tries(folder: Path, cpus: int, gpus: int) -> None:
    """Start Ray; a second time if it did not start within its own 30 s, as on a machine that is busy at the moment."""
    for tries_left in reversed(range(START_TRIES)):
        try:
            _start(folder, cpus, gpus)
            return
        except Exception as error:  # Ray raises many kinds, some of them plain Exception
            why = _why_not(folder, error)
            ray.shutdown()
            if not tries_left or "timed out" not in str(error).lower():
                raise ClusterError(why) from error
            kill_marked(folder)
            say(f"Ray is started again: {first_line(str(error))}", to=sys.stderr)


def _start(folder: Path, cpus: int, gpus: int) -> None:
    start_on_the_loopback(
        folder_for_ray(folder),
        address="local",
        num_cpus=cpus,
        num_gpus=gpus,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=OBJECT_STORE_BYTES,
        **python_of_workers(),
    )


def _why_not(folder: Path, error: Exception) -> str:
    """Ray's error, and possible causes."""
    rooms = [
        f"{shutil.disk_usage(place).free / 1e6:.0f} MB free in {place}" for place in (SHARED_MEMORY, folder.parent)
    ]
    return (
        f"Ray did not start on this machine: {str(error).strip() or type(error).__name__}\n"
        f"it needs space, files and time ({', '.join(rooms)}; ulimit -n is {open_files()}, "
        f"load {os.getloadavg()[0]:.0f}): fix what is short and type the same command again, or add --site serial, "
        "which needs no Ray"
    )


@contextmanager
def _environment(variables: Mapping[str, str | None]) -> Iterator[None]:
    """Set these variables (None: unset) for this process and those that it starts; restores them afterwards."""
    before = {name: os.environ.get(name) for name in variables}
    _set(variables)
    read_environment_again()
    try:
        yield
    finally:
        _set(before)


def _set(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
        read_environment_again()
