"""How tests are shared out between two processes (`make test`): whole files, and all on a real SLURM as one of them."""

import pytest


@pytest.hookimpl(tryfirst=True)  # before xdist reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file's tests share what its fixtures make; there is one test bed of SLURM on a machine."""
    for item in items:
        place = item.path.parent if item.path.parent.name == "slurm" else item.path
        item.add_marker(pytest.mark.xdist_group(place.as_posix()))
