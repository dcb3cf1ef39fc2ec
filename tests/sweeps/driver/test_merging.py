"""A sweep merges its own parts, and a reader of all Parquet files finds each row at every moment."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from results.store import compact
from results.store.parts import read_manifest
from results.store.reader import load
from results.store.writer import Writer
from sweeps.driver import merging as module
from sweeps.driver.merging import merge_meanwhile
from transtailor.waiting import wait_for

MOMENT = datetime(2024, 5, 1, tzinfo=UTC)


class Run:
    """A run whose launches write events, each in a part of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.written: list[int] = []
        self.notes: list[str] = []
        (path / "tables").mkdir()

    @contextmanager
    def launch(self) -> Iterator[None]:
        with merge_meanwhile(self.path, self.notes.append):
            yield

    def write(self, count: int) -> None:
        writer = Writer(self.path / "tables")
        for number in range(len(self.written), len(self.written) + count):
            row = {"driver": "d", "number": number, "kind": "paused", "happened_at": MOMENT, "code_digest": "c"}
            writer.write("events", [row])
            self.written.append(number)

    @property
    def parts(self) -> list[Path]:
        return sorted((self.path / "tables" / "events").glob("*.parquet"))

    @property
    def merged(self) -> list[Path]:
        return sorted((self.path / "tables" / "events" / "merged").glob("*.parquet"))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def numbers(files: Sequence[Path]) -> list[int]:
    """What a reader that knows no manifest finds."""
    return sorted(number for path in files for number in pq.ParquetFile(path).read()["number"].to_pylist())


def test_a_launch_merges_at_its_end_and_removes_what_was_merged_before_it(run: Run) -> None:
    with run.launch():
        run.write(4)
    first = run.parts
    assert (len(first), numbers(run.merged)) == (4, [0, 1, 2, 3])
    with run.launch():
        run.write(3)
        assert set(first) < set(run.parts)  # nothing goes while a sweep runs
    assert (len(run.parts), numbers(run.parts)) == (3, [4, 5, 6])
    assert numbers(run.merged) == run.written
    with run.launch():
        pass
    assert (run.parts, numbers(run.merged)) == ([], run.written)
    with load(run.path) as tables:
        assert [row["number"] for row in tables.rows("SELECT number FROM events ORDER BY number")] == run.written
    assert run.notes == []


def test_a_launch_that_was_killed_is_merged_by_the_next_and_cleaned_up_by_the_one_after_it(run: Run) -> None:
    run.write(3)  # and then killed
    for parts_left in (3, 0):
        with run.launch():
            pass
        assert (len(run.parts), numbers(run.merged)) == (parts_left, [0, 1, 2])


def test_a_sweep_that_fails_merges_and_removes_nothing(run: Run) -> None:
    with run.launch():
        run.write(2)
    with pytest.raises(ValueError, match="lost"), run.launch():
        run.write(2)
        raise ValueError("lost")
    assert (numbers(run.parts), numbers(run.merged)) == ([0, 1, 2, 3], [0, 1])


def test_many_parts_are_merged_while_the_sweep_runs(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(compact, "MANY_PARTS", 5)
    monkeypatch.setattr(compact, "MANY_FRACTION", 1.0)
    with run.launch():
        run.write(4)
        assert run.merged == []
        run.write(1)
        wait_for(lambda: len(read_manifest(run.path).parts("events")) == 5, "the first five parts", 120.0)
        run.write(4)
        assert compact.compact_if_many(run.path) == []  # of nine parts less than half wait
        run.write(1)
        wait_for(lambda: len(read_manifest(run.path).parts("events")) == 10, "the others", 120.0)
        assert len(run.parts) == 10
    assert numbers(run.merged) == run.written


@pytest.mark.parametrize("launches", [1, 2, 3])
def test_a_reader_of_all_files_loses_no_row_however_long_it_takes_to_list_them(run: Run, launches: int) -> None:
    """It lists the merged files first, while a sweep runs, and the parts only after the end of that sweep."""
    for _ in range(launches - 1):
        with run.launch():
            run.write(3)
    with run.launch():
        run.write(3)
        merged, durable = run.merged, list(run.written)
        run.write(3)
    found = numbers([*merged, *run.parts])
    assert set(found) >= set(durable)


def test_a_table_that_cannot_be_merged_is_named_and_the_sweep_goes_on(run: Run) -> None:
    run.write(2)
    torn = run.parts[0]
    content = torn.read_bytes()
    torn.write_bytes(content[:-9])
    with run.launch():
        pass
    (note,) = run.notes
    assert "not merged" in note and torn.name in note
    assert (len(run.parts), run.merged) == (2, [])
    torn.write_bytes(content)
    with run.launch():
        pass
    assert numbers(run.merged) == [0, 1]
