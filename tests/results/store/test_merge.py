"""Merging parts while a sweep runs: our readers open fewer files, and the parts stay for all others."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from results.errors import ResultsError
from results.store.merge import merge, only_one
from results.store.parts import manifest_file, parts_of
from results.store.reader import finished_trial_ids, load
from results.store.schema import TABLES, arrow_schema
from results.store.writer import Writer

Row = Callable[..., dict[str, Any]]


def all_rows(run: Path, names: Iterable[str] = (*TABLES, "measured_points")) -> dict[str, list[str]]:
    """Table -> its rows as texts, sorted; a row that is there twice is there twice."""
    with load(run, [name for name in names if name in TABLES]) as tables:
        return {name: sorted(map(str, tables.rows(f"FROM {name}"))) for name in names}


def rows_read(run: Path) -> dict[str, int]:
    """Table -> rows in all files that a reader opens, before the last of each key is chosen."""
    return {name: sum(pq.read_metadata(p.path).num_rows for p in parts) for name, parts in parts_of(run).items()}


def event(number: int) -> dict[str, Any]:
    """A row of `events`, which has a key of its own."""
    return {"driver": "d", "number": number, "kind": "paused", "happened_at": datetime.now(UTC), "code_digest": "c"}


def parts_on_disk(run: Path) -> dict[Path, bytes]:
    """Every part that writers made, and its content."""
    return {path: path.read_bytes() for path in (run / "tables").glob("*/*.parquet")}


def test_the_same_rows_are_read_from_fewer_files_and_no_part_is_touched(tmp_path: Path, synthetic: Any) -> None:
    run = synthetic(seeds=(0, 1)).write(tmp_path / "it's [a] run")
    rows, files, finished = all_rows(run), parts_on_disk(run), finished_trial_ids(run)
    counts = rows_read(run)
    made = merge(run)
    assert {one.table for one in made} == {name for name in TABLES if rows[name]}
    assert all(len(parts) <= 1 for parts in parts_of(run).values())
    assert (all_rows(run), parts_on_disk(run), finished_trial_ids(run)) == (rows, files, finished)
    assert rows_read(run) == counts
    assert sum(one.rows for one in made) == sum(counts.values())
    for one in made:
        merged, expected = pq.read_schema(one.path), arrow_schema(TABLES[one.table])
        assert merged.equals(expected) and merged.metadata == expected.metadata
        assert [field.metadata for field in merged] == [field.metadata for field in expected]  # units and meanings


def test_later_rows_replace_merged_ones_and_merged_ones_stay_as_they_are(tmp_path: Path, trial_row: Row) -> None:
    writer = Writer(tmp_path / "tables")
    writer.write("trials", [trial_row(status="failed", error="x"), trial_row(trial_id="b")])
    writer.write("trials", [trial_row(seconds=2.0)])
    (first,) = merge(tmp_path)
    content = first.path.read_bytes()
    assert merge(tmp_path) == []
    writer.write("trials", [trial_row(seconds=3.0)])
    assert merge(tmp_path) == []  # one part alone waits
    writer.write("trials", [trial_row(trial_id="b", status="failed", error="y")])
    (second,) = merge(tmp_path)
    assert (len(second.parts), second.rows) == (2, 2)
    assert first.path.read_bytes() == content
    with load(tmp_path) as run:
        assert run.rows("SELECT trial_id, status, seconds FROM trials ORDER BY trial_id") == [
            {"trial_id": "a", "status": "finished", "seconds": 3.0},
            {"trial_id": "b", "status": "failed", "seconds": 1.0},
        ]
    assert finished_trial_ids(tmp_path) == {"a"}
    assert rows_read(tmp_path)["trials"] == 5


def test_only_one_compacts_at_a_time(tmp_path: Path, trial_row: Row) -> None:
    Writer(tmp_path / "tables").write("trials", [trial_row()])
    with only_one(tmp_path), pytest.raises(ResultsError, match="another process merges the tables"):
        merge(tmp_path)
    assert merge(tmp_path) == []


def test_no_run_is_not_made_one(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="is no run"):
        merge(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "words"),
    [("{", "is damaged"), ("[]", "is damaged"), ('{"format": 1}', "is damaged"), ('{"format": 2}', "update it")],
)
def test_a_manifest_that_cannot_be_read_is_named(tmp_path: Path, trial_row: Row, content: str, words: str) -> None:
    writer = Writer(tmp_path / "tables")
    writer.write("trials", [trial_row()])
    writer.write("trials", [trial_row()])
    merge(tmp_path)
    manifest_file(tmp_path).write_text(content)
    for read in (load, finished_trial_ids, merge):
        with pytest.raises(ResultsError, match=words):
            read(tmp_path)


def test_a_merged_file_that_is_gone_or_torn_is_named(tmp_path: Path, trial_row: Row) -> None:
    writer = Writer(tmp_path / "tables")
    writer.write("trials", [trial_row()])
    writer.write("trials", [trial_row()])
    (made,) = merge(tmp_path)
    content = made.path.read_bytes()
    made.path.write_bytes(content[:-9])
    with pytest.raises(ResultsError, match="torn or no Parquet file"):
        load(tmp_path)
    made.path.unlink()
    with pytest.raises(ResultsError, match="missing; put it back"):
        load(tmp_path)
