"""The embedded sweep with sharing of stages, beside the same sweep with sharing off, both by the command line.

    python benchmarks/sharing.py            # half an hour or more on two cores
    python benchmarks/sharing.py --quick    # about one and a half: one network, one seed, few epochs

Sharing runs before and after the run without it, each time from an empty cache, so that a machine that becomes slower
meanwhile is seen. The results of all runs have to be equal.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository, instead of the folder of this script

import argparse
import os
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.equality import compare, points_of
from benchmarks.record import RESULTS, ROOT, Cell, Measured, verdict, write
from results.cost import Stage, Totals, cost_of_run
from results.reader import Run, load
from sweeps.plan import cost_of, make_plan
from sweeps.spec import EMBEDDED_SPEC, load_spec

GOAL_FRACTION = 0.15  # the computed factor's distance from the measured one
LAUNCH = ROOT / "sweeps" / "launch.py"
QUICK = (
    "axes.seed=[0]",
    'axes.network=["digits_vgg"]',
    "trial.optimisation.epochs=5",
    "trial.optimisation.head_epochs=5",
    "trial.source.epochs=3",
)


@dataclass(frozen=True, kw_only=True)
class Launched:
    """A finished launch."""

    run: Path
    wall_s: float  # of the whole command: imports, Ray, trials, report


@dataclass(frozen=True, kw_only=True)
class Separate:
    """Stage-seconds of a run without sharing."""

    needed_s: float  # of the stages that each trial's last operating point is made from, and of that point
    passed_s: float  # of the points that trials measured on their way, which that point does not need


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the table; 1 where results differ."""
    parser = argparse.ArgumentParser(description="the embedded sweep with sharing beside the same with sharing off")
    parser.add_argument("--seeds", type=int, help="only the first so many seeds of the sweep, for the sake of time")
    parser.add_argument("--quick", action="store_true", help="one network, one seed, few epochs: for a look")
    parser.add_argument("--out", type=Path, default=RESULTS / "sharing", help="path of the table, without suffix")
    options = parser.parse_args(arguments)
    assignments = QUICK if options.quick else ()
    if options.seeds is not None:
        assignments = (*assignments, f"axes.seed={list(range(options.seeds))}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        before = launch(folder / "before", assignments)
        alone = launch(folder / "alone", assignments, "--no-sharing")
        after = launch(folder / "after", assignments)
        measured, is_equal = _table(before, alone, after, expected_factor(assignments))
    write(measured, options.out)
    return 0 if is_equal else 1


def launch(folder: Path, assignments: Sequence[str], *more: str) -> Launched:
    """Run the embedded sweep from an empty cache; what it prints goes to standard error.

    Raises:
        CalledProcessError: a trial failed, or the launch did.
    """
    command = [sys.executable, str(LAUNCH), "--runs", str(folder / "runs"), "--cache", str(folder / "cache"), *more]
    command += [text for assignment in assignments for text in ("--set", assignment)]
    print(f"launching {' '.join(command[1:])}", file=sys.stderr, flush=True)
    start_s = time.perf_counter()
    subprocess.run(command, check=True, stdout=sys.stderr, env=os.environ | {"PYTHONUNBUFFERED": "1"})
    wall_s = time.perf_counter() - start_s
    (run,) = (folder / "runs").iterdir()
    return Launched(run=run, wall_s=wall_s)


def expected_factor(assignments: Sequence[str]) -> float:
    """What `sweeps/launch.py --plan` expects sharing to save, counted from MACs."""
    plan = make_plan(load_spec(EMBEDDED_SPEC, assignments))
    return cost_of(plan.trials, lambda _: False).sharing_factor


def separate_seconds(run: Run) -> Separate:
    """Stage-seconds as the trials of a run without sharing measured them.

    Raises:
        ValueError: a trial found a stage computed, so the run shares.
    """
    stages = run.rows("SELECT trial_id, stage_key, compute_s, parents, cached FROM stages")
    if any(row["cached"] for row in stages):
        raise ValueError(f"{run.path}: a trial found a stage computed; run it with --no-sharing")
    last = run.rows("SELECT trial_id, arg_max(stage_key, point) AS stage_key FROM operating_points GROUP BY trial_id")
    return separate(stages, {row["trial_id"]: row["stage_key"] for row in last})


def separate(stages: Iterable[Mapping[str, Any]], last_points: Mapping[str, str]) -> Separate:
    """Stage-seconds of trials that share nothing: every row of `stages` counts, each trial's on its own.

    Args:
        stages: rows with trial_id, stage_key, compute_s and parents.
        last_points: trial id -> key of its last operating point.
    """
    of_trial: dict[str, dict[str, Stage]] = {}
    for row in stages:
        of_trial.setdefault(row["trial_id"], {})[row["stage_key"]] = Stage(row["compute_s"], tuple(row["parents"]))
    all_s = sum(stage.compute_s for found in of_trial.values() for stage in found.values())
    needed_s = sum(Totals(of_trial[trial_id]).from_the_start(key) for trial_id, key in last_points.items())
    return Separate(needed_s=needed_s, passed_s=all_s - needed_s)


def _table(before: Launched, alone: Launched, after: Launched, expected: float) -> tuple[Measured, bool]:
    with load(before.run) as first, load(alone.run) as separate, load(after.run) as second:
        seconds = separate_seconds(separate)
        costs = [cost_of_run(run)[0] for run in (first, second)]
        same = compare(points_of(first), points_of(separate))
        again = compare(points_of(first), points_of(second))
        trials = [run.rows("SELECT count(*) AS trials FROM trials")[0]["trials"] for run in (first, separate)]
    shared_s = sum(cost.shared_s for cost in costs) / 2
    computed_s = sum(cost.separate_s for cost in costs) / 2
    factor, computed = seconds.needed_s / shared_s, computed_s / shared_s
    difference = (computed - factor) / factor
    wall_s = (before.wall_s + after.wall_s) / 2
    rows: list[tuple[Cell, ...]] = [
        ("trials", trials[0], trials[1], None, ""),
        ("operating points, distinct", costs[0].points, same.points, None, ""),
        ("stages computed, distinct", costs[0].stages, None, None, ""),
        ("stage-seconds measured", shared_s, seconds.needed_s, factor, ""),
        ("stage-seconds with the points passed on the way", shared_s, seconds.needed_s + seconds.passed_s,
         (seconds.needed_s + seconds.passed_s) / shared_s, ""),
        ("stage-seconds computed by results.cost", shared_s, computed_s, computed,
         f"{difference:+.1%} of measured; within {GOAL_FRACTION:.0%}: {verdict(abs(difference) <= GOAL_FRACTION)}"),
        ("work expected by --plan", None, None, expected, ""),
        ("wall time, s", wall_s, alone.wall_s, alone.wall_s / wall_s, ""),
        ("first and second sharing run, stage-seconds", costs[0].shared_s, costs[1].shared_s,
         costs[1].shared_s / costs[0].shared_s, "second / first: what the machine did meanwhile"),
        ("results equal", None, None, None, str(same)),
        ("results of both sharing runs equal", None, None, None, str(again)),
    ]  # fmt: skip
    columns = ("what", "sharing", "without", "without / sharing", "verdict")
    title = "The embedded sweep with sharing and without"
    return Measured(title=title, columns=columns, rows=tuple(rows), notes=NOTES), same.is_equal and again.is_equal


NOTES = (
    "Sharing: the mean of a run before and a run after the one without sharing, each from an empty cache. Without: "
    "`--no-sharing`, every distinct operating point as a trial of its own with a private, empty cache.",
    "Stage-seconds without sharing count, for each trial, the stages that its last operating point is made from and "
    "that point, as results.cost does. A trial also measures the points that it passes on its way (the rule that stops "
    "early needs them); they are left out of the factor and stand in a row of their own.",
    "Computed: from the stages of the sharing runs alone.",
    "Equal: every operating point, matched by its stage key, has the same validation accuracy, validation loss, MACs "
    "and test predictions wherever it was reached, with sharing and without.",
    "Wall time is of the whole command.",
)


if __name__ == "__main__":
    sys.exit(main())
