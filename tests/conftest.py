"""How tests are distributed over the processes of `make`: by file; all on a real SLURM count as one."""

import gc
import os
import signal
import tempfile

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


def pytest_configure(config: pytest.Config) -> None:
    """Give all processes one cache folder that ends with the tests and Ray's workers the usual priority; heed SIGINT.

    A shell lets a command ignore SIGINT that it starts in the background, with all of its children.
    """
    if not hasattr(config, "workerinput"):  # xdist's processes inherit it
        folder = tempfile.TemporaryDirectory(prefix="caches-")
        config.add_cleanup(folder.cleanup)
        os.environ["XDG_CACHE_HOME"] = folder.name
        # Ray's workers would have the lowest priority, and starve beside the other tests.
        os.environ.setdefault("RAY_worker_niceness", "0")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.disable()  # until all is imported


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
