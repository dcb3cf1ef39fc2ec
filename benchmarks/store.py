"""Our store of rows compared with other tools: writing from 8 processes, and a query on 1,000,000 rows.

    python -m pip install mlflow trackio      # in a separate environment: they pin other versions
    python benchmarks/store.py                # about ten minutes
    python benchmarks/store.py --quick        # about two minutes: fewer rows

All tools get the same rows, in the same processes, on the same disk, for the same time.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

import importlib.util
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.record import Cell, Row, parser_of, spread, table_of, verdict, write
from benchmarks.store_writers import PREPARE, STORES, Store, rows_from
from results.store.reader import load
from results.store.schema import TABLES, arrow_schema
from results.store.settle import settle

PROCESSES = 8
START_S = 300.0  # that processes may take to begin
WRITING_GOAL, SETTLED_GOAL_S, PARTS_GOAL_S = 5000, 1.0, 5.0
GROUP_BY = """
SELECT trial_id, point, split, avg(CAST(label = prediction AS DOUBLE)) AS accuracy, count(*) AS images
FROM predictions GROUP BY ALL
"""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is measured."""

    seconds: float  # of writing, in each round
    rounds: int
    rows: int  # asked
    parts: int


USUAL = Sizes(seconds=4.0, rounds=3, rows=1_000_000, parts=10_000)
QUICK = Sizes(seconds=1.0, rounds=2, rows=100_000, parts=1000)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the table."""
    options = parser_of(__doc__, "store", quick="fewer rows").parse_args(arguments)
    sizes = QUICK if options.quick else USUAL
    there = [store for store in STORES if importlib.util.find_spec(store.package)]
    rows: list[Row] = []
    for measure in (lambda: _measure_writing(there, sizes), lambda: _measure_asking(sizes)):
        for row in measure():
            rows.append(row)
            print(", ".join(str(cell) for cell in row.values()), file=sys.stderr, flush=True)
    missing = [store.name for store in STORES if store not in there]
    table = table_of("The store of rows", rows, list(_notes(missing)))
    write(table, options.out, ("duckdb", *dict.fromkeys(store.package for store in there)))
    return 0


def _row(what: str, name: str, times_s: Sequence[float], **more: Cell) -> Row:
    """A row of the table: the median of the times, and what else is given."""
    return {
        "what": what,
        "with": name,
        "rows": more["rows"],
        "files": more.get("files"),
        "rows_per_call": more.get("rows_per_call"),
        "seconds": statistics.median(times_s),
        "seconds_quartiles": spread(times_s),
        "rows_per_s": more.get("rows_per_s"),
        "times_ours": more.get("times_ours"),
        "safe_against_the": more.get("safe_against_the"),
        "rounds": len(times_s),
        "goal": more.get("goal"),
        "verdict": more.get("verdict"),
    }


def _measure_writing(stores: Sequence[Store], sizes: Sizes) -> Iterator[Row]:
    """Durable rows per second, from all processes together."""
    ours: dict[int, float] = {}
    for store in stores:
        for rows_per_call in store.rows_per_call:
            rounds = write_rounds(store, rows_per_call, sizes.seconds, sizes.rounds)
            rate = statistics.median(rows / seconds for rows, seconds in rounds)
            ours.setdefault(rows_per_call, rate)
            goal: dict[str, Cell] = {}
            if store is STORES[0]:
                goal = {"goal": f"{WRITING_GOAL} rows/s", "verdict": verdict(rate >= WRITING_GOAL)}
            yield _row(
                f"write from {PROCESSES} processes", store.name, [seconds for _, seconds in rounds],
                rows=sum(rows for rows, _ in rounds), rows_per_call=rows_per_call, rows_per_s=rate,
                times_ours=rate / ours[rows_per_call], safe_against_the=store.safe, **goal,
            )  # fmt: skip


def write_rounds(store: Store, rows_per_call: int, seconds: float, rounds: int) -> list[tuple[int, float]]:
    """Rows and seconds of each round: all processes write for this time, plus their last call.

    Raises:
        RuntimeError: a process failed.
    """
    spawn = multiprocessing.get_context("spawn")
    begin, answers = spawn.Barrier(PROCESSES + 1), spawn.Queue()
    with tempfile.TemporaryDirectory() as folder:
        if store.name in PREPARE:
            PREPARE[store.name](Path(folder))
        arguments = (Path(folder), store.name, rows_per_call, seconds, rounds, begin, answers)
        processes = [spawn.Process(target=_write, args=(number, *arguments)) for number in range(PROCESSES)]
        for process in processes:
            process.start()
        measured = []
        for _ in range(rounds):
            begin.wait(START_S)
            start_s = time.perf_counter()
            rows = sum(answers.get(timeout=START_S) for _ in processes)
            measured.append((rows, time.perf_counter() - start_s))
        for process in processes:
            process.join(60)
        if any(process.exitcode for process in processes):
            raise RuntimeError(f"{store.name}: processes ended with {[process.exitcode for process in processes]}")
        return measured


def _write(
    number: int, folder: Path, name: str, rows_per_call: int, seconds: float, rounds: int, begin: Any, answers: Any
) -> None:
    """One process: opens the store, writes once, then writes when all are ready."""
    (store,) = (store for store in STORES if store.name == name)
    try:
        with store.open(folder, number) as to_store:
            to_store(rows_from(number, 0, rows_per_call))  # the first call imports and makes files
            epoch = rows_per_call
            for _ in range(rounds):
                begin.wait(START_S)
                first, end_s = epoch, time.perf_counter() + seconds
                while time.perf_counter() < end_s:
                    to_store(rows_from(number, epoch, rows_per_call))
                    epoch += rows_per_call
                answers.put(epoch - first)
    except BaseException:
        begin.abort()  # or the others would wait for this one
        raise


def _measure_asking(sizes: Sizes) -> Iterator[Row]:
    """How long a group-by takes, from the folder to the answer, in parts and settled."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        make_parts(run, sizes.rows, sizes.parts)
        what = f"group by over {sizes.rows:,} rows"
        for state, goal_s in (("in parts", PARTS_GOAL_S), ("settled", SETTLED_GOAL_S)):
            files = 1 if state == "settled" else sizes.parts
            if state == "settled":
                yield _row("settle them", "ours", [_wall_s(lambda: settle(run))], rows=sizes.rows, files=files)
            times_s = [_wall_s(lambda: _ask(run)) for _ in range(sizes.rounds + 1)][1:]
            judged = {"goal": f"< {goal_s:g} s", "verdict": verdict(statistics.median(times_s) < goal_s)}
            yield _row(what, f"ours, {state}: load and ask", times_s, rows=sizes.rows, files=files, **judged)
            times_s = [_wall_s(lambda: ask_duckdb(run)) for _ in range(sizes.rounds + 1)][1:]
            yield _row(what, f"DuckDB alone, {state}, every row counts", times_s, rows=sizes.rows, files=files)


