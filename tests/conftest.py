"""How tests are shared out between processes (`make test` has three): by files, all on a real SLURM as one."""

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling


class _ByPlace(LoadFileScheduling):
    """A file's tests share what its fixtures make; of SLURM's test bed there is one on a machine."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return "tests/slurm" if file.startswith("tests/slurm/") else file


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests on SLURM come first: they take longest, one after the other, and wait much."""
    items.sort(key=lambda item: not item.nodeid.startswith("tests/slurm/"))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer | None) -> LoadFileScheduling:
    """What xdist asks for."""
    return _ByPlace(config, log)
