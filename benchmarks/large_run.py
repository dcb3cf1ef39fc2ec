"""Seconds and memory of the report and of the status of a large run, beside a plain scan of its tables.

python benchmarks/large_run.py                     # 10,000 trials: about five minutes
python benchmarks/large_run.py --trials 100000 --runs 1 --out docs/results/evidence/larger_run # half an hour, 8 GB
python benchmarks/large_run.py --quick             # 500 trials: for a look
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

import os
import statistics
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.process import Taken, run_measured
from benchmarks.record import ROOT, Row, parser_of, spread, table_of, verdict, write
from sweeps.operations.status import READ

SCAN = """
import sys, duckdb
for folder in sys.argv[1:]:
    duckdb.sql(f"SELECT max(hash(one)) FROM read_parquet('{folder}/*.parquet') AS one").fetchall()
"""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A command; `tables`: those that it reads, None for all."""

    what: str
    words: tuple[str, ...]
    tables: tuple[str, ...] | None = None


ASKED = (
    Asked(what="report", words=("-m", "transtailor", "report")),
    Asked(what="status", words=("-m", "transtailor", "status"), tables=READ),
)
GOALS: dict[tuple[str, int], tuple[float | None, float | None]] = {
    ("report", 10_000): (20.0, 1.0),
    ("status", 10_000): (1.5, None),
    ("report", 100_000): (None, 8.0),
}
"""Of a command with this many trials: seconds of processor time, and GB. Fewer have the goals of 10,000."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the table."""
    parser = parser_of(__doc__, "large_run", quick="500 trials, once")
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=3, help="how often each command runs (default: %(default)s)")
    options = parser.parse_args(arguments)
    trials, runs = (500, 1) if options.quick else (options.trials, options.runs)
    with tempfile.TemporaryDirectory() as name:
        rows = list(_rows(Path(name), trials, runs))
    write(table_of("A large run", rows, NOTES), options.out, ("duckdb", "pyarrow"))
    return 0


def _rows(folder: Path, trials: int, runs: int) -> Iterator[Row]:
    """The commands on a made-up run, as it was written, and settled.

    Work that takes memory runs in separate processes: a command's peak is never counted below that of this one.
    """
    _python(folder, str(ROOT / "benchmarks" / "synthetic_run.py"), "run", "--trials", str(trials))
    for state in ("in parts of 100 trials", "settled"):
        if state == "settled":
            _python(folder, "-m", "transtailor", "clean", "run")
        for asked in ASKED:
            tables = _folders(folder / "run", asked.tables)
            files = sum(len(list(table.glob("*.parquet"))) for table in tables)
            costs = [_measure(folder, *asked.words, "run") for _ in range(runs)]
            scans = [_measure(folder, "-c", SCAN, *map(str, tables)) for _ in range(runs)]
            what = f"{asked.what}, {state}"
            yield _row(what, (trials, files), costs, scans, GOALS.get((asked.what, max(trials, 10_000)), (None, None)))
            yield _row(f"DuckDB reads every value of {what}", (trials, files), scans, scans)


def _folders(run: Path, tables: Sequence[str] | None) -> list[Path]:
    """The folders of these tables, or of all."""
    return [folder for folder in sorted((run / "tables").glob("*/")) if tables is None or folder.name in tables]


def _python(folder: Path, *words: str) -> None:
    command = [sys.executable, *words]
    subprocess.run(command, cwd=folder, env=_environment(), check=True, stdout=subprocess.DEVNULL)


def _measure(folder: Path, *words: str) -> Taken:
    return run_measured([sys.executable, *words], folder, _environment())


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)}


def _row(
    what: str, counts: tuple[int, int], costs: Sequence[Taken], scans: Sequence[Taken],
    goals: tuple[float | None, float | None] = (None, None),
) -> Row:  # fmt: skip
    """A row of the table: medians over runs, the largest peak; `counts` are trials and files."""
    walls = [each.wall_s for each in costs]
    cpu_s, scan_s = (statistics.median(each.cpu_s for each in several) for several in (costs, scans))
    peak_gb = max(each.peak_gb for each in costs)
    held = [measured <= goal for measured, goal in zip((cpu_s, peak_gb), goals, strict=True) if goal is not None]
    trials, files = counts
    goal_s, goal_gb = goals
    return {
        "what": what,
        "trials": trials,
        "files": files,
        "runs": len(costs),
        "wall_s": statistics.median(walls),
        "wall_s_quartiles": spread(walls),
        "cpu_s": cpu_s,
        "times_the_scan": cpu_s / scan_s,
        "peak_memory_gb": peak_gb,
        "goal_s": goal_s,
        "goal_gb": goal_gb,
        "verdict": verdict(all(held)) if held else None,
    }


NOTES = (
    "The run is made up by `python benchmarks/synthetic_run.py`: every table is filled, 20 predictions for each"
    " operating point. Each command is a process of its own, imports included.",
    "cpu_s: seconds of processor time, of all threads together. The goals are held against it: on a machine that does"
    " other things meanwhile it says more than wall_s.",
    "The scan reads the same files with DuckDB alone and hashes every value, without asking which row of a key is the"
    " last: the floor for any reader.",
)


if __name__ == "__main__":
    sys.exit(main())
