"""How tests are distributed over the processes of `make`: by file; all on a real SLURM count as one."""

import gc
import os
import signal
import tempfile
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

LONGEST_FIRST = (
    "tests/slurm/",
    "tests/test_",
    "tests/hpc/ranks/test_ray",
    "tests/sweeps/operations/test_latencies",
    "tests/sweeps/driver/",
    "tests/faults/",
    "tests/sweeps/",
)
"""Where tests wait for whole sweeps: begun last, one of these files would run alone at the end."""
MEMORY_FOLDER = Path("/dev/shm")
FREE_GB = 4.0  # tests' folders and what is shared hold at most a quarter of it at a time
AVAILABLE_GB = 8.0  # of memory; what a folder in it holds is no longer there for the tests


def pytest_configure(config: pytest.Config) -> None:
    """Give all processes one cache folder that ends with the tests and Ray's workers the usual priority; heed SIGINT.

    The folders of the tests of `make test` are in memory where there is room: a disk takes seconds for the syncs of a
    run. Others' are not: nodes of a real SLURM have a /dev/shm of their own.

    A shell lets a command ignore SIGINT that it starts in the background, with all of its children.
    """
    if not hasattr(config, "workerinput"):  # xdist's processes inherit it
        folder = tempfile.TemporaryDirectory(prefix="caches-")
        config.add_cleanup(folder.cleanup)
        os.environ["XDG_CACHE_HOME"] = folder.name
        if config.option.markexpr.startswith("not check") and has_room_in_memory():
            os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY_FOLDER))
        # torch's threads would spin while they wait for those that other tests keep from the cores.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        # Ray's workers would have the lowest priority, and starve beside the other tests.
        os.environ.setdefault("RAY_worker_niceness", "0")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.disable()  # until all is imported


def has_room_in_memory() -> bool:
    """Whether tests' folders fit into memory, and programs that tests write there may be executed."""
    try:
        room = os.statvfs(MEMORY_FOLDER)
        memory = Path("/proc/meminfo").read_text()
    except OSError:
        return False
    available_gb = int(memory.partition("MemAvailable:")[2].split()[0]) / 1e6
    can_execute = not room.f_flag & os.ST_NOEXEC
    return can_execute and room.f_bavail * room.f_frsize / 1e9 >= FREE_GB and available_gb >= AVAILABLE_GB


def pytest_collection_finish() -> None:
    """Leave what the imports made out of garbage collection, which looks at it again and again."""
    gc.freeze()
    gc.enable()


class _ByPlace(LoadFileScheduling):
    """A file's tests share what its fixtures make; of SLURM's test bed there is one on a machine."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return "tests/slurm" if file.startswith("tests/slurm/") else file


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the folders whose tests take longest."""

    def rank(item: pytest.Item) -> int:
        matches = (number for number, start in enumerate(LONGEST_FIRST) if item.nodeid.startswith(start))
        return next(matches, len(LONGEST_FIRST))

    items.sort(key=rank)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer | None) -> LoadFileScheduling:
    """Return the scheduler for xdist."""
    return _ByPlace(config, log)
