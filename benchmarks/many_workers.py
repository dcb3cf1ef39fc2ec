"""What the head and a worker need, by number of workers: open files, memory, processor time; for administrators.

    python benchmarks/many_workers.py                    # a quarter of an hour; root, and the packages of tests/slurm
    python benchmarks/many_workers.py --workers 3 6      # fewer

A SLURM of as many nodes on one machine (tests/slurm/testbed.py); each worker runs one trial of one rank. Once all run,
the processes of the head and of the workers are observed for a minute.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

import argparse
import statistics
import time
from collections.abc import Iterator, Sequence

import psutil

from benchmarks.record import RESULTS, Cell, Measured, write
from benchmarks.slurm_bed import slurm_bed
from hpc.slurm.jobs import queue
from tests.slurm.sweep import make_sweep, until

SPEC = """
[trial]
optimisation.head_epochs = 1_000_000
[axes]
source.epochs = {sources}
[[variants]]
method.name = "head_only"
"""  # other sources, so that no trial waits for a stage of another
RUNNING = "SELECT count(DISTINCT trial_id) AS trials FROM attempts WHERE status = 'running' AND nodes IS NOT NULL"
WORKERS = (3, 6, 12)
LIMIT_S, OBSERVED_S, LOOK_EVERY_S = 900.0, 60.0, 5.0
MB = 1e6
GCS, RAY, DRIVER = ("gcs_server",), ("raylet/raylet", "dashboard/agent", "runtime_env/agent"), ("sweeps", "controller")
COLUMNS = ("workers", "open_files_of_the_head", "head_mb", "head_cpu_fraction", "driver_mb", "ray_of_a_worker_mb")


def processes(*words: str, every: bool = False) -> Iterator[psutil.Process]:
    """The processes whose command has any of these words, or all of them."""
    for process in psutil.process_iter():
        try:
            command = " ".join(process.cmdline())
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
        if (all if every else any)(word in command for word in words):
            yield process


def pss_mb(found: Iterator[psutil.Process]) -> float:
    """Their memory together; what processes share is divided among them."""
    return float(sum(process.memory_full_info().pss for process in found)) / MB


def measure(workers: int) -> tuple[Cell, ...]:
    """One row: a sweep of so many workers, while each of them runs a trial."""
    with slurm_bed(nodes=workers + 1) as (testbed, folder):
        spec = SPEC.format(sources=[20 + number for number in range(workers)])
        limits = {"walltime_min": 60, "controller_min": 60, "max_jobs": workers + 1}
        sweep = make_sweep(testbed, folder / "sweep", "many", spec, **limits)
        launched = sweep.launch("--detach")
        if launched.returncode:
            raise RuntimeError(launched.stderr)
        until(lambda: int(str(sweep.rows(RUNNING)[0]["trials"])) >= workers, LIMIT_S, "all workers to run a trial")
        row = observe(workers)
        sweep.command("cancel", str(sweep.run.path))
        until(lambda: not queue(), LIMIT_S, "all jobs to end")
        return row


def observe(workers: int) -> tuple[Cell, ...]:
    """A row of medians over the time of observation."""
    (head,) = processes(*GCS)
    looks: list[tuple[float, ...]] = []
    began_s, used_s = time.monotonic(), sum(head.cpu_times()[:2])
    while time.monotonic() < began_s + OBSERVED_S:
        ray_mb = pss_mb(processes(*RAY)) / (workers + 1)  # the head's node has the same processes
        looks.append((head.num_fds(), pss_mb(iter([head])), pss_mb(processes(*DRIVER, every=True)), ray_mb))
        time.sleep(LOOK_EVERY_S)
    cpu_fraction = (sum(head.cpu_times()[:2]) - used_s) / (time.monotonic() - began_s)
    files, head_mb, driver_mb, ray_mb = (statistics.median(each) for each in zip(*looks, strict=True))
    return workers, int(files), head_mb, cpu_fraction, driver_mb, ray_mb


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description="what a head and a worker need", allow_abbrev=False)
    parser.add_argument("--workers", type=int, nargs="+", default=WORKERS, help="sizes of the sweep")
    parser.add_argument("--out", type=Path, default=RESULTS / "many_workers", help="files to write, without suffix")
    given = parser.parse_args(arguments)
    notes = (
        "Memory is PSS. Head: the process of Ray that all others connect to. Ray of a worker: its raylet and agents,"
        " without the process of the trial and its ranks.",
        "All nodes are on one machine with as many cores as listed below, so memory and files are those of a cluster,"
        " times are not.",
    )
    rows = tuple(measure(workers) for workers in given.workers)
    write(Measured(title="A sweep by number of workers", columns=COLUMNS, rows=rows, notes=notes), given.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
