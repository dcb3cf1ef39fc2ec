"""A checkpoint that is not what was written is said to be damaged, and the stage begins anew."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from tailor.checkpoint import Checkpoint
from tailor.distributed import Ranks

CONTENT = bytes(range(200))
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _stored: b"",
    "torn": lambda stored: stored[:-1],
    "torn in its checksum": lambda stored: stored[:20],
    "a bit flipped": lambda stored: stored[:100] + bytes([stored[100] ^ 4]) + stored[101:],
    "of before it had a checksum": lambda _stored: CONTENT,
}


def test_what_was_written_is_read(tmp_path: Path, ranks: Ranks, caplog: pytest.LogCaptureFixture) -> None:
    Checkpoint(tmp_path / "new" / "stage", 0.0, ranks).write(CONTENT)
    assert Checkpoint(tmp_path / "new" / "stage", 0.0, ranks).read() == CONTENT
    assert Checkpoint(tmp_path / "none", 0.0, ranks).read() == b""
    assert caplog.text == ""


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_one_counts_as_none(tmp_path: Path, ranks: Ranks, caplog: pytest.LogCaptureFixture, how: str) -> None:
    path = tmp_path / "stage"
    checkpoint = Checkpoint(path, 0.0, ranks)
    checkpoint.write(CONTENT)
    path.write_bytes(DAMAGES[how](path.read_bytes()))
    with caplog.at_level(logging.WARNING):
        assert checkpoint.read() == b""
    assert f"damaged checkpoint, the stage begins anew: {path}" in caplog.text
