"""What several processes of one test run share: made by the first that needs it."""

import fcntl
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


def made_once(request: pytest.FixtureRequest, name: str, make: Callable[[Path], object] = lambda _: None) -> Path:
    """The folder with this name of the whole test run, filled by `make` if no process has done so.

    Args:
        request: of a fixture of a session.
        make: is given the new folder; the other processes wait for its end.
    """
    factory: pytest.TempPathFactory = request.getfixturevalue("tmp_path_factory")
    own = factory.getbasetemp()
    folder = (own.parent if hasattr(request.config, "workerinput") else own) / name
    done = folder.with_name(f"{name}.done")
    with folder.with_name(f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a process that failed
            folder.mkdir()
            make(folder)
            done.touch()
    return folder
