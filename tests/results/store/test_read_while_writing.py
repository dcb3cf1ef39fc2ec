"""Beside a writer that commits all the time, each reader sees every committed row once, and no half of anything."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from pathlib import Path

import pyarrow as pa
import pytest

import results
from results.report.page import write_report
from results.store import writer as module
from results.store.completeness import lost_rows
from results.store.reader import Run, load
from results.store.writer import Writer
from tests.plain_readers import NAMES, Reader, plain_readers
from tests.results.exact_run import IMAGES, START, Trial, rows_of

SEEDS = 24
LOOKS = 25
KEYS = {"trials": ["trial_id"], "operating_points": ["trial_id", "point"], "predictions": ["trial_id", "image_id"]}
ROWS = {"trials": 1, "operating_points": 1, "predictions": IMAGES}
"""Table -> rows of a trial."""


def write_trials(run: Path, committed: "Synchronized[int]", is_over: Event) -> None:
    """Commits a trial at a time, and then their rows in the tables that change again and again."""
    module.FULL_ROWS = 500
    trials = [
        Trial(label=label, method=label, seed=seed, right=(80 + seed % 3 + 5 * (label == "prune"),))
        for seed in range(SEEDS)
        for label in ("fine_tune", "prune")
    ]
    writer = Writer(run / "tables")
    writer.write("planned", rows_of(trials)["planned"])
    for number in itertools.count():
        if is_over.is_set():
            return
        rows = rows_of([trials[number % len(trials)]])
        for table in ("trials",) if number >= len(trials) else rows:
            writer.add(table, rows[table])
        writer.commit()
        committed.value = min(number + 1, len(trials))


@pytest.fixture
def busy_run(tmp_path: Path) -> Iterator[tuple[Path, Callable[[], int]]]:
    """A run that another process writes, and a function that returns how many trials it has committed."""
    context = get_context("spawn")  # readers have started threads
    committed, is_over = context.Value("i", 0), context.Event()
    process = context.Process(target=write_trials, args=(tmp_path, committed, is_over))
    process.start()
    try:
        while committed.value < 2:
            assert process.is_alive()
        yield tmp_path, lambda: committed.value
        assert process.is_alive()
    finally:
        is_over.set()
        process.join()


@pytest.mark.check
@pytest.mark.parametrize("name", NAMES)
def test_a_reader_that_knows_nothing_of_us(busy_run: tuple[Path, Callable[[], int]], name: str) -> None:
    run, committed = busy_run
    read = again_if_replaced(plain_readers()[name])
    for _ in range(LOOKS):
        for table, key in KEYS.items():
            least = committed()
            rows = read(run / "tables" / table, key).to_pylist()
            assert len({tuple(row.values()) for row in rows}) == len(rows) >= least * ROWS[table]
            assert len(rows) % ROWS[table] == 0


def again_if_replaced(read: Reader) -> Reader:
    """polars and DuckDB open a file twice: an error, and no wrong rows, if it was replaced in between."""

    def read_again(folder: Path, columns: Sequence[str]) -> pa.Table:
        while True:
            with suppress(*refusals()):
                return read(folder, columns)

    return read_again


def refusals() -> tuple[type[BaseException], ...]:
    """The errors of polars and DuckDB."""
    import duckdb
    from polars.exceptions import ComputeError, PanicException

    return ComputeError, PanicException, duckdb.Error


def test_a_file_that_is_replaced_after_its_footer_was_read_shows_no_other_column(tmp_path: Path) -> None:
    """The rows that polars and DuckDB find in each file by the footer of the one before are its own, or an error."""
    writer, folder = Writer(tmp_path / "run" / "tables"), tmp_path / "run" / "tables" / "events"
    mixed = tmp_path / "mixed" / "tables" / "events"
    mixed.mkdir(parents=True)
    fixed = {"driver": "d", "kind": "resumed", "happened_at": START, "detail": "x" * 40, "code_digest": "c"}
    earlier, refused = b"", 0
    for number in range(0, 400, 20):
        writer.write("events", [fixed | {"number": later} for later in range(number, number + 20)])
        (file,) = folder.iterdir()
        written = file.read_bytes()
        if earlier:
            mixed.joinpath(file.name).write_bytes(written[: footer_at(written)] + earlier[footer_at(earlier) :])
            for name in ("polars", "duckdb *"):
                for column in fixed:
                    try:
                        rows = plain_readers()[name](mixed, [column])
                    except refusals():
                        refused += 1
                    else:
                        assert rows[column].to_pylist() == [fixed[column]] * number, (name, column)
        earlier = written
    assert refused == 2 * len(fixed) * 19


def footer_at(file: bytes) -> int:
    """Where the footer of a Parquet file begins, whose length stands before the last four bytes."""
    return len(file) - 8 - int.from_bytes(file[-8:-4], "little")


@pytest.mark.check
def test_our_tables_and_what_is_computed_from_them(busy_run: tuple[Path, Callable[[], int]]) -> None:
    run, committed = busy_run
    for look in range(LOOKS):
        least = committed()
        with results.load(run) as tables:
            assert_of_one_moment(tables, least)
            with_pairs = tables.rows("SELECT count(*) AS n FROM trials")[0]["n"] >= 4
            pairs = tables.compare("fine_tune")["pairs"].tolist() if with_pairs else []
        assert all(least // 2 <= n <= SEEDS for n in pairs)
        if look % 5 == 0:
            assert "Rows are lost" not in write_report(run).read_text()


def assert_of_one_moment(tables: Run, least: int) -> None:
    """At least so many trials have ended; each with all its rows, once."""
    (row,) = tables.rows("SELECT count(*) AS trials, count(DISTINCT trial_id) AS ids FROM trials")
    assert row["ids"] == row["trials"] >= least
    counts = tables.rows(
        "SELECT count(*) AS points, min(test_images) AS fewest, max(test_images) AS most"
        " FROM measured_points SEMI JOIN trials USING (trial_id)"
    )
    assert counts == [{"points": row["trials"], "fewest": IMAGES, "most": IMAGES}]
    assert lost_rows(tables) == ""


def test_a_reader_that_is_overtaken_between_two_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trial is committed after each table that it has listed, and its last file is replaced each time."""
    trials = iter([Trial(label="arm", seed=seed, right=(90,)) for seed in range(100)])
    writer, real = Writer(tmp_path / "tables"), Path.iterdir

    def commit() -> None:
        for table, rows in rows_of([next(trials)]).items():
            writer.add(table, rows)
        writer.commit()

    def overtaken(folder: Path) -> Iterator[Path]:
        listed = list(real(folder))
        if folder.parent == tmp_path / "tables":
            seen.append(folder.name)
            commit()
        return iter(listed)

    monkeypatch.setattr(module, "FULL_ROWS", 250)
    commit()
    seen: list[str] = []
    monkeypatch.setattr(Path, "iterdir", overtaken)
    with load(tmp_path) as tables:
        assert_of_one_moment(tables, least=1)
        (row,) = tables.rows("SELECT count(*) AS n FROM predictions")
    assert row["n"] > 2 * IMAGES and {"trials", "stages", "predictions"} <= set(seen)
