"""How tests are distributed over processes (`make test` has five): by file; all on a real SLURM count as one."""

import gc
import os
import signal
import tempfile
from collections import defaultdict

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

LONGEST_FIRST = ("slurm", "ray", "slow")  # markers


def pytest_configure(config: pytest.Config) -> None:
    """Give all processes one cache folder that ends with the tests, and heed SIGINT.

    A shell lets a command ignore SIGINT that it starts in the background, with all of its children.
    """
    if not hasattr(config, "workerinput"):  # xdist's processes inherit it
        folder = tempfile.TemporaryDirectory(prefix="caches-")
        config.add_cleanup(folder.cleanup)
        os.environ["XDG_CACHE_HOME"] = folder.name
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
    """Sort slow files first, so that none of them runs alone at the end."""
    markers = defaultdict[str, set[str]](set)
    for item in items:
        markers[item.nodeid.partition("::")[0]] |= {marker.name for marker in item.iter_markers()}

    def place(item: pytest.Item) -> int:
        found = markers[item.nodeid.partition("::")[0]]
        return next((number for number, name in enumerate(LONGEST_FIRST) if name in found), len(LONGEST_FIRST))

    items.sort(key=place)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer | None) -> LoadFileScheduling:
    """Return the scheduler for xdist."""
    return _ByPlace(config, log)
