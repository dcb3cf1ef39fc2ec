"""Simulated days of a sweep: what as many days as there is time for break, and how soon they find planted faults.

    python benchmarks/simulated_days.py --minutes 30                # resumes after the last day on record
    python benchmarks/simulated_days.py --minutes 30 --processes 2  # on two cores
    python benchmarks/simulated_days.py --minutes 30 --planted      # looks for planted faults not found yet

Each day is one seed: tests/simulation says what may happen, and judges it. Seeds that were run are on record.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

import atexit
import csv
import math
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from functools import cache
from itertools import count, islice
from typing import NamedTuple

from benchmarks.record import Cell, Measured, parser_of, read_rows, write
from tests.simulation.day import folder
from tests.simulation.kinds import kind_of
from tests.simulation.planted import PLANTED
from tests.simulation.planted_fault import Planted
from tests.simulation.seeds import Days, told

COLUMNS = ("planted fault", "found by seed", "days", "disturbances needed", "first broken promise")
ROUNDS = (10, 60, 250, 1000, 2000)  # days for each planted fault: those that are easy to find come first
GOAL = 30  # planted faults that have to be found
AT_ONCE = 50  # days of a line of the record
LIFE = 20  # lines by one process: what its libraries keep is given back
TEXT = 60  # characters of a broken promise in the table
NOTES = (
    "Disturbances that found a bug are in tests/simulation/failed.jsonl, which `make check` replays, nine of them "
    "with their fault planted, too. What they found: docs/results/notebook.md.",
    "Most of a day's time is spent in calls to the file system, small Parquet files and DuckDB's queries. Spared are "
    "opening DuckDB (one stays warm), reading equal bytes again, and asking again about equal files.",
    "On SLURM, and where nodes come and go, each machine is a client of the shared folder, as over NFS: a name that "
    "another one has made is absent for up to a minute unless the folder is opened, what is known of a file stays as "
    "of its last open, and lines are appended at the end that the machine knows (tests/simulation/beliefs.py).",
    "Not simulated: GPUs; a network between ranks; several ranks of a trial; data that a client has not "
    "sent yet, and stale handles; Arrow and DuckDB, which read what is on the disk.",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate for a time and write the page; 1 if a day broke a promise, or if too few planted faults are found."""
    parser = parser_of(__doc__, "simulated_days")
    parser.add_argument("--minutes", type=float, default=240.0, help="how long (default: 240)")
    parser.add_argument("--processes", type=int, default=1, help="simulate this many at once (default: 1)")
    parser.add_argument("--planted", action="store_true", help="look for planted faults instead")
    options = parser.parse_args(arguments)
    end_s = time.monotonic() + 60 * options.minutes
    out: Path = options.out
    if options.planted:
        _look_for_planted(out, end_s)
    else:
        for line in _lines(_next_seed(out), options.processes, end_s):
            _record(out, line)
    planted = _rows_of_planted(out)
    _write_page(out, planted)
    is_missed = options.planted and sum(row[1] is not None for row in planted.values()) < GOAL
    return int(is_missed or any(line.broken for line in _seeds(out)))


def _rows_of_planted(out: Path) -> dict[Cell, tuple[Cell, ...]]:
    """The rows of the planted faults that were tried."""
    return {row[0]: row for row in read_rows(out, COLUMNS)}


def _look_for_planted(out: Path, end_s: float) -> None:
    """Simulate days with one fault at a time, until each is found or time is over."""
    planted = _rows_of_planted(out)
    for most in ROUNDS:
        for fault in PLANTED:
            before = planted.get(fault.what, (fault.what, None, 0, None, None))
            if before[1] is None and int(before[2] or 0) < most and time.monotonic() < end_s:
                planted[fault.what] = _find(fault, _days(), int(before[2] or 0), most, end_s)
                _write_page(out, planted)


@cache
def _days() -> Days:
    """The days of this process, in a folder that it removes at its end."""
    root = tempfile.TemporaryDirectory(dir=folder())
    atexit.register(root.cleanup)
    return Days.below(Path(root.name))


