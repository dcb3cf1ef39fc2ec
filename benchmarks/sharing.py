"""A sweep with sharing of stages, compared with the same sweep without, both by the command line.

    python benchmarks/sharing.py                                    # the embedded sweep: half an hour on two cores
    python benchmarks/sharing.py --spec benchmarks/paper_like.toml  # methods x budgets x beta x seeds
    python benchmarks/sharing.py --quick    # about one and a half minutes: one network, one seed, few epochs

Sharing runs before and after the run without it, each time from an empty cache, so that a machine that becomes slower
in between is noticed. The results of all runs must be equal.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

import os
import subprocess
import tempfile
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.equality import compare, points_of
from benchmarks.record import EVIDENCE, ROOT, Cell, Measured, parser_of, verdict, write
from results.arms.cost import cost_of_run
from results.store.reader import Run, load
from sweeps.planning.durations import Durations, durations_in
from sweeps.planning.plan import Plan, choose_probe, cost_of, make_plan
from sweeps.spec.spec import EMBEDDED_SPEC, load_spec

GOAL_FRACTION = 0.15  # the computed and the expected factor's distance from the measured one
PAPER_LIKE_FACTOR, PAPER_LIKE_WALL = 7.0, 3.6  # goals; Hippo's stage trees reach 6.77 in GPU-hours, 3.53 end to end
TWICE_GOAL = 1.02  # stage-seconds computed in all, over each distinct stage once
MAKESPAN_GOAL = 1.08  # of the paper-like sweep, over its bound
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
    passed_s: float  # of the points that trials measured before, which that point does not need


@dataclass(frozen=True)
class StageRow:
    """The time that a stage took, and the keys of its parents."""

    compute_s: float
    parents: tuple[str, ...]


class Totals:
    """Seconds from the start to the end of any stage; results are kept for the next call."""

    def __init__(self, stages: Mapping[str, StageRow]) -> None:
        self.stages = stages
        self._known: dict[str, float] = {}

    def seconds_from_start(self, key: str) -> float:
        """Sum the seconds of a stage and all its ancestors, each once; a stage without a row counts 0.

        Chains are followed in a loop, so they may be long. The ancestors of a stage with several parents are
        collected as a set, since they may overlap.
        """
        chain: list[str] = []
        seen: set[str] = set()
        total = 0.0
        while key in self.stages and key not in self._known and key not in seen:
            parents = set(self.stages[key].parents)
            if len(parents) > 1:
                total = self._collect(key)
                break
            chain.append(key)
            seen.add(key)
            if not parents:
                break
            (key,) = parents
        else:
            total = self._known.get(key, 0.0)
        for link in reversed(chain):
            total += self.stages[link].compute_s
            self._known[link] = total
        return total

    def _collect(self, key: str) -> float:
        if key not in self._known:
            ancestors = {key}
            waiting = [key]
            while waiting:
                for parent in self.stages[waiting.pop()].parents:
                    if parent in self.stages and parent not in ancestors:
                        ancestors.add(parent)
                        waiting.append(parent)
            self._known[key] = sum(self.stages[ancestor].compute_s for ancestor in sorted(ancestors))
        return self._known[key]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the table; 1 where results differ."""
    parser = parser_of(__doc__, None, quick="one network, one seed, few epochs")
    parser.add_argument("--spec", type=Path, default=EMBEDDED_SPEC, help="the sweep (default: the embedded one)")
    parser.add_argument("--seeds", type=int, help="only this many seeds of the sweep, to save time")
    options = parser.parse_args(arguments)
    assignments = QUICK if options.quick else ()
    if options.seeds is not None:
        assignments = (*assignments, f"axes.seed={list(range(options.seeds))}")
    plan = make_plan(load_spec(options.spec, assignments))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        probe = launch(folder / "probe", options.spec, assignments, "--only", choose_probe(plan.trials).trial_id)
        durations = durations_in(probe.run.parent, plan.resources.ranks)
        assert durations is not None
        before = launch(folder / "before", options.spec, assignments)
        alone = launch(folder / "alone", options.spec, assignments, "--no-sharing")
        after = launch(folder / "after", options.spec, assignments)
        measured, is_equal = _table(plan, durations, before, alone, after)
    suffix = "" if options.spec == EMBEDDED_SPEC else f"_{plan.name}"
    write(measured, options.out or EVIDENCE / f"sharing{suffix}")
    return 0 if is_equal else 1


