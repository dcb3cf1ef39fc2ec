"""Memory and disk of a sweep: of the driver, of Ray, of a slot with its rank; bytes per trial, compared with the plan.

    python benchmarks/footprint.py            # three minutes
    python benchmarks/footprint.py --quick    # one seed: for a look

A small sweep runs on this machine as users launch it, while its processes and files are observed from outside.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

import os
import signal
import statistics
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import psutil

from benchmarks.record import ROOT, Cell, Measured, parser_of, verdict, write
from sweeps.planning.plan import cost_of, make_plan
from sweeps.spec.spec import load_spec

SPEC = """
name = "footprint"
[trial.optimisation]
epochs = 10
[axes]
seed = {seeds}
[[variants]]
method = {{ name = "transtailor", steps = 3 }}
[[variants]]
method.name = "fine_tune"
[[variants]]
method.name = "prune"
axes.method.removed_macs_fraction = [0.2, 0.4]
"""
SEEDS, QUICK_SEEDS = 4, 1
LOOK_EVERY_S = 0.5
GIVEN_UP_S = 900.0
DRIVER, SLOT, RANK, WARM, RAY = "driver", "slot", "rank", "the process that forks ranks", "Ray itself"
PRIVATE = "rank, what it shares with none"
COLUMNS = ("what", "unit", "median", "most", "limit", "verdict")
GOAL_PRIVATE_MB = 100
FORKS = "hpc.ranks.warm_process"
MB = 1e6


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Observations of a running sweep; memory is PSS, in which processes that share a page share its bytes."""

    process_bytes: dict[str, list[int]] = field(default_factory=dict)  # of one process of a kind, all looks
    ray_bytes: list[int] = field(default_factory=list)  # of all processes of Ray itself together, by look
    checkpoint_bytes: list[int] = field(default_factory=list)  # of all trials together, by look


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the table."""
    options = parser_of(__doc__, "footprint", quick="one seed").parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spec = folder / "footprint.toml"
        spec.write_text(SPEC.format(seeds=list(range(QUICK_SEEDS if options.quick else SEEDS))))
        seen = run(spec, folder)
        rows = (*memory_rows(seen), *disk_rows(seen, spec, folder))
    write(Measured(title="Memory and disk of a sweep", columns=COLUMNS, rows=rows, notes=NOTES), options.out)
    return 0


def run(spec: Path, folder: Path) -> Seen:
    """Launch the sweep and observe it until it ends.

    Raises:
        RuntimeError: a trial failed, or it does not end.
    """
    seen = Seen()
    command = [sys.executable, str(ROOT / "sweeps" / "launch.py"), str(spec)]
    end_s = time.monotonic() + GIVEN_UP_S
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL) as launch:
        try:
            while launch.poll() is None and time.monotonic() < end_s:
                look(psutil.Process(launch.pid), folder / "runs" / "footprint" / "trials", seen)
                time.sleep(LOOK_EVERY_S)
        finally:
            if launch.poll() is None:
                launch.send_signal(signal.SIGINT)
    if launch.returncode:
        raise RuntimeError(f"the sweep ended with {launch.returncode}, expected 0 within {GIVEN_UP_S:.0f} s")
    return seen


def look(driver: psutil.Process, trials: Path, seen: Seen) -> None:
    """Add the present sizes of the processes and the checkpoints."""
    ray_bytes = 0
    for process, kind in processes(driver):
        try:
            memory = process.memory_full_info()
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
        if kind == RAY:
            ray_bytes += memory.pss
        else:
            seen.process_bytes.setdefault(kind, []).append(memory.pss)
        if kind == RANK:
            seen.process_bytes.setdefault(PRIVATE, []).append(memory.uss)
    seen.ray_bytes.append(ray_bytes)
    seen.checkpoint_bytes.append(bytes_below(trials, "checkpoint"))


def processes(driver: psutil.Process) -> Iterator[tuple[psutil.Process, str]]:
    """Each process of a launch and what it is."""
    yield driver, DRIVER
    try:
        children = driver.children(recursive=True)
    except psutil.NoSuchProcess:
        return
    for child in children:
        try:
            title, parent = (" ".join(process.cmdline()) for process in (child, child.parent() or driver))
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
        if FORKS in title:  # a forked rank has the title of its parent
            yield child, RANK if FORKS in parent else WARM
        else:
            yield child, SLOT if "TuneSlot" in title else RAY


def memory_rows(seen: Seen) -> Iterator[tuple[Cell, ...]]:
    """Of the driver, a slot, its rank, what forks it, and Ray."""
    kinds = {name: seen.process_bytes.get(name, []) for name in (DRIVER, SLOT, RANK, PRIVATE, WARM)} | {
        RAY: seen.ray_bytes
    }
    for name, sizes in kinds.items():
        if not sizes:
            raise RuntimeError(f"no process was seen that is a {name}")
        median_mb = statistics.median(sizes) / MB
        judged = (GOAL_PRIVATE_MB, verdict(median_mb <= GOAL_PRIVATE_MB)) if name == PRIVATE else (None, None)
        yield name, "MB", median_mb, max(sizes) / MB, *judged


def disk_rows(seen: Seen, spec: Path, folder: Path) -> Iterator[tuple[Cell, ...]]:
    """Bytes per trial, and whether they stay within the plan."""
    plan = make_plan(load_spec(spec))
    trials, planned_bytes = len(plan.trials), cost_of(plan.trials, lambda _: False).stored_bytes
    run_folder = folder / "runs" / plan.name
    cache_bytes, left_bytes = bytes_below(folder / "cache"), bytes_below(run_folder / "trials", "checkpoint")
    files = Counter(path.relative_to(run_folder).parts[0] for path in run_folder.rglob("*") if path.is_file())
    for part in ("tables", "trials"):
        yield f"{part}, per trial", "kB", bytes_below(run_folder / part) / trials / 1e3, None, None, None
        yield f"files in {part}, per trial", "files", files[part] / trials, None, None, None
    yield "cache, per trial", "kB", cache_bytes / trials / 1e3, None, None, None
    yield "cache in all", "MB", cache_bytes / MB, None, None, None
    yield "cache in all, as the plan estimates it", "MB", planned_bytes / MB, None, None, None
    sizes = seen.checkpoint_bytes
    yield "checkpoints while it ran", "MB", statistics.median(sizes) / MB, max(sizes) / MB, None, None
    yield "checkpoints left at the end", "MB", left_bytes / MB, None, 0, verdict(left_bytes == 0)


def bytes_below(folder: Path, part: str | None = None) -> int:
    """Bytes of the files below a folder, only of those with a folder `part` in their path; 0 if it does not exist."""
    size_bytes = 0
    # os.walk passes over a folder that the sweep removed meanwhile, where rglob raises.
    for subfolder, _, names in os.walk(folder):
        if part is None or part in Path(subfolder).relative_to(folder).parts:
            for name in names:
                with suppress(FileNotFoundError):  # a file that it removed meanwhile
                    size_bytes += Path(subfolder, name).stat().st_size
    return size_bytes


NOTES = (
    "Memory is PSS: what processes share is divided among them. Driver, slot and rank: of one process; Ray itself: of "
    "all its own processes together. A slot is the process that keeps one trial going, its rank the one that trains, "
    f"warm from trial to trial. Looked at every {LOOK_EVERY_S:g} s; the median is over all looks, idle ones included.",
    "What a rank shares with none is its USS; its limit is held against the median.",
    "The sweep: TransTailor of three steps, fine-tuning and pruning to two budgets, 10 epochs, one rank per trial.",
    "Bytes are those of the files, without what a file system adds. A plan estimates tensors alone, without what is "
    "written beside them.",
)


if __name__ == "__main__":
    sys.exit(main())
