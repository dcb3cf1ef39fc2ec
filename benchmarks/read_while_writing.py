"""Readers read while 8 processes write rows and one merges or settles them: does any see a row twice, or lose one?

    python benchmarks/read_while_writing.py                 # three rounds of 60 s
    python benchmarks/read_while_writing.py --seconds 5     # a quick test

Each writer numbers its rows and announces, after each write, how many of them are durable. So before a reader loads the
run, it knows how many rows of each writer it must see at least, and that they have no gap. Half of the readers know
nothing of us: pandas, pyarrow, polars and DuckDB read the folder of a table. They may meet an error, but no row twice
and no smaller number.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

import multiprocessing
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.record import parser_of, table_of, verdict, write
from results.errors import ResultsError
from results.store.merge import merge
from results.store.reader import Run, load
from results.store.settle import settle
from results.store.writer import Writer
from sweeps.driver.merging import merge_meanwhile
from tests.plain_readers import plain_readers

ROWS = 20  # of a part
START_S = 300.0  # that processes may take to begin
START = datetime(2024, 5, 1, tzinfo=UTC)
PACKAGES = ("pyarrow", "duckdb")
MERGES, SETTLES, LAUNCHES = "merges", "settles, again and again", "merges and settles in one launch after the other"
LAUNCH_S = 1.0
COLUMNS = ["driver", "number", "detail"]


@dataclass(kw_only=True)
class Seen:
    """What one reader found; all but the first two must be 0, except the requests to load again, which are no fault."""

    reads: int = 0
    rows_seen_last: int = 0
    told_to_load_again: int = 0
    rows_twice: int = 0
    rows_missing: int = 0
    older_rows_shown: int = 0  # of a key that was written again
    errors: int = 0

    def add(self, other: "Seen") -> None:
        """Adds what another reader found."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))

    @property
    def is_right(self) -> bool:
        """Whether readers have read, and the promise was never broken."""
        return self.reads > 0 and self.rows_twice + self.rows_missing + self.older_rows_shown + self.errors == 0


