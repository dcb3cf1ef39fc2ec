"""Start a private Ray on this machine, end it, and remove its files."""

import logging
import os
import secrets
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import ray

from hpc.environment import for_ranks
from hpc.errors import ClusterError, FolderError
from hpc.ray.limits import open_files, raise_limits
from hpc.ray.node import OBJECT_STORE_BYTES, child_of, python_of_workers, ray_environment
from hpc.ray.orphan_cleanup import MARK, SHORT, folder_for_ray, guarded_folder, kill_marked
from hpc.ray.private import RAY, read_environment_again, start_on_the_loopback
from transtailor.files import write_file
from transtailor.lines import first_line
from transtailor.terminal import say

SHARED_MEMORY = Path("/dev/shm")
START_TRIES = 2
_raylets: dict[int, int] = {}  # id of a process -> id of its raylet, as it was last seen


@contextmanager
def local_ray(cpus: int, gpus: int = 0) -> Iterator[Path]:
    """Start a Ray with these numbers of CPUs and GPUs, never join another one; yield a folder for temporary files.

    The folder is in $TMPDIR, or in /tmp if there is no such folder or its path is too long for Ray.
    Ray listens only on the loopback, and answers only calls with its token: a new one, in a file of that folder which
    only this user can read. On leaving, all processes of this Ray have ended, and the folder is removed. The processes
    also end, within seconds, when this process is killed.

    Raises:
        ClusterError: Ray did not start.
        LibraryError: the installed Ray lacks a private name that is used here.
    """
    RAY.check()
    raise_limits()
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(guarded_folder(_temporary_parent()))
            token = folder / "token"
            write_file(token, secrets.token_hex(32), mode=0o600)
        except (FolderError, OSError) as error:
            raise ClusterError(f"{error}; or add --site serial, which needs no Ray") from error
        kept = for_ranks(os.environ)
        variables: dict[str, str | None] = {name: None for name in os.environ if name not in kept}
        variables |= ray_environment(token, folder)
        variables[MARK] = str(folder)
        with _environment(variables):
            try:
                _start_in_tries(folder, cpus, gpus)
                del os.environ[MARK]  # processes that are started from here on are no part of this Ray
                yield folder
            finally:
                ray.shutdown()


def _temporary_parent() -> Path:
    parent = Path(os.environ.get("TMPDIR") or SHORT)
    return parent if parent.is_dir() else SHORT


def has_raylet() -> bool:
    """Whether the Ray that this process has started still has its raylet: without it no process starts or ends."""
    this_process = os.getpid()
    raylet = child_of(this_process, "raylet", _raylets.get(this_process))
    if raylet is None:
        return False
    _raylets[this_process] = raylet
    return True


def _start_in_tries(folder: Path, cpus: int, gpus: int) -> None:
    """Start Ray; a second time if it did not start within its own 30 s, as on a machine that is busy at the moment."""
    for number in range(1, START_TRIES + 1):
        try:
            _start(folder, cpus, gpus)
            return
        except Exception as error:  # Ray raises many kinds, some of them plain Exception
            explanation = _explain(folder, error)
            ray.shutdown()
            if number == START_TRIES or "timed out" not in str(error).lower():
                raise ClusterError(explanation) from error
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


def _explain(folder: Path, error: Exception) -> str:
    """Return Ray's error, and possible causes."""
    return (
        f"Ray did not start on this machine: {str(error).strip() or type(error).__name__}\n"
        f"it needs space, files and time ({_free_space(SHARED_MEMORY)}, {_free_space(folder.parent)}; "
        f"ulimit -n is {open_files()}, load {os.getloadavg()[0]:.0f}): fix what is short, or set TMPDIR to "
        "another short path, and type the same command again, or add --site serial, which needs no Ray"
    )


def _free_space(path: Path) -> str:
    return f"{shutil.disk_usage(path).free / 1e6:.0f} MB free in {path}"


@contextmanager
def _environment(variables: Mapping[str, str | None]) -> Iterator[None]:
    """Set these variables (None: unset) for this process and those that it starts; restore them afterwards."""
    before = {name: os.environ.get(name) for name in variables}
    _set_variables(variables)
    read_environment_again()
    try:
        yield
    finally:
        _set_variables(before)


def _set_variables(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
        read_environment_again()
