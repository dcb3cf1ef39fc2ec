"""Stages on disk: whole or absent, first come first kept, damage found."""

import errno
import json
import multiprocessing
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tailor.execution.cache import Cache, DamagedStage, MadeBy, StageDescription
from transtailor.files import make_folder

KEY, OTHER = "ab" * 32, "ab" + 62 * "0"


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
    assert [path.name for path in (tmp_path / "ab").iterdir()] == [f"{KEY}.stage"]  # nothing temporary is left


def test_the_first_writer_wins(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.write(KEY, DESCRIPTION, b"first")
    late = cache.write(KEY, description(2), b"second")
    assert late.description == DESCRIPTION
    assert cache.read_tensors(KEY) == b"first"
    assert [path.name for path in (tmp_path / "ab").iterdir()] == [f"{KEY}.stage"]


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
    assert [path.name for path in (tmp_path / "ab").iterdir()] == [f"{KEY}.stage"]


def change(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, new))


DAMAGED = [b"", b"{", b"[]", b'{"key": "other"}', json.dumps({"key": KEY}).encode()]


@pytest.mark.parametrize("content", [*DAMAGED, *(content + b"\ntensors" for content in DAMAGED)])
def test_a_damaged_description_is_found(content: bytes, tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.write(KEY, DESCRIPTION, b"tensors")
    cache.path(KEY).write_bytes(content)
    for read in (cache.read, cache.read_tensors):
        with pytest.raises(DamagedStage) as damage:
            read(KEY)
    aside = cache.set_aside(KEY, damage.value)
    assert aside is not None and aside.exists() and not cache.has(KEY) and not list(cache.stored_keys())
    cache.write(KEY, DESCRIPTION, b"tensors")  # another machine was faster
    assert cache.set_aside(KEY, damage.value) is None and cache.has(KEY)


def test_one_changed_digit_of_a_description_is_found(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    info: dict[Any, Any] = {"score": 0.915, 2: (1, 2), 10: None}
    cache.write(KEY, replace(DESCRIPTION, info=info), b"tensors")
    assert cache.read(KEY) is not None
    change(cache.path(KEY), b"0.915", b"0.975")
    with pytest.raises(DamagedStage, match="SHA-256"):
        cache.read(KEY)


@pytest.mark.parametrize("tensors", [b"tensorz", b"tensor", b"tensors\n", b""])
def test_damaged_and_missing_tensors_are_found(tensors: bytes, tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.write(KEY, DESCRIPTION, b"tensors")
    change(cache.path(KEY), b"\ntensors", b"\n" + tensors)
    assert cache.read(KEY) is not None
    with pytest.raises(DamagedStage, match="SHA-256"):
        cache.read_tensors(KEY)


def test_tensors_may_hold_any_bytes(tmp_path: Path) -> None:
    cache, tensors = Cache(tmp_path), b"\n{}\r\n\0" * 9
    cache.write(KEY, DESCRIPTION, tensors)
    assert cache.read_tensors(KEY) == tensors


def test_a_stage_is_written_with_two_syncs_and_no_hard_links_are_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_folder(tmp_path / "ab")
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    Cache(tmp_path).write(KEY, DESCRIPTION, b"tensors")
    assert len(synced) == 2

    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no hard links")

    monkeypatch.setattr(os, "link", refuse)
    for key, tensors in ((KEY, b"second"), (OTHER, b"other")):
        Cache(tmp_path).write(key, DESCRIPTION, tensors)
    assert [Cache(tmp_path).read_tensors(key) for key in (KEY, OTHER)] == [b"tensors", b"other"]
    assert sorted(path.name for path in (tmp_path / "ab").iterdir()) == [f"{OTHER}.stage", f"{KEY}.stage"]
