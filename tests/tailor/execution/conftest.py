"""What a user's module changes in a process is as before after each test."""

import sys

import pytest

from tailor.common import neighbours
from tailor.execution import plugins


@pytest.fixture(autouse=True)
def _no_module_of_a_user_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a test's `json.py` would be found by the processes that a later test starts."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(neighbours._finder, "folders", set())
    for registry in plugins.REGISTRIES:
        len(registry)  # imports what is built in
        monkeypatch.setattr(registry, "_records", dict(registry._records))
