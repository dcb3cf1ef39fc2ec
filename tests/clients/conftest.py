"""Several clients of one shared folder; where none can be mounted, their tests are skipped unless they are required."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.mounts import Clients, compiled, missing, no_fuse


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests that mount clients."""
    for item in items:
        if Path(__file__).parent in item.path.parents and "program" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.check)


def client_program(folder: Path) -> Path:
    """Compile the client; skips the test where it cannot be mounted, or fails it where it has to be."""
    if (reason := missing()) is not None:
        is_required = os.environ.get("CLIENT_TESTS") == "required" and no_fuse() is None
        (pytest.fail if is_required else pytest.skip)(reason)
    return compiled(folder)


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client, compiled."""
    return client_program(tmp_path_factory.mktemp("client"))


@pytest.fixture
def clients(program: Path) -> Iterator[Clients]:
    """A server without clients yet; afterwards nothing is mounted."""
    with tempfile.TemporaryDirectory(prefix="clients-") as folder:
        mounted = Clients(program, Path(folder))
        try:
            yield mounted
        finally:
            mounted.end()
