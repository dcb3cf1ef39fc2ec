"""Ten thousand empty trials in one launch: the driver's memory, and whether a trial costs more after many others.

    python benchmarks/many_trials.py            # about five minutes
    python benchmarks/many_trials.py --quick    # 400 trials: for a look

The driver is observed from outside, four times a second.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

import multiprocessing
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass

import psutil

from benchmarks.idle_rank import FILE, read_moments
from benchmarks.idle_sweep import NAME, run_ours
from benchmarks.record import Cell, Measured, parser_of, verdict, write

TRIALS, QUICK_TRIALS = 10_000, 800
PARTS, QUICK_PARTS = 10, 2
LOOK_EVERY_S = 0.25
GOAL_GB, GOAL_GROWTH, GOAL_FILES = 2.0, 1.1, 1000
HEAD = "gcs_server"
COLUMNS = ("trials", "s_per_trial", "driver_cpu_s_per_trial", "driver_mb", "head_mb", "goal", "verdict")
MB = 1e6


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The driver at one moment; memory is what is resident."""

    trials: int  # that have ended
    cpu_s: float  # of the driver, since it began
    driver_mb: float
    head_mb: float  # of Ray's head


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the table."""
    parser = parser_of(__doc__, "many_trials", quick="few trials")
    parser.add_argument("--stages", type=int, default=1, help="of each trial (default: 1)")
    parser.add_argument("--predictions", type=int, default=0, help="of a point at the end of each trial (default: 0)")
    parser.add_argument("--slots", type=int, default=2, help="trials at once, of one core each (default: 2)")
    options = parser.parse_args(arguments)
    trials, parts = (QUICK_TRIALS, QUICK_PARTS) if options.quick else (TRIALS, PARTS)
    with tempfile.TemporaryDirectory() as name:
        samples = observe(trials, options.slots, Path(name), options.stages, options.predictions)
        most_files = max(len(list(table.iterdir())) for table in (Path(name) / "runs" / NAME / "tables").iterdir())
        ends_s = [at_s for at_s, what, _ in read_moments(Path(name)) if what == "end"]
    write(table(samples, ends_s, parts, most_files), options.out)
    return 0


def observe(trials: int, slots: int, folder: Path, stages: int = 1, predictions: int = 0) -> list[Sample]:
    """Observations of the driver in a separate process while it ran this many empty trials.

    Raises:
        RuntimeError: a trial did not finish.
    """
    samples: list[Sample] = []
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        driver = psutil.Process(process.submit(os.getpid).result())
        running: Future[float] = process.submit(run_ours, trials, slots, folder, stages, predictions)
        while not wait([running], LOOK_EVERY_S).done:
            seen = sample(driver, folder) if (folder / FILE).exists() else None
            if seen is not None and seen.head_mb:  # Ray has not ended yet
                samples.append(seen)
                if len(samples) % 120 == 1:
                    print(seen, file=sys.stderr, flush=True)
        running.result()
    return samples


def sample(driver: psutil.Process, folder: Path) -> Sample:
    """The driver now, and how many trials have noted their end."""
    ended = (folder / FILE).read_text().count(" end ")
    head_mb = 0.0
    for child in driver.children():
        with suppress(psutil.NoSuchProcess):
            head_mb += child.memory_info().rss / MB if child.name() == HEAD else 0.0
    times = driver.cpu_times()
    driver_mb = driver.memory_info().rss / MB
    return Sample(trials=ended, cpu_s=times.user + times.system, driver_mb=driver_mb, head_mb=head_mb)


def table(samples: Sequence[Sample], ends_s: Sequence[float], parts: int, most_files: int) -> Measured:
    """A row for each part of the trials, and the two rows with goals.

    Args:
        samples: in the order of time.
        ends_s: of the trials, ascending.
        parts: how many, two or more.
        most_files: of one table, at the end.

    Raises:
        ValueError: a part was over too soon to be seen.
    """
    size = len(ends_s) // parts
    rows: list[tuple[Cell, ...]] = []
    walls_s, cpus_s = [], []
    for end in range(size, len(ends_s) + 1, size):
        seen = [moment for moment in samples if end - size <= moment.trials <= end]
        if len(seen) < 2 or seen[0].trials == seen[-1].trials:
            raise ValueError(f"{len(seen)} sample(s) of the driver in the {size} trials before {end}: give more trials")
        first, last = seen[0], seen[-1]
        walls_s.append((ends_s[end - 1] - ends_s[max(end - size - 1, 0)]) / size)
        cpus_s.append((last.cpu_s - first.cpu_s) / (last.trials - first.trials))
        rows.append((f"until {end:,}", walls_s[-1], cpus_s[-1], last.driver_mb, last.head_mb, None, None))
    most_mb, growth = max(moment.driver_mb for moment in samples), walls_s[-1] / walls_s[1]
    goal = f"memory < {GOAL_GB:g} GB"
    rows.append(("the most", None, None, most_mb, None, goal, verdict(most_mb * MB < GOAL_GB * 1e9)))
    goal = f"time <= {GOAL_GROWTH:g}"
    grown = cpus_s[-1] / cpus_s[1]
    rows.append(("the last part / the second", growth, grown, None, None, goal, verdict(growth <= GOAL_GROWTH)))
    goal = f"files <= {GOAL_FILES}"
    rows.append((f"{most_files} files of one table", None, None, None, None, goal, verdict(most_files <= GOAL_FILES)))
    return Measured(title=f"{len(ends_s):,} trials in one launch", columns=COLUMNS, rows=tuple(rows), notes=NOTES)


NOTES = (
    "`sweeps.driver.driver.run_sweep`, site local, one rank per trial, stages that do nothing; durable rows in "
    "`attempts`, `trials` and `stages`. What a trial costs here is what the driver, Ray and the tables take for it.",
    "s_per_trial: from the last end of the part before to the last one of this. driver_cpu_s_per_trial: processor time "
    "of the driver's process, of Ray's parts in it too. Memory: resident, at the part's end. head: Ray's (GCS).",
    "The first part has the start of both slots in it, so the last is compared with the second.",
)


if __name__ == "__main__":
    sys.exit(main())