class Shown(NamedTuple):
    """What a loaded run showed of one writer. The two differ while the writer is between its two writes."""

    rows: int = 0
    attempts: int = 0  # in the row that is written again: the rows there were then


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the table; 1 if anything was wrong."""
    parser = parser_of(__doc__, "read_while_writing")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each round")
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--readers", type=int, default=2)
    options = parser.parse_args(arguments)
    rows = []
    for what in (MERGES, SETTLES, LAUNCHES):
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder)
            seen, rows_written, merges = one_round(
                run, seconds=options.seconds, writers=options.writers, readers=options.readers, what=what
            )
        facts = {"seconds": options.seconds, "writers": options.writers, "readers": options.readers}
        facts |= {"merges": merges, "rows_written": rows_written} | vars(seen)
        del facts["rows_seen_last"]
        rows.append({"one_process": what} | facts | {"verdict": verdict(seen.is_right and merges > 0)})
    write(table_of("Reading while others write and one merges or settles", rows, NOTES), options.out, PACKAGES)
    return int(any(row["verdict"] != verdict(True) for row in rows))


def one_round(run: Path, *, seconds: float, writers: int, readers: int, what: str) -> tuple[Seen, int, int]:
    """Writes, merges and reads at once; what the readers found, rows written, and how often rows were merged.

    Args:
        run: an empty folder, which becomes a run.
        seconds: its duration.
        writers: processes that write.
        readers: processes that read.
        what: the one process does: `MERGES`, `SETTLES` or `LAUNCHES`; after these two a reader may have to load again.

    Raises:
        RuntimeError: a process ended with an error of its own.
    """
    (run / "tables").mkdir()
    spawn = multiprocessing.get_context("spawn")
    durable = spawn.Array("q", writers, lock=False)
    merges = spawn.Value("q", 0, lock=False)
    stop, answers = spawn.Event(), spawn.Queue()
    ready = spawn.Barrier(writers + 1 + readers + 1)  # or the slowest to start would hardly be there
    processes: list[BaseProcess] = [
        spawn.Process(target=_write, args=(run, number, durable, stop, ready)) for number in range(writers)
    ]
    processes.append(spawn.Process(target=_merge, args=(run, what, merges, stop, ready)))
    for number in range(readers):
        read = _read_plainly if number % 2 else _read
        processes.append(spawn.Process(target=read, args=(run, durable, stop, answers, ready)))
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
    last = Seen()
    with load(run) as tables:
        _look(tables, list(durable), [Shown()] * writers, last)
    seen.add(Seen(**vars(last) | {"reads": 0, "rows_seen_last": 0}))
    return seen, sum(durable), merges.value


def _write(run: Path, number: int, durable: Any, stop: Any, ready: Any) -> None:
    """Writes parts of numbered rows, and a row that is written again each time."""
    writer, rows = Writer(run / "tables"), 0
    name = f"writer{number}"
    while rows == 0 or not stop.is_set():
        row = {"driver": name, "happened_at": START, "kind": "resumed", "detail": "x" * 40, "code_digest": "c"}
        writer.write("events", [row | {"number": rows + offset} for offset in range(ROWS)])
        again = {"trial_id": name, "status": "finished", "started_at": START, "ended_at": START, "code_digest": "c"}
        writer.write("trials", [again | {"attempts": rows + ROWS, "seconds": 0.0}])
        rows += ROWS
        durable[number] = rows
        if rows == ROWS:  # the first takes as long as the others' hundreds
            ready.wait(START_S)


def _merge(run: Path, what: str, merges: Any, stop: Any, ready: Any) -> None:
    notes: list[str] = []
    ready.wait(START_S)
    while not stop.is_set():
        if what == LAUNCHES:
            with merge_meanwhile(run, notes.append):
                stop.wait(LAUNCH_S)
            merges.value += 1
            continue
        merges.value += bool(merge(run) if what == MERGES else settle(run))
    if notes:
        raise RuntimeError("; ".join(notes))


def _read(run: Path, durable: Any, stop: Any, answers: Any, ready: Any) -> None:
    """Reads repeatedly; at the end sends what it found."""
    seen, before = Seen(), [Shown()] * len(durable)
    load(run).close()  # imports what reading needs
    ready.wait(START_S)
    while seen.reads == 0 or not stop.is_set():
        least = list(durable)
        try:
            with load(run) as tables:
                try:
                    before = _look(tables, least, before, seen)
                except (ResultsError, FileNotFoundError):
                    if not tables.is_outdated():
                        raise
                    seen.told_to_load_again += 1
        except Exception as error:  # noqa: BLE001  # whatever it is, it is counted and shown
            print(f"a reader met {error!r}", file=sys.stderr, flush=True)
            seen.errors += 1
        seen.reads += 1
    answers.put(seen)


def _read_plainly(run: Path, durable: Any, stop: Any, answers: Any, ready: Any) -> None:
    """Reads the folder of a table repeatedly, with one reader of Parquet after the other."""
    readers = list(plain_readers().values())
    folder, turn, seen = run / "tables" / "events", 0, Seen()
    ready.wait(START_S)
    while seen.reads < len(readers) or not stop.is_set():
        least, turn = list(durable), turn + 1
        try:
            rows = readers[turn % len(readers)](folder, COLUMNS)
        except Exception as error:  # noqa: BLE001  # each reader has its own
            if folder.exists() and "No such file" not in str(error) and "No files found" not in str(error):
                print(f"a reader met {error!r}", file=sys.stderr, flush=True)
                seen.errors += 1
            seen.told_to_load_again += 1
            continue
        counts = rows.group_by("driver").aggregate([("number", "count"), ("number", "count_distinct")]).to_pylist()
        by_writer = {row["driver"]: row for row in counts}
        for number, durable_rows in enumerate(least):
            row = by_writer.get(f"writer{number}", {"number_count": 0, "number_count_distinct": 0})
            seen.rows_missing += max(0, durable_rows - row["number_count_distinct"])
            seen.rows_twice += row["number_count"] - row["number_count_distinct"]
        seen.errors += rows.num_rows - pc.sum(pc.equal(rows["detail"], "x" * 40)).as_py() if rows.num_rows else 0
        seen.rows_seen_last = rows.num_rows
        seen.reads += 1
    answers.put(seen)


def _look(tables: Run, least: Sequence[int], before: Sequence[Shown], seen: Seen) -> list[Shown]:
    """Counts what is wrong in one loaded run; what it shows of each writer.

    Args:
        tables: the run.
        least: rows of each writer that were durable before it was loaded, as noted in the row that is written again.
        before: what the last look returned.
        seen: to add to.
    """
    # The views show the last row of a key, so a row that is read from two files shows in the files alone.
    files = [pq.ParquetFile(part.path).read(columns=["driver", "number"]) for part in tables.parts["events"]]
    sql = "SELECT driver, count(*) AS n, count(DISTINCT number) AS d, max(number) + 1 AS last FROM events GROUP BY ALL"
    by_driver = {row["driver"]: row for row in tables.rows(sql)}
    attempts = {row["trial_id"]: row["attempts"] for row in tables.rows("SELECT trial_id, attempts FROM trials")}
    in_files = sum(file.num_rows for file in files)
    seen.rows_seen_last = sum(row["n"] for row in by_driver.values())
    seen.rows_twice += in_files - sum(row["d"] for row in by_driver.values())
    shown = []
    for number, (durable, earlier) in enumerate(zip(least, before, strict=True)):
        name = f"writer{number}"
        row = by_driver.get(name, {"n": 0, "last": 0})
        now = Shown(rows=row["n"], attempts=attempts.get(name, 0))
        seen.rows_missing += max(0, durable - now.rows, earlier.rows - now.rows, row["last"] - now.rows)
        seen.older_rows_shown += now.attempts < max(durable, earlier.attempts)
        shown.append(now)
    return shown


NOTES = (
    f"Each writer writes parts of {ROWS} rows and rewrites one row of its own, both durable, as fast as it can.",
    "rows_twice: rows in the files that a reader opens, less distinct ones. rows_missing: rows that were durable,"
    " or seen by the same reader, before it loaded the run, or gaps in a writer's numbers. older_rows_shown: of a"
    " key that had been written again.",
    f"{LAUNCHES}: each takes {LAUNCH_S:g} s. Every second reader knows nothing of us: pandas, pyarrow, polars and"
    " DuckDB (`*` and `**`), in turns, read the folder of a table.",
    "told_to_load_again: files were replaced after the reader had listed them: an error, which is no fault.",
    "goal: no row twice or missing, no older row, no error.",
)


if __name__ == "__main__":
    sys.exit(main())
