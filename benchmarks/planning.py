"""Seconds and memory of `--plan` for sweeps of 10,000 and 100,000 trials, each in its own process.

python benchmarks/planning.py            # two to four minutes
python benchmarks/planning.py --quick    # 1,000 trials in place of the large sweeps
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository, instead of the folder of this script

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.process import Taken, taken
from benchmarks.record import RESULTS, ROOT, Cell, Measured, spread, verdict, write
from benchmarks.simulation import SPEC, TRIALS_PER_SEED

LAUNCH = ROOT / "sweeps" / "launch.py"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A command to measure."""

    what: str
    trials: int
    runs: int
    goal_s: float
    goal_gb: float | None = None


ASKED = (
    Asked(what="--plan", trials=10_000, runs=3, goal_s=3.0),
    Asked(what="--plan", trials=100_000, runs=1, goal_s=20.0, goal_gb=2.0),
)
QUICK = (Asked(what="--plan", trials=1_000, runs=1, goal_s=3.0),)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description="seconds and memory of --plan")
    parser.add_argument("--quick", action="store_true", help="1,000 trials in place of the large sweeps: for a look")
    parser.add_argument("--out", type=Path, default=RESULTS / "planning", help="path of the table, without suffix")
    options = parser.parse_args(arguments)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for asked in QUICK if options.quick else ASKED:
            rows.append(row(asked, [measure(asked, Path(name)) for _ in range(asked.runs)]))
    write(Measured(title="Planning", columns=COLUMNS, rows=tuple(rows), notes=NOTES), options.out)
    return 0


def measure(asked: Asked, folder: Path) -> Taken:
    """Run the command once, its output thrown away.

    Raises:
        CalledProcessError: it failed.
    """
    spec = folder / f"{asked.trials}.toml"
    spec.write_text(SPEC.format(seeds=list(range(asked.trials // TRIALS_PER_SEED))))
    return taken([sys.executable, str(LAUNCH), str(spec), "--plan"], folder)


COLUMNS = (
    "what", "trials", "runs", "wall_s", "wall_s_quartiles", "cpu_s", "peak_memory_gb", "goal_s", "goal_gb", "verdict"
)  # fmt: skip


def row(asked: Asked, times: Sequence[Taken]) -> tuple[Cell, ...]:
    """A row of the table: medians over runs, the largest peak."""
    walls = [each.wall_s for each in times]
    peak_gb = max(each.peak_gb for each in times)
    is_met = statistics.median(walls) < asked.goal_s and (asked.goal_gb is None or peak_gb < asked.goal_gb)
    return (
        asked.what,
        asked.trials,
        asked.runs,
        statistics.median(walls),
        spread(walls),
        statistics.median(each.cpu_s for each in times),
        peak_gb,
        asked.goal_s,
        asked.goal_gb,
        verdict(is_met),
    )


NOTES = (
    "Each run is a process of its own: imports, reading the spec, ids and keys of all stages, cost, and the table of "
    "all trials written to /dev/null. There is no run to learn durations from; with one, up to 0.5 s come on top.",
    "The large sweeps are those of the simulation: TransTailor, PAC-Net, pruning by four criteria to four budgets, "
    "iterative pruning and fine-tuning on two networks, with more and more seeds; eight stages per trial on average.",
    "cpu_s: seconds of processor time; on a machine that does other things meanwhile it says more than wall_s.",
)


if __name__ == "__main__":
    sys.exit(main())
