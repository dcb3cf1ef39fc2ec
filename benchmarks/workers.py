"""What a sweep takes of a cluster by its number of workers: measured, and reckoned to 1,000.

    python benchmarks/workers.py                        # 1, 3, 10, 20 and 30 workers; root, and what tests/slurm needs
    python benchmarks/workers.py --workers 3 10         # these; what stands in the table already stays as it is

A SLURM of as many nodes as it takes (tests/slurm/testbed.py) runs a sweep with a trial on each worker that only waits.
Head, driver, workers and trials are looked at from outside; nothing is trained, so a rank's own memory is not in it.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository, instead of the folder of this script

import argparse
import csv
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields

import psutil

from benchmarks.idle_sweep import idle_plan, new_run
from benchmarks.moments import FILE, read_moments
from benchmarks.record import RESULTS, ROOT, Cell, Measured, write
from benchmarks.slurm_bed import slurm_bed
from hpc.cluster.needs import controller_need
from hpc.sites.site import Site
from hpc.slurm.jobs import queue, submit
from sweeps.driver.driver import run_sweep
from sweeps.run.run_folder import RunFolder
from sweeps.run.run_lock import RunLock
from sweeps.slurm.cluster_run import ClusterRun
from tests.slurm.sweep import until
from tests.slurm.testbed import CPUS
from tests.slurm.unreliable import bad_day, calls
from transtailor.documents import read_toml

NUMBERS = (1, 3, 10, 20, 30)
RECKONED = (100, 1000)
WAITS_S = 3600.0  # a trial; it is stopped long before
LIMIT_S = 1800.0
SETTLE_S, LOOK_S = 30.0, 120.0
SITE = """
cpus_per_node = 1
memory_gb = 1
walltime_min = 60
idle_s = 600
[controller]
memory_gb = 1
[limits]
max_jobs = {jobs}
"""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One row; memory is proportional set size (what is shared is divided by who shares it)."""

    workers: int
    begun_s: float  # from the submission until every trial runs
    head_mb: float
    head_files: float
    head_connections: float
    driver_mb: float
    driver_files: float
    worker_mb: float  # each, without its trial
    trial_mb: float  # each: the process that holds its rank, and a rank without torch
    ports_per_worker: float  # that are listened on
    slurm_calls_per_min: float
    run_files: float
    source: str = "measured"


class Group:
    """Processes of the sweep of one kind."""

    def __init__(self, name: str, folder: Path) -> None:
        self.found = [process for process in _of(folder) if kind_of(process) == name]

    def mb(self) -> float:
        """Memory of all of them."""
        return sum(process.memory_full_info().pss for process in self.found) / 1e6

    def files(self) -> float:
        """What they have open."""
        return sum(process.num_fds() for process in self.found)

    def connections(self, state: str) -> float:
        """TCP sockets of theirs in that state."""
        return sum(one.status == state for process in self.found for one in process.net_connections("tcp"))


def _of(folder: Path) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and str(folder) in "".join(process.environ().values()):
                yield process
        except psutil.Error:  # it ended meanwhile
            continue


def kind_of(process: psutil.Process) -> str:
    """What a process of a sweep is."""
    words = " ".join(process.cmdline())
    if "gcs_server" in process.name():
        return "head"
    if str(Path(__file__).name) in words and "hpc.cluster.head" not in words:
        return "driver"
    if process.name().startswith("ray::") and "IDLE" not in process.name():
        return "trial"
    return "other" if process.name() in ("bash", "sh", "srun", "slurmstepd", "env") else "worker"


