"""A simulated machine believes what a client of NFS believes."""

from pathlib import Path

import pytest

from tests.simulation.beliefs import BELIEVED_S, Beliefs

HERE, THERE = "here", "there"  # two machines


class Clock:
    """Seconds that a test sets."""

    now_s = 0.0


@pytest.fixture
def clock() -> Clock:
    """Stands at its beginning."""
    return Clock()


@pytest.fixture
def beliefs(clock: Clock) -> Beliefs:
    """Those of machines that have seen nothing."""
    return Beliefs(lambda: clock.now_s)


def test_a_file_is_as_it_was_at_its_last_open(beliefs: Beliefs, clock: Clock, tmp_path: Path) -> None:
    path = tmp_path / "file"

    def size(machine: str) -> int:
        return beliefs.status(machine, str(path), path.stat).st_size

    path.write_text("1")
    assert size(HERE) == 1
    path.write_text("12")
    assert (size(HERE), size(THERE)) == (1, 2)
    beliefs.open_file(HERE, str(path), path.stat())
    assert size(HERE) == 2
    path.unlink()
    assert size(HERE) == 2
    beliefs.open_folder(HERE, str(tmp_path))
    with pytest.raises(FileNotFoundError):
        size(HERE)
    clock.now_s = BELIEVED_S
    with pytest.raises(FileNotFoundError):
        size(THERE)


def test_what_a_machine_changes_it_knows(beliefs: Beliefs, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("1")
    beliefs.status(HERE, str(path), path.stat)
    beliefs.change(HERE, str(path))
    path.write_text("12")
    assert beliefs.status(HERE, str(path), path.stat).st_size == 2


def test_a_name_that_another_machine_has_made_is_absent_until_its_folder_is_opened(
    beliefs: Beliefs, clock: Clock
) -> None:
    clock.now_s = 1.0
    beliefs.make(HERE, "/run/stop")
    assert beliefs.lacks(THERE, "/run/stop")
    assert not beliefs.lacks(HERE, "/run/stop")
    beliefs.open_folder(THERE, "/run")
    assert not beliefs.lacks(THERE, "/run/stop")
    beliefs.make(HERE, "/run/new")
    clock.now_s += BELIEVED_S / 2
    beliefs.make(HERE, "/run/new/stop")
    assert not beliefs.lacks(HERE, "/run/new/stop")
    assert beliefs.lacks(THERE, "/run/new/stop")
    clock.now_s += BELIEVED_S
    assert not beliefs.lacks(THERE, "/run/new/stop")


def test_a_machine_appends_at_the_end_that_it_knows(beliefs: Beliefs, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("123")
    status = path.stat()
    for machine in (HERE, THERE):
        beliefs.open_file(machine, str(path), status)
    beliefs.append(HERE, status.st_ino, 2)
    assert (beliefs.end_of(HERE, status.st_ino), beliefs.end_of(THERE, status.st_ino)) == (5, 3)