def make_parts(run: Path, rows: int, parts: int) -> None:
    """A run with this many rows of `predictions`, in parts like the writer's, but without waiting for the disk."""
    schema = arrow_schema(TABLES["predictions"])
    folder = run / "tables" / "predictions"
    folder.mkdir(parents=True)
    each = rows // parts
    moment = datetime(2024, 5, 1, tzinfo=UTC)
    for number in range(parts):
        columns: dict[str, list[Any]] = {
            "trial_id": [f"{number // 5:016x}"] * each, "point": [number % 5] * each, "split": ["test"] * each,
            "image_id": list(range(each)), "label": [image % 10 for image in range(each)],
            "prediction": [image * number % 10 for image in range(each)], "probability": [0.9] * each,
            "code_digest": ["0" * 64] * each, "written_at": [moment] * each,
        }  # fmt: skip
        part = pa.table(columns, schema=schema)
        pq.write_table(part, folder / f"20240501T000000.{number:06d}-{number:032x}.parquet", compression="zstd")


def _ask(run: Path) -> None:
    with load(run) as tables:
        tables.arrow(GROUP_BY)


def ask_duckdb(run: Path) -> pa.Table:
    """The answer of DuckDB alone, to which every row counts."""
    import duckdb

    files = f"read_parquet('{run}/tables/predictions/**/*.parquet')"
    with duckdb.connect() as connection:
        return connection.sql(GROUP_BY.replace("FROM predictions", f"FROM {files}")).to_arrow_table()


def _wall_s(work: Callable[[], object]) -> float:
    start_s = time.perf_counter()
    work()
    return time.perf_counter() - start_s


def _notes(missing: Sequence[str]) -> Iterator[str]:
    yield (
        "Writing: the same rows of five numbers each, one trial for each process, all in one folder on one disk; a"
        " round is a fixed time, and its last calls are waited for. Medians of the rounds."
    )
    yield (
        "100 rows a call is how the predictions of an operating point come; one row a call is the worst case: each row"
        " is a file of its own that waits for the disk."
    )
    yield (
        "safe against the loss of power: the file is fsynced when the call returns. End of the process: what was"
        " written is with the operating system. Ray Tune's loggers take one row a call."
    )
    yield (
        "Trackio's storage is called directly; through its own interface rows pass its server before. times_ours"
        " compares equal rows per call."
    )
    yield "DuckDB alone reads the same files without asking which row of a key is the last: the floor for any reader."
    if missing:
        yield f"Not installed, so not measured: {', '.join(missing)}."


if __name__ == "__main__":
    sys.exit(main())