def launch(folder: Path, spec: Path, assignments: Sequence[str], *more: str) -> Launched:
    """Run a sweep from an empty cache; what it prints goes to standard error.

    Raises:
        CalledProcessError: a trial failed, or the launch did.
    """
    command = [sys.executable, str(LAUNCH), str(spec), "--runs", str(folder / "runs")]
    command += ["--cache", str(folder / "cache"), *more]
    command += [text for assignment in assignments for text in ("--set", assignment)]
    print(f"launching {' '.join(command[1:])}", file=sys.stderr, flush=True)
    start_s = time.perf_counter()
    subprocess.run(command, check=True, stdout=sys.stderr, env=os.environ | {"PYTHONUNBUFFERED": "1"})
    wall_s = time.perf_counter() - start_s
    (run,) = (folder / "runs").iterdir()
    return Launched(run=run, wall_s=wall_s)


def makespan_over_bound(run: Run, slots: int) -> float:
    """From the start of the first stage to the end of the last, divided by the lower bound of all schedules.

    That is the larger of P + (W - P) / slots, with W all distinct stages and P those that all trials share and wait
    for, and of the longest chain of stages.
    """
    (row,) = run.rows("""
        SELECT epoch(max(written_at)) - min(epoch(written_at) - compute_s) AS makespan_s FROM stages WHERE NOT cached
    """)
    stages = run.rows("SELECT stage_key, compute_s, parents FROM stages WHERE NOT cached")
    common = run.rows("""
        SELECT stage_key FROM stages GROUP BY ALL
        HAVING count(DISTINCT trial_id) = (SELECT count(DISTINCT trial_id) FROM stages)
    """)
    totals = Totals({row["stage_key"]: StageRow(row["compute_s"], tuple(row["parents"])) for row in stages})
    return float(row["makespan_s"]) / lower_bound_s(totals, {row["stage_key"] for row in common}, slots)


def lower_bound_s(totals: Totals, common: Collection[str], slots: int) -> float:
    """Seconds that every schedule takes at least; `common`: the stages that every trial has."""
    longest_s = max(totals.seconds_from_start(key) for key in totals.stages)
    all_s = sum(stage.compute_s for stage in totals.stages.values())
    common_s = sum(stage.compute_s for key, stage in totals.stages.items() if key in common)
    return max(longest_s, common_s + (all_s - common_s) / slots)


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
    of_trial: dict[str, dict[str, StageRow]] = {}
    for row in stages:
        of_trial.setdefault(row["trial_id"], {})[row["stage_key"]] = StageRow(row["compute_s"], tuple(row["parents"]))
    all_s = sum(stage.compute_s for own_stages in of_trial.values() for stage in own_stages.values())
    needed_s = sum(Totals(of_trial[trial_id]).seconds_from_start(key) for trial_id, key in last_points.items())
    return Separate(needed_s=needed_s, passed_s=all_s - needed_s)


