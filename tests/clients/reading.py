"""Readers read while the one writer of a run commits as fast as it can: does any see a row twice, or miss one?

The writer numbers its rows and announces, after each commit, how many of them are durable. So before a reader loads the
run, it knows how many rows it must see at least, and that they have no gap. Half of the readers know nothing of us:
pandas, pyarrow, polars and DuckDB read the folder of a table.
"""

import multiprocessing
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from results.store import writer as store
from results.store.reader import load
from results.store.writer import Writer
from tests.plain_readers import plain_readers

ROWS = 20  # of a commit
FULL_ROWS = 4000  # of a file, so that a round has full ones
START_S = 300.0  # that processes may take to begin
START = datetime(2024, 5, 1, tzinfo=UTC)
COLUMNS = ["number", "detail"]
DETAIL = "x" * 40


@dataclass(kw_only=True)
class Seen:
    """What one reader found; all but the first two must be 0."""

    reads: int = 0
    read_again: int = 0  # by others: a file was replaced while it was opened, which is an error and no fault
    rows_twice: int = 0
    rows_missing: int = 0
    older_rows_shown: int = 0  # of a row that was replaced
    errors: int = 0

    def add(self, other: "Seen") -> None:
        """Adds what another reader found."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))

    @property
    def is_right(self) -> bool:
        """Whether readers have read, and the promise was never broken."""
        return self.reads > 0 and self.rows_twice + self.rows_missing + self.older_rows_shown + self.errors == 0

    def compare(self, rows: pa.Table, least: int, *, may_mix: bool = False) -> None:
        """Counts what is wrong with rows of which there must be at least so many.

        Args:
            may_mix: the file may have been replaced twice during the read, so that another column may be shown.
        """
        numbers = rows["number"].to_pylist()
        there = set(numbers)
        self.rows_twice += len(numbers) - len(there)
        self.rows_missing += max(least, max(there, default=-1) + 1) - len(there)
        if not may_mix:
            self.errors += sum(detail != DETAIL for detail in rows["detail"].to_pylist())
        self.reads += 1


def one_round(run: Path, *, seconds: float, readers: int, elsewhere: Sequence[Path] = ()) -> tuple[Seen, int]:
    """Writes and reads at once; what the readers found, and how many rows were written.

    Args:
        run: an empty folder, which becomes a run.
        seconds: its duration.
        readers: processes that read; every second one knows nothing of us.
        elsewhere: where readers see the run, in turns; none: where it is written.

    Raises:
        RuntimeError: a process ended with an error of its own.
    """
    spawn = multiprocessing.get_context("spawn")
    durable, stop, answers = spawn.Value("q", 0, lock=False), spawn.Event(), spawn.Queue()
    ready = spawn.Barrier(1 + readers + 1)  # or the slowest to start would hardly be there
    processes = [spawn.Process(target=_write, args=(run, durable, stop, ready))]
    for number in range(readers):
        read = _read_plainly if number % 2 else _read
        place = elsewhere[number // 2 % len(elsewhere)] if elsewhere else run
        processes.append(spawn.Process(target=read, args=(place, durable, stop, answers, ready)))
    for process in processes:
        process.start()
    ready.wait(START_S)
    time.sleep(seconds)
    stop.set()
    seen = Seen()
    for _ in range(readers):
        seen.add(answers.get(timeout=120))
    for process in processes:
        process.join(120)
    if bad := [process.exitcode for process in processes if process.exitcode != 0]:
        raise RuntimeError(f"processes ended with {bad}")
    return seen, durable.value


def _write(run: Path, durable: Any, stop: Any, ready: Any) -> None:
    """Commits numbered rows, and a row that is replaced each time and has their number."""
    store.FULL_ROWS = FULL_ROWS
    writer = Writer(run / "tables")
    while durable.value == 0 or not stop.is_set():
        first = durable.value
        row = {"driver": "d", "happened_at": START, "kind": "resumed", "detail": DETAIL, "code_digest": "c"}
        writer.add("events", [row | {"number": number} for number in range(first, first + ROWS)])
        trial = {"trial_id": "t", "status": "finished", "started_at": START, "ended_at": START, "code_digest": "c"}
        writer.write("trials", [trial | {"attempts": first + ROWS, "seconds": 0.0}])
        durable.value = first + ROWS
        if first == 0:  # the first takes as long as the others' hundreds
            ready.wait(START_S)


def _read(run: Path, durable: Any, stop: Any, answers: Any, ready: Any) -> None:
    """Loads the run repeatedly; at the end sends what it found."""
    seen, attempts = Seen(), 0
    run.joinpath("tables").mkdir(exist_ok=True)
    load(run).close()  # imports what reading needs
    ready.wait(START_S)
    while seen.reads == 0 or not stop.is_set():
        least = durable.value
        try:
            with load(run) as tables:
                seen.compare(tables.arrow("SELECT number, detail FROM events"), least)
                (trial,) = tables.rows("SELECT attempts FROM trials")
            seen.older_rows_shown += trial["attempts"] < max(least, attempts)
            attempts = trial["attempts"]
        except Exception as error:  # noqa: BLE001  # whatever it is, it is counted and shown
            sys.stderr.write(f"a reader met {error!r}\n")
            seen.errors += 1
    answers.put(seen)


def _read_plainly(run: Path, durable: Any, stop: Any, answers: Any, ready: Any) -> None:
    """Reads the folder of a table repeatedly, with one reader of Parquet after the other."""
    from polars.exceptions import PanicException  # no Exception: of a file that is shorter than the one before

    readers = list(plain_readers().values())
    seen, turn = Seen(), 0
    ready.wait(START_S)
    while seen.reads < len(readers) or not stop.is_set():
        least, turn = durable.value, turn + 1
        try:
            rows = readers[turn % len(readers)](run / "tables" / "events", COLUMNS)
        except (Exception, PanicException):  # noqa: BLE001  # each reader has its own
            seen.read_again += 1
        else:
            seen.compare(rows, least, may_mix=durable.value - least >= ROWS)
    answers.put(seen)