def measure(workers: int) -> Seen:
    """One SLURM, one sweep."""
    with slurm_bed(nodes=-(-(workers + 1) // CPUS)) as (testbed, folder):
        moments = folder / "moments"
        moments.mkdir()
        run = new_run(idle_plan(workers, moments, WAITS_S), folder / "runs", beside=rank_code())
        commands = bad_day(folder / "commands", {"real": 1})
        cluster = ClusterRun(run)
        site = _site(workers)
        cluster.folder.make(site, run.name)
        words = ["env", f"PYTHONPATH={ROOT}", f"PATH={commands}", sys.executable, "-P", "-u"]
        driver = [*words, str(Path(__file__).resolve()), "--drive", str(run.path), "--workers", str(workers)]
        began_s = time.time()
        need = controller_need(site, cluster.folder, cluster.folder.controller_name)
        submit(site.for_controller(), need, [*words, "-m", "hpc.cluster.head", str(cluster.folder.path), "--", *driver])
        until(lambda: _begun(moments) >= workers, LIMIT_S, f"{workers} trials to begin")
        begun_s = time.time() - began_s
        time.sleep(SETTLE_S)
        before = calls(folder / "commands").total()
        time.sleep(LOOK_S)
        asked = calls(folder / "commands").total() - before
        head, drives, trials, rest = (Group(name, folder) for name in ("head", "driver", "trial", "worker"))
        seen = Seen(
            workers=workers, begun_s=begun_s, head_mb=head.mb(), head_files=head.files(),
            head_connections=head.connections(psutil.CONN_ESTABLISHED), driver_mb=drives.mb(),
            driver_files=drives.files(), worker_mb=rest.mb() / (workers + 1), trial_mb=trials.mb() / workers,
            ports_per_worker=(rest.connections(psutil.CONN_LISTEN) + trials.connections(psutil.CONN_LISTEN)) / workers,
            slurm_calls_per_min=asked / LOOK_S * 60, run_files=sum(1 for path in run.path.rglob("*") if path.is_file()),
        )  # fmt: skip
        cluster.stop_file.touch()
        until(lambda: not queue(), LIMIT_S, "the sweep to end")
        assert testbed.running()
        return seen


def rank_code() -> dict[Path, bytes]:
    """The rank that waits, for the run's copy of the code: workers import nothing else."""
    files = {Path("sweeps", name): (ROOT / "benchmarks" / name).read_text() for name in ("idle_rank.py", "moments.py")}
    return {path: text.replace("from benchmarks.", "from sweeps.").encode() for path, text in files.items()}


def _site(workers: int) -> Site:
    return Site.model_validate(read_toml(SITE.format(jobs=workers + 1)))


def _begun(moments: Path) -> int:
    return sum(what == "begin" for _, what, _ in read_moments(moments)) if (moments / FILE).exists() else 0


def drive(run: RunFolder, workers: int) -> None:
    """In the controller's job: what `sweeps.commands.controller` does, with trials that wait."""
    os.environ["PYTHONPATH"] = str(ROOT)
    folder = run.path.parent.parent
    plan, cluster = idle_plan(workers, folder / "moments", WAITS_S), ClusterRun(run)
    with RunLock(run.lock):
        run_sweep(plan, run, folder / "cache", "slurm", target="sweeps.idle_rank:IdleRank", stop_file=cluster.stop_file)


def reckoned(seen: Sequence[Seen], workers: int) -> Seen:
    """A row by straight lines through the measured ones."""
    numbers = [float(row.workers) for row in seen]

    def at(name: str) -> float:
        slope, start = statistics.linear_regression(numbers, [getattr(row, name) for row in seen])
        return start + slope * workers

    values = {one.name: at(one.name) for one in fields(Seen) if one.name not in ("workers", "source")}
    return Seen(workers=workers, source="reckoned", **values)


def on_record(out: Path) -> list[Seen]:
    """What an earlier call of this script measured."""
    path = out.parent / f"{out.name}.csv"
    rows = list(csv.DictReader(path.open(encoding="utf-8"))) if path.exists() else []
    return [
        Seen(**{one.name: one.type(row[one.name]) for one in fields(Seen)})
        for row in rows
        if row["source"] == "measured"
    ]


NOTES = (
    "All nodes are namespaces of one machine with as many cores as stand below; one trial on each worker, which waits.",
    "Memory is proportional set size. A trial's rank here has not imported torch; with torch and a model a rank takes "
    "0.7 GB and more on top.",
    "Reckoned rows are straight lines through the measured ones.",
    "Calls are those of all jobs of the sweep, from half a minute after the last trial began.",
)


def main() -> int:
    """Measures what is not on record yet, and writes the table after each."""
    parser = argparse.ArgumentParser(description="What a sweep takes by number of workers.", allow_abbrev=False)
    parser.add_argument("--workers", type=int, nargs="+", default=NUMBERS)
    parser.add_argument("--out", type=Path, default=RESULTS / "workers", help="files to write, without suffix")
    parser.add_argument("--drive", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.drive is not None:
        drive(RunFolder(options.drive), options.workers[0])
        return 0
    seen = {row.workers: row for row in on_record(options.out)}
    for workers in [number for number in options.workers if number not in seen]:
        seen[workers] = measure(workers)
        rows = [seen[number] for number in sorted(seen)]
        rows += [reckoned(rows, number) for number in RECKONED] if len(rows) > 2 else []
        columns = tuple(one.name for one in fields(Seen))
        table: tuple[tuple[Cell, ...], ...] = tuple(astuple(row) for row in rows)
        write(Measured(title="A sweep by its number of workers", columns=columns, rows=table, notes=NOTES), options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