def _table(
    plan: Plan, durations: Durations, before: Launched, alone: Launched, after: Launched
) -> tuple[Measured, bool]:
    slots = len(os.sched_getaffinity(0)) // plan.resources.ranks
    with load(before.run) as first, load(alone.run) as separate, load(after.run) as second:
        seconds = separate_seconds(separate)
        costs = [cost_of_run(run)[0] for run in (first, second)]
        twice = [
            run.rows(COMPUTED)[0]["seconds"] / cost.shared_s for run, cost in zip((first, second), costs, strict=True)
        ]
        over_bound = [makespan_over_bound(run, slots) for run in (first, second)]
        same = compare(points_of(first), points_of(separate))
        again = compare(points_of(first), points_of(second))
        trials = [run.rows("SELECT count(*) AS trials FROM trials")[0]["trials"] for run in (first, separate)]
    shared_s = sum(cost.shared_s for cost in costs) / 2
    computed_s = sum(cost.separate_s for cost in costs) / 2
    factor, computed = seconds.needed_s / shared_s, computed_s / shared_s
    expected = cost_of(plan.trials, lambda _: False).sharing_factor
    probed = cost_of(plan.trials, lambda _: False, durations.seconds).sharing_factor
    wall_s = (before.wall_s + after.wall_s) / 2
    is_paper_like = plan.name == "paper_like"
    rows: list[tuple[Cell, ...]] = [
        ("trials", trials[0], trials[1], None, ""),
        ("operating points, distinct", costs[0].points, same.points, None, ""),
        ("stages computed, distinct", costs[0].stages, None, None, ""),
        ("stage-seconds measured", shared_s, seconds.needed_s, factor,
         _lower_goal(factor, PAPER_LIKE_FACTOR) if is_paper_like else ""),
        ("stage-seconds with the points passed on the way", shared_s, seconds.needed_s + seconds.passed_s,
         (seconds.needed_s + seconds.passed_s) / shared_s, ""),
        ("stage-seconds computed by results.arms.cost", shared_s, computed_s, computed, _deviation(computed, factor)),
        ("work expected by --plan", None, None, expected, _deviation(expected, factor)),
        ("time expected by --plan after one trial", None, None, probed, _deviation(probed, factor)),
        ("wall time, s", wall_s, alone.wall_s, alone.wall_s / wall_s,
         _lower_goal(alone.wall_s / wall_s, PAPER_LIKE_WALL) if is_paper_like else ""),
        ("stage-seconds spent / each distinct stage once", max(twice), None, None,
         f"<= {TWICE_GOAL}: {verdict(max(twice) <= TWICE_GOAL)}"),
        ("makespan / bound", max(over_bound), None, None,
         f"{slots} slots" + (_upper_goal(max(over_bound), MAKESPAN_GOAL) if is_paper_like else "")),
        ("first and second sharing run, stage-seconds", costs[0].shared_s, costs[1].shared_s,
         costs[1].shared_s / costs[0].shared_s, "second / first: what the machine did meanwhile"),
        ("results equal", None, None, None, str(same)),
        ("results of both sharing runs equal", None, None, None, str(again)),
    ]  # fmt: skip
    columns = ("what", "sharing", "without", "without / sharing", "verdict")
    title = f"The sweep {plan.name} with sharing and without"
    return Measured(title=title, columns=columns, rows=tuple(rows), notes=NOTES), same.is_equal and again.is_equal


def _lower_goal(ratio: float, goal: float) -> str:
    return f">= {goal:g}: {verdict(ratio >= goal)}"


def _upper_goal(ratio: float, goal: float) -> str:
    return f"; <= {goal:g}: {verdict(ratio <= goal)}"


def _deviation(factor: float, measured: float) -> str:
    difference = (factor - measured) / measured
    return f"{difference:+.1%} of measured; within {GOAL_FRACTION:.0%}: {verdict(abs(difference) <= GOAL_FRACTION)}"


COMPUTED = "SELECT sum(compute_s) AS seconds FROM stages WHERE NOT cached"

NOTES = (
    "Sharing: the mean of a run before and a run after the one without sharing, each from an empty cache. Without: "
    "`--no-sharing`, every distinct operating point as a trial of its own with a private, empty cache.",
    "Stage-seconds without sharing count, for each trial, the stages that its last operating point is made from and "
    "that point, as results.arms.cost does. A trial also measures the points that it passes on its way (the rule that "
    "stops early needs them); they are left out of the factor and are in a separate row.",
    "Computed: from the stages of the sharing runs alone. Expected: counted operations where nothing has run yet; "
    "after the trial that `--plan` names as a probe (not counted above), its seconds, by kind of stage and network.",
    "Equal: every operating point, matched by its stage key, has the same validation accuracy, validation loss, MACs "
    "and test predictions wherever it was reached, with sharing and without.",
    "Wall time is of the whole command. Spent: of every stage that some trial computed; two may compute one stage "
    "at the same time. Makespan: from the start of the first stage to the end of the last; bound: the stages "
    "that all trials share, then all others on all slots without a pause; or the longest chain of stages if that is "
    "longer. Of both runs the worse.",
)


if __name__ == "__main__":
    sys.exit(main())
