"""A file system that has no locks is refused with advice that helps."""

import fcntl
from pathlib import Path

import pytest

from sweeps.errors import RunFolderError
from sweeps.run.run_lock import RunLock, holder_of


def test_without_locks_a_run_is_refused_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with pytest.raises(RunFolderError, match="has no locks .flock.: No locks available.*type --runs with a folder of"):
        RunLock(tmp_path / "lock")
    assert holder_of(tmp_path / "lock") is None  # which `status` asks