def _find(fault: Planted, days: Days, first: int, most: int, end_s: float) -> tuple[Cell, ...]:
    """The first of a fault's days that breaks a promise because of it, as a row of the table; or how many do not.

    Its days are those of its kind, in the order of their seeds: number `first` (from 0) to `most`.
    """
    of_kind = (seed for seed in count() if fault.kind in (None, kind_of(seed)))
    with fault.planted():
        for number, seed in enumerate(islice(of_kind, first, most), first + 1):
            if days.day(seed).broken:
                few = days.smaller(seed)
                promise = days.day(seed, few).broken[0].splitlines()[0]
                return (fault.what, seed, number, len(few), promise[:TEXT])
            if time.monotonic() > end_s:
                return (fault.what, None, number, None, None)
    return (fault.what, None, most, None, None)


class Line(NamedTuple):
    """A line of the record, whose columns are these."""

    first_seed: int
    days: int
    broken: int
    disturbances: int
    processor_s: float


def _lines(first: int, processes: int, end_s: float) -> Iterator[Line]:
    """Lines of the record for the seeds from `first`, in their order, until time is over."""
    seeds, running = count(first, AT_ONCE), list[Future[Line]]()
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, spawn, max_tasks_per_child=LIFE) as pool:
        while True:
            while len(running) < processes and time.monotonic() < end_s:
                running.append(pool.submit(_line, next(seeds)))
            if not running:
                return
            yield running.pop(0).result()


def _line(first: int) -> Line:
    """Some days, as a line of the record; those that break a promise are printed."""
    days = _days()
    began_s, broken, struck = time.process_time(), 0, 0
    for seed in range(first, first + AT_ONCE):
        day = days.day(seed)
        broken, struck = broken + bool(day.broken), struck + day.struck
        if day.broken:
            print(told(seed, few := days.smaller(seed), days.day(seed, few)), flush=True)
    return Line(first, AT_ONCE, broken, struck, round(time.process_time() - began_s, 2))


def _record(out: Path, line: Line) -> None:
    path = _seeds_file(out)
    is_new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        if is_new:
            lines.writerow(Line._fields)
        lines.writerow(line)


def _seeds_file(out: Path) -> Path:
    return out.parent / f"{out.name}_seeds.csv"


def _seeds(out: Path) -> list[Line]:
    """The record of the days so far."""
    if not _seeds_file(out).exists():
        return []
    with _seeds_file(out).open(encoding="utf-8") as file:
        return [
            Line(
                first_seed=int(row["first_seed"]),
                days=int(row["days"]),
                broken=int(row["broken"]),
                disturbances=int(row["disturbances"]),
                processor_s=float(row["processor_s"]),
            )
            for row in csv.DictReader(file)
        ]


def _next_seed(out: Path) -> int:
    """The first seed that is not on record."""
    done = _seeds(out)
    return done[-1].first_seed + done[-1].days if done else 0


def _write_page(out: Path, planted: dict[Cell, tuple[Cell, ...]]) -> None:
    rows = tuple(planted[fault.what] for fault in PLANTED if fault.what in planted)
    done = _seeds(out)
    days = sum(line.days for line in done)
    struck = sum(line.disturbances for line in done)
    broken = sum(line.broken for line in done)
    seconds = sum(line.processor_s for line in done)
    found_count = sum(row[1] is not None for row in rows)
    notes = (
        f"Days without a planted fault: {days}, with {struck} disturbances; {broken} broke a promise. "
        f"A day took {seconds / days if days else math.nan:.2f} s of processor time; the machine's load is below. "
        f"They are on record in {_seeds_file(out).name}.",
        f"Planted faults: {len(PLANTED)}, of which {len(rows)} were tried and {found_count} found; days: how many so "
        "far. A fault of searches or of SLURM is looked for on such days only, every other one on all days. Each "
        "changes a few words of the source, in tests/simulation/planted.py.",
        "A day: the real launch command, driver, Tune backend, slots, ranks, store and cache of a sweep of "
        "four trials whose stages compute nothing, in one process, on a simulated clock and a disk that forgets what "
        "was not synced; tests/simulation/disturbances.py has what may happen.",
        "A quarter of the seeds are searches: three settings, halving at two rungs, and two trials that confirm. Each "
        "decision is made once, as on the undisturbed day, and again from its rows (tests/simulation/kinds.py). Of an "
        "eighth no trial shares a stage.",
        "A quarter are sweeps on SLURM, half of them searches: the real launch that attaches, "
        "controller, head, workers, pool and autoscaler, and the calls of SLURM's commands; SLURM itself, its machines "
        "and Ray's nodes are played.",
        *NOTES,
    )
    measured = Measured(title="Simulated days of a sweep", columns=COLUMNS, rows=rows, notes=notes)
    write(measured, out, ("duckdb", "pyarrow"))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
