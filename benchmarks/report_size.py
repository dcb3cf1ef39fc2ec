"""What a report weighs and takes: bytes for each trial, and the time of 1,000 trials as a multiple of that of 100.

    python benchmarks/report_size.py            # some minutes
    python benchmarks/report_size.py --quick    # 40 and 80 trials: for a look

The tables are written first and are not part of the time. Both sizes are written in one run, so that the machine's load
is in both. Each report is written in a process of its own, whose largest memory is the last column.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

import argparse
import resource
import subprocess
import tempfile
import time
from collections.abc import Sequence

from benchmarks.record import RESULTS, Cell, Measured, write
from tests.results.many_trials import write_many

TRIALS, QUICK_TRIALS = (100, 1000), (40, 80)
COLUMNS = ("trials", "report_mb", "kb_per_trial", "time_ratio", "peak_memory_mb")
MB = 1e6


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description="what a report weighs and takes")
    parser.add_argument("--quick", action="store_true", help="few trials: for a look")
    parser.add_argument("--out", type=Path, default=RESULTS / "report_size", help="path of the table, without suffix")
    options = parser.parse_args(arguments)
    sizes = QUICK_TRIALS if options.quick else TRIALS
    with tempfile.TemporaryDirectory() as folder:
        rows = [measured(write_many(Path(folder) / str(trials), trials)) for trials in sizes]
    write(table(sizes, rows), options.out)
    return 0


def measured(run: Path) -> tuple[float, float, float]:
    """Write a report; return its megabytes, the seconds, and the megabytes of memory of the process."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "results", "report", str(run)], check=True, capture_output=True)
    seconds = time.perf_counter() - began
    peak_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / MB
    return (run / "report.html").stat().st_size / MB, seconds, peak_mb


def table(sizes: Sequence[int], rows: Sequence[tuple[float, float, float]]) -> Measured:
    """A row for each size; the weight of a trial is what the page grew by since the size before."""
    lines: list[tuple[Cell, ...]] = []
    for place, (trials, (mb, seconds, peak_mb)) in enumerate(zip(sizes, rows, strict=True)):
        kb = 1000 * (mb - rows[place - 1][0]) / (trials - sizes[place - 1]) if place else None
        lines.append((trials, mb, kb, seconds / rows[0][1], peak_mb))
    notes = ("kb_per_trial: what the page grew by for each trial more.", "time_ratio: against the first row.")
    return Measured(title="What a report weighs and takes", columns=COLUMNS, rows=tuple(lines), notes=notes)


if __name__ == "__main__":
    sys.exit(main())
