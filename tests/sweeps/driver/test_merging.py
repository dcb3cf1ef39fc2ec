"""A sweep merges its own parts where no other reader looks, and brings its tables to rest when it ends."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from results.store import merge
from results.store.parts import read_manifest
from results.store.reader import load
from results.store.settle import is_settled
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
    def plain(self) -> list[int]:
        """What a reader of all Parquet files finds, which knows nothing of us."""
        return numbers(self.parts)

    @property
    def ours(self) -> list[int]:
        with load(self.path, ["events"]) as tables:
            return sorted(row["number"] for row in tables.rows("SELECT number FROM events"))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def numbers(files: Sequence[Path]) -> list[int]:
    return sorted(number for path in files for number in pq.ParquetFile(path).read()["number"].to_pylist())


def test_after_each_launch_every_reader_finds_each_row_once(run: Run) -> None:
    for rows in (4, 3, 0):
        before = run.parts
        with run.launch():
            run.write(rows)
            assert set(before) <= set(run.parts)  # nothing goes while a sweep runs
        assert (run.plain, run.ours, is_settled(run.path)) == (run.written, run.written, True)
    assert run.notes == []


def test_a_launch_that_was_killed_is_settled_by_the_next(run: Run) -> None:
    run.write(3)  # and then killed
    assert not is_settled(run.path)
    with run.launch():
        pass
    assert (run.plain, is_settled(run.path)) == ([0, 1, 2], True)


def test_the_tables_of_a_sweep_that_fails_are_settled_too(run: Run) -> None:
    with pytest.raises(ValueError, match="lost"), run.launch():
        run.write(2)
        raise ValueError("lost")
    assert (run.plain, is_settled(run.path)) == ([0, 1], True)


def test_at_the_second_signal_a_launch_ends_at_once(run: Run) -> None:
    with pytest.raises(KeyboardInterrupt), run.launch():
        run.write(2)
        raise KeyboardInterrupt
    assert (run.plain, is_settled(run.path)) == ([0, 1], False)


def test_many_parts_are_merged_while_the_sweep_runs(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(merge, "MANY_PARTS", 5)
    monkeypatch.setattr(merge, "MANY_FRACTION", 1.0)
    with run.launch():
        run.write(4)
        run.write(1)
        wait_for(lambda: len(read_manifest(run.path).parts("events")) == 5, "the first five parts", 120.0)
        run.write(4)
        assert merge.merge_if_many(run.path) == []  # of nine parts less than half wait
        run.write(1)
        wait_for(lambda: len(read_manifest(run.path).parts("events")) == 10, "the others", 120.0)
        assert (len(run.parts), run.plain, run.ours) == (10, run.written, run.written)  # who lists them sees each once
    assert (run.plain, run.ours) == (run.written, run.written)


def test_a_table_that_cannot_be_merged_is_named_and_the_sweep_goes_on(run: Run) -> None:
    run.write(2)
    torn = run.parts[0]
    content = torn.read_bytes()
    torn.write_bytes(content[:-9])
    with run.launch():
        pass
    (note,) = run.notes
    assert "not settled" in note and torn.name in note
    assert len(run.parts) == 2
    torn.write_bytes(content)
    with run.launch():
        pass
    assert (run.plain, is_settled(run.path)) == ([0, 1], True)
