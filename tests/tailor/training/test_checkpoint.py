"""A checkpoint that is not what was written is said to be damaged, and the stage begins anew."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from tailor.parallel.process_group import ProcessGroup
from tailor.training import checkpoint as checkpoint_module
from tailor.training.checkpoint import SOONEST_S, WRITING_FRACTION, Checkpoint, CheckpointAction

CONTENT = bytes(range(200))
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _stored: b"",
    "torn": lambda stored: stored[:-1],
    "torn in its checksum": lambda stored: stored[:20],
    "a bit flipped": lambda stored: stored[:100] + bytes([stored[100] ^ 4]) + stored[101:],
    "of before it had a checksum": lambda _stored: CONTENT,
}


def test_what_was_written_is_read(tmp_path: Path, ranks: ProcessGroup, caplog: pytest.LogCaptureFixture) -> None:
    Checkpoint(tmp_path / "new" / "stage", 0.0, ranks).write(CONTENT)
    assert Checkpoint(tmp_path / "new" / "stage", 0.0, ranks).read() == CONTENT
    assert Checkpoint(tmp_path / "none", 0.0, ranks).read() == b""
    assert caplog.text == ""


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_one_counts_as_none(
    tmp_path: Path, ranks: ProcessGroup, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    path = tmp_path / "stage"
    checkpoint = Checkpoint(path, 0.0, ranks)
    checkpoint.write(CONTENT)
    path.write_bytes(DAMAGES[how](path.read_bytes()))
    with caplog.at_level(logging.WARNING):
        assert checkpoint.read() == b""
    assert f"damaged checkpoint, the stage starts from the beginning: {path}" in caplog.text


def test_the_pause_until_the_next_one_grows_with_the_time_that_a_write_takes(
    tmp_path: Path, ranks: ProcessGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s, write_s = 0.0, [0.0]

    def slow_disk(_path: Path, _content: bytes) -> None:
        nonlocal now_s
        now_s += write_s[0]

    monkeypatch.setattr(checkpoint_module, "write_file", slow_disk)
    monkeypatch.setattr(checkpoint_module.time, "monotonic", lambda: now_s)

    def pause_s(checkpoint: Checkpoint) -> float:
        """Seconds until it is due, in steps of half a second."""
        nonlocal now_s
        begin_s = now_s
        while checkpoint.wanted_action() is not CheckpointAction.WRITE:
            now_s += 0.5
        return now_s - begin_s

    checkpoint = Checkpoint(tmp_path / "stage", 30.0, ranks)
    assert pause_s(checkpoint) == SOONEST_S  # nothing is known of the disk
    for write_s[0], expected_s in ((0.001, SOONEST_S), (0.05, 0.05 / WRITING_FRACTION), (60.0, 30.0)):
        checkpoint.write(CONTENT)
        assert pause_s(checkpoint) == pytest.approx(expected_s, abs=0.5)
    assert pause_s(Checkpoint(tmp_path / "stage", 0.0, ranks)) == 0.0
