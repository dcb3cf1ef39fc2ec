"""Stages on disk: whole or absent, first come first kept, damage found."""

import json
import multiprocessing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tailor.execution.cache import Cache, DamagedStage, MadeBy, StageDescription

KEY = "ab" * 32


def description(number: int) -> StageDescription:
    made_by = MadeBy(compute_s=1.0, device="cpu", ranks=1, threads=1, torch_version="2")
    return StageDescription(
        kind="test", version=1, settings={}, parents=(), info={"number": number}, made_by=made_by
    )  # fmt: skip


DESCRIPTION = description(1)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert not cache.has(KEY)
    assert cache.read(KEY) is None
    cache.write(KEY, DESCRIPTION, b"tensors")
    assert cache.has(KEY)
    stored = cache.read(KEY)
    assert stored is not None and stored.description == DESCRIPTION and stored.tensors_bytes == 7
    assert cache.read_tensors(KEY) == b"tensors"
    assert [path.name for path in (tmp_path / "ab").iterdir()] == [KEY]  # nothing temporary is left


def test_the_first_writer_wins(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.write(KEY, DESCRIPTION, b"first")
    late = cache.write(KEY, description(2), b"second")
    assert late.description == DESCRIPTION
    assert cache.read_tensors(KEY) == b"first"
    assert [path.name for path in (tmp_path / "ab").iterdir()] == [KEY]


def _write(folder: Path, number: int) -> None:
    Cache(folder).write(KEY, description(number), bytes([number]) * 1000)


def test_many_writers_at_once_leave_one_whole_stage(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(tmp_path, number)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    stored = Cache(tmp_path).read(KEY)
    assert stored is not None
    assert Cache(tmp_path).read_tensors(KEY) == bytes([stored.description.info["number"]]) * 1000
    assert [path.name for path in (tmp_path / "ab").iterdir()] == [KEY]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"key": "other"}', json.dumps({"key": KEY}).encode()])
def test_a_damaged_description_is_found(content: bytes, tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.write(KEY, DESCRIPTION, b"tensors")
    (cache.path(KEY) / "stage.json").write_bytes(content)
    with pytest.raises(DamagedStage):
        cache.read(KEY)
    aside = cache.set_aside(KEY)
    assert aside.exists() and not cache.has(KEY)


def test_one_changed_digit_of_a_description_is_found(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    info: dict[Any, Any] = {"score": 0.915, 2: (1, 2), 10: None}
    cache.write(KEY, replace(DESCRIPTION, info=info), b"tensors")
    assert cache.read(KEY) is not None
    path = cache.path(KEY) / "stage.json"
    path.write_text(path.read_text().replace("0.915", "0.975"))
    with pytest.raises(DamagedStage, match="SHA-256"):
        cache.read(KEY)


def test_a_stage_of_before_descriptions_had_a_checksum_is_read(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.write(KEY, DESCRIPTION, b"tensors")
    path = cache.path(KEY) / "stage.json"
    stored = json.loads(path.read_text())
    del stored["sha256"]
    path.write_text(json.dumps(stored))
    read = cache.read(KEY)
    assert read is not None and read.description == DESCRIPTION


def test_damaged_and_missing_tensors_are_found(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.write(KEY, DESCRIPTION, b"tensors")
    (cache.path(KEY) / "tensors.safetensors").write_bytes(b"tensorz")
    with pytest.raises(DamagedStage, match="SHA-256"):
        cache.read_tensors(KEY)
    (cache.path(KEY) / "tensors.safetensors").unlink()
    with pytest.raises(DamagedStage):
        cache.read_tensors(KEY)
