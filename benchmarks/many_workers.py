"""What the head and a worker need, by number of workers: open files, memory, processor time; for administrators.

    python benchmarks/many_workers.py                    # half an hour; root, and the packages of tests/slurm
    python benchmarks/many_workers.py --workers 3 6      # fewer

A SLURM of as many nodes on one machine (tests/slurm/testbed.py); each worker runs one trial of one rank, which waits
in a criterion and computes nothing. Once all wait, the processes of the head and of the workers are observed for a
minute. Thirty workers with their trials need about 25 GB of memory and swap.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

import argparse
import statistics
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress

import psutil

from benchmarks.record import RESULTS, Cell, Measured, write
from benchmarks.slurm_bed import slurm_bed
from tests.slurm.sweep import make_sweep, until

SPEC = """
[trial]
source.epochs = 1
optimisation.head_epochs = 1
[axes]
source.seed = {sources}
[[variants]]
method = {{ name = "prune", criterion = "wait", removed_macs_fraction = 0.3 }}
"""  # other sources, so that no trial waits for a stage of another
MODULE = """
import time
from tailor.core import heartbeat
from tailor.extend import CRITERIA, Criterion


def wait(scoring):
    while True:
        heartbeat.beat()
        time.sleep(1)


CRITERIA.add("wait", Criterion(compute=wait, source="a benchmark"))
"""
SETUP = '["export RAY_memory_monitor_refresh_ms=0"]'  # each Ray would end trials when the machine of all is full
STAGES = 2  # that a trial finishes before it waits: the source training and the head
WORKERS = (3, 10, 30)
LIMIT_S, OBSERVED_S, LOOK_EVERY_S = 1800.0, 60.0, 5.0
MB = 1e6
GCS, DRIVER = "gcs_server", "controller"
RAY = ("raylet/raylet", "ray::DashboardAgent", "ray::RuntimeEnvAgent")
COLUMNS = (
    "workers", "open_files_of_the_head", "head_mb", "head_cpu_fraction", "driver_mb", "ray_of_a_worker_mb", "worker_mb",
)  # fmt: skip


def on_nodes() -> list[tuple[psutil.Process, str, Path]]:
    """The processes on the test bed's nodes, with their commands and nodes: a node has process ids of its own."""
    ours = Path("/proc/self/ns/pid").readlink()
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess, OSError):
            node = Path(f"/proc/{process.pid}/ns/pid").readlink()
            if node != ours:
                found.append((process, " ".join(process.cmdline()), node))
    return found


def pss_mb(processes: Iterable[psutil.Process]) -> float:
    """Their memory together, in swap too; what processes share is divided among them."""
    total = 0
    for process in processes:
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            memory = process.memory_full_info()
            total += memory.pss + memory.swap
    return total / MB


def measure(workers: int) -> tuple[Cell, ...]:
    """One row: a sweep of this many workers, while each of them runs a trial."""
    with slurm_bed(nodes=workers + 1) as (testbed, folder):
        spec = SPEC.format(sources=[*range(workers)])
        limits = {"walltime_min": 60, "controller_min": 60, "max_jobs": workers + 1}
        sweep = make_sweep(testbed, folder / "sweep", "many", spec, setup=SETUP, **limits)
        (sweep.folder / "wait.py").write_text(MODULE)
        launched = sweep.launch("--detach", "--import", "wait.py")
        if launched.returncode:
            raise RuntimeError(launched.stderr)
        until(lambda: sweep.stages() >= STAGES * workers, LIMIT_S, "all trials to wait in the criterion")
        row = observe(workers)
        sweep.command("cancel", str(sweep.run.path))
        until(lambda: not sweep.place.jobs(), LIMIT_S, "all jobs to end")
        return row


def observe(workers: int) -> tuple[Cell, ...]:
    """A row of medians over the time of observation."""
    ((head, _, heads_node),) = [found for found in on_nodes() if GCS in found[1]]
    looks: list[tuple[float, ...]] = []
    began_s, used_s = time.monotonic(), sum(head.cpu_times()[:2])
    while time.monotonic() < began_s + OBSERVED_S:
        found = on_nodes()
        of_workers = [(process, command) for process, command, node in found if node != heads_node]
        ray = (process for process, command in of_workers if any(word in command for word in RAY))
        driver = (process for process, command, node in found if node == heads_node and DRIVER in command)
        each = (pss_mb(ray) / workers, pss_mb(process for process, _ in of_workers) / workers)
        looks.append((head.num_fds(), pss_mb([head]), pss_mb(driver), *each))
        time.sleep(LOOK_EVERY_S)
    cpu_fraction = (sum(head.cpu_times()[:2]) - used_s) / (time.monotonic() - began_s)
    files, head_mb, driver_mb, ray_mb, worker_mb = (statistics.median(each) for each in zip(*looks, strict=True))
    return workers, int(files), head_mb, cpu_fraction, driver_mb, ray_mb, worker_mb


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description="what a head and a worker need", allow_abbrev=False)
    parser.add_argument("--workers", type=int, nargs="+", default=WORKERS, help="sizes of the sweep")
    parser.add_argument("--out", type=Path, default=RESULTS / "many_workers", help="files to write, without suffix")
    given = parser.parse_args(arguments)
    notes = (
        "Memory is PSS, and what is in swap. Head: the process of Ray that all others connect to. Ray of a worker: its"
        " raylet and agents; worker: all processes of its node, with SLURM's, those of the trial and its rank.",
        "All nodes are on one machine with as many cores as listed below, so memory and files are those of a cluster,"
        " times are not.",
    )
    rows: tuple[tuple[Cell, ...], ...] = ()
    for workers in given.workers:
        rows += (measure(workers),)
        write(Measured(title="A sweep by number of workers", columns=COLUMNS, rows=rows, notes=notes), given.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
