"""Seconds and memory of `--plan` for sweeps of 10,000 and 100,000 trials, and of launching a finished one again.

python benchmarks/planning.py            # two to four minutes
python benchmarks/planning.py --quick    # 1,000 trials instead of the large sweeps
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from benchmarks.process import Taken, wait_for
from benchmarks.record import ROOT, Row, parser_of, spread, table_of, verdict, write
from results.store.writer import Writer
from sweeps.planning.plan import make_plan
from sweeps.run.relaunch import start
from sweeps.spec.spec import load_spec

LAUNCH = ROOT / "sweeps" / "launch.py"
SPEC = """
name = "simulated"
[axes]
network = ["digits_vgg", "digits_resnet"]
seed = {seeds}
[[variants]]
method = {{ name = "transtailor", steps = 5 }}
[[variants]]
method = {{ name = "pac_net" }}
[[variants]]
method.name = "fine_tune"
[[variants]]
method.name = "prune"
axes.method.criterion = ["l1", "l2", "taylor", "random"]
axes.method.asked_removed_macs_fraction = [0.1, 0.2, 0.3, 0.4]
[[variants]]
method = {{ name = "prune", criterion = "taylor", steps = 5, asked_removed_macs_fraction = 0.5 }}
"""
TRIALS_PER_SEED = 40


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A command to measure."""

    what: str
    trials: int
    runs: int
    goal_s: float
    goal_gb: float | None = None


ASKED = (
    Asked(what="--plan", trials=10_000, runs=3, goal_s=2.8),
    Asked(what="--plan", trials=100_000, runs=1, goal_s=25.0, goal_gb=0.5),
)
QUICK = (Asked(what="--plan", trials=1_000, runs=1, goal_s=3.0),)
AGAIN = Asked(what="launched again, all finished, until it says so", trials=10_000, runs=3, goal_s=3.5)
QUICK_AGAIN = Asked(what=AGAIN.what, trials=1_000, runs=1, goal_s=AGAIN.goal_s)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the table."""
    options = parser_of(__doc__, "planning", quick="1,000 trials instead of the large sweeps").parse_args(arguments)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for asked in QUICK if options.quick else ASKED:
            rows.append(row(asked, [measure(asked, Path(name)) for _ in range(asked.runs)]))
        again = QUICK_AGAIN if options.quick else AGAIN
        finish(again, Path(name))
        rows.append(row(again, [launched_again(again, Path(name)) for _ in range(again.runs)]))
    write(table_of("Planning", rows, NOTES), options.out)
    return 0


def measure(asked: Asked, folder: Path) -> Taken:
    """Run the command once, without its output.

    Raises:
        CalledProcessError: it failed.
    """
    command = [sys.executable, str(LAUNCH), str(write_spec(asked, folder)), "--plan"]
    start_s = time.perf_counter()
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL) as process:
        taken = wait_for(process, start_s)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return taken


def write_spec(asked: Asked, folder: Path) -> Path:
    """The spec of that many trials."""
    spec = folder / f"{asked.trials}.toml"
    spec.write_text(SPEC.format(seeds=list(range(asked.trials // TRIALS_PER_SEED))))
    return spec


def finish(asked: Asked, folder: Path) -> None:
    """Create a run in which every trial has finished."""
    plan = make_plan(load_spec(write_spec(asked, folder)))
    run, lock, _ = start(plan, folder / "runs", extend=False, update_code=False)
    writer, now = Writer(run.path / "tables"), datetime.now(UTC)
    row = {"status": "finished", "attempts": 1, "seconds": 1.0, "started_at": now, "ended_at": now}
    row |= {"code_digest": "0" * 64}
    writer.write("trials", [row | {"trial_id": trial.trial_id} for trial in plan.trials])
    lock.release()


def launched_again(asked: Asked, folder: Path) -> Taken:
    """Launch until the command reports that all trials have finished; do not wait for its report.

    Raises:
        ValueError: it did not say so.
    """
    spec, runs, cache = write_spec(asked, folder), folder / "runs", folder / "cache"
    command = [sys.executable, str(LAUNCH), str(spec), "--runs", str(runs), "--cache", str(cache)]
    start_s = time.perf_counter()
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        is_said = any(line.startswith(f"all {asked.trials} trials are finished") for line in process.stdout)
        wall_s = time.perf_counter() - start_s
        process.kill()
        taken = replace(wait_for(process, start_s), wall_s=wall_s)
    if not is_said:
        raise ValueError(f"{command} ended without saying that all trials are finished")
    return taken


def row(asked: Asked, times: Sequence[Taken]) -> Row:
    """A row of the table: medians over runs, the largest peak."""
    walls = [each.wall_s for each in times]
    peak_gb = max(each.peak_gb for each in times)
    cpu_s = statistics.median(each.cpu_s for each in times)
    is_met = cpu_s <= asked.goal_s and (asked.goal_gb is None or peak_gb <= asked.goal_gb)
    return {
        "what": asked.what,
        "trials": asked.trials,
        "runs": asked.runs,
        "wall_s": statistics.median(walls),
        "wall_s_quartiles": spread(walls),
        "cpu_s": cpu_s,
        "peak_memory_gb": peak_gb,
        "goal_s": asked.goal_s,
        "goal_gb": asked.goal_gb,
        "verdict": verdict(is_met),
    }


NOTES = (
    "Each run is a process of its own: imports, reading the spec, ids and keys of all stages, cost, and the table of "
    "all trials written to /dev/null. There is no run to learn durations from; with one, up to 0.5 s come on top.",
    "The large sweeps: TransTailor, PAC-Net, pruning by four criteria to four budgets, "
    "iterative pruning and fine-tuning on two networks, with more and more seeds; eight stages per trial on average.",
    "Launched again: the time is until the launch says that nothing is left; the report comes after that. Its "
    "memory is not below the benchmark's.",
    "cpu_s: seconds of processor time, against which the goals are held; on a machine that does other things meanwhile "
    "it says more than wall_s.",
)


if __name__ == "__main__":
    sys.exit(main())
