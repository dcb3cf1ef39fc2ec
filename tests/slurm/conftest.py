"""One real SLURM for all tests of this folder that want one, and what they need beside it."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.disturbances import folders_of_nodes, left_behind
from tests.slurm.testbed import BRIDGE, Testbed, alone, missing

REASON = missing()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests of this folder; where no SLURM can be raised they are skipped, unless they are required."""
    for item in items:
        if Path(__file__).parent not in item.path.parents:
            continue
        item.add_marker(pytest.mark.check)
        if REASON is not None and os.environ.get("SLURM_TESTS") != "required":
            item.add_marker(pytest.mark.skip(reason=REASON))


def raised(
    nodes: int,
    *,
    accounting: bool,
    foreign: bool = False,
    client: Path | None = None,
    client_options: tuple[str, ...] = (),
) -> Iterator[Testbed]:
    """A test bed with the environment of its users; afterwards nothing of it is left."""
    with (
        alone(),
        tempfile.TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        testbed = Testbed(
            Path(folder), nodes=nodes, accounting=accounting, foreign=foreign, client=client,
            client_options=client_options,
        )  # fmt: skip
        testbed.up()
        for name, value in testbed.environment.items() - os.environ.items():
            patch.setenv(name, value)
        try:
            yield testbed
        finally:
            testbed.down()
            for path in folders_of_nodes():  # a node whose power was cut could not
                shutil.rmtree(path)
        end = time.monotonic() + 300.0
        while left := left_behind(Path(folder)):  # what ran on a node ends a moment after the node's first process
            assert time.monotonic() < end, left
            time.sleep(0.2)
        assert not Path("/sys/class/net", BRIDGE).exists()


@pytest.fixture(scope="module")
def three_nodes() -> Iterator[Testbed]:
    """Three nodes, with accounting; the one in the folder $TESTBED where that is up (`testbed.py up --folder`)."""
    if (folder := os.environ.get("TESTBED")) is None:
        yield from raised(3, accounting=True)
        return
    with pytest.MonkeyPatch.context() as patch:
        testbed = Testbed(Path(folder))
        patch.setenv("SLURM_CONF", testbed.environment["SLURM_CONF"])
        yield testbed


@pytest.fixture(scope="module")
def foreign() -> Iterator[Testbed]:
    """Two nodes of a foreign cluster."""
    yield from raised(2, accounting=True, foreign=True)


@pytest.fixture(scope="module", params=[True, False], ids=["accounting", "no accounting"])
def slurm(request: pytest.FixtureRequest) -> Iterator[Testbed]:
    """Two nodes; SLURM_CONF points to them. A module that wants one kind alone parametrizes it indirectly."""
    yield from raised(2, accounting=request.param)
