"""A sweep with sharing of stages, compared with one script per trial, both by the command line.

    python benchmarks/sharing.py                                    # the embedded sweep: half an hour on two cores
    python benchmarks/sharing.py --spec benchmarks/paper_like.toml  # methods x budgets x beta x seeds
    python benchmarks/sharing.py --quick    # about one and a half minutes: one network, one seed, few epochs

Sharing runs before and after the run without it, each time from an empty cache, so that a machine that becomes slower
in between is noticed. The results of all runs must be equal. With `--site serial` other work on the machine changes
the processor time little.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.equality import compare, points_of
from benchmarks.process import wait_for
from benchmarks.record import EVIDENCE, ROOT, Cell, Measured, parser_of, verdict, write
from results.sharing import (
    EACH_POINT_ALONE,
    ONE_SCRIPT,
    SOURCE_GIVEN,
    SOURCE_KIND,
    Baseline,
    Baselines,
    StageUse,
    baselines_of,
)
from results.store.reader import Run, load
from sweeps.planning.cost import cost_of
from sweeps.planning.hours import Durations, durations_in, precisions_of
from sweeps.planning.plan import Plan, choose_probe, make_plan
from sweeps.spec.spec import EMBEDDED_SPEC, load_spec
from transtailor.plural import counted

GOAL_FRACTION = 0.15  # the computed and the expected factor's distance from the measured one
HIPPO_HOURS, HIPPO_WALL = 4.81, 2.76  # what Hippo's stage trees reach at most in one study, over trials as scripts
STAGE_SECONDS, WALL, PROCESSOR = "stage-seconds measured", "wall time, s", "processor time, s"
GOALS = {STAGE_SECONDS: HIPPO_HOURS, PROCESSOR: HIPPO_HOURS, WALL: HIPPO_WALL}  # of the paper-like sweep
UNSTEADY = "left out: the machine did not keep its pace, see the two sharing runs"
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
    cpu_s: float  # likewise; of Ray's processes it may lack some


@dataclass(frozen=True)
class StageRow:
    """The time that a stage took, and the keys of its parents."""

    compute_s: float
    parents: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Sharing:
    """The stage-seconds of a run against each baseline, and how many distinct stages and operating points they are."""

    baselines: Baselines
    stages: int
    points: int


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
    parser.add_argument("--site", choices=("local", "serial"), default="local", help="as of a launch")
    options = parser.parse_args(arguments)
    assignments = QUICK if options.quick else ()
    if options.seeds is not None:
        assignments = (*assignments, f"axes.seed={list(range(options.seeds))}")
    plan = make_plan(load_spec(options.spec, assignments))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = (options.spec, assignments, "--site", options.site)
        probe = launch(folder / "probe", *command, "--only", choose_probe(plan.trials).trial_id)
        durations = durations_in(probe.run.parent, plan.resources, precisions_of(plan))
        assert durations is not None
        before = launch(folder / "before", *command)
        scripts = launch(folder / "scripts", *command, "--no-sharing")
        after = launch(folder / "after", *command)
        measured, is_equal = _table(plan, options.site, durations, before, scripts, after)
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
    with subprocess.Popen(command, stdout=sys.stderr, env=os.environ | {"PYTHONUNBUFFERED": "1"}) as process:
        taken = wait_for(process, start_s)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    (run,) = (folder / "runs").iterdir()
    return Launched(run=run, wall_s=taken.wall_s, cpu_s=taken.cpu_s)


def sharing_of(run: Run) -> Sharing:
    """Add up the distinct stages of a run by how many trials have each, and its points from the start."""
    stages = run.rows(f"""
        SELECT trials, trains_source, count(*) AS stages, sum(compute_s ORDER BY compute_s) AS cost
        FROM (SELECT stage_key, count(DISTINCT trial_id) AS trials, any_value(kind) = '{SOURCE_KIND}' AS trains_source
            FROM stages GROUP BY stage_key)
        JOIN computed_stages USING (stage_key) GROUP BY ALL ORDER BY ALL
    """)
    (points,) = run.rows("""
        SELECT count(*) AS points, coalesce(sum(compute_s ORDER BY compute_s), 0) AS cost
        FROM (SELECT DISTINCT stage_key FROM operating_points) LEFT JOIN unshared_costs USING (stage_key)
    """)
    uses = [StageUse(cost=row["cost"], trials=row["trials"], trains_source=row["trains_source"]) for row in stages]
    uses.append(StageUse(cost=0.0, trials=0, trains_source=False, from_start=points["cost"]))
    return Sharing(baselines=baselines_of(uses), stages=sum(row["stages"] for row in stages), points=points["points"])


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


def baselines_of_scripts(scripts: Run, shared: Sequence[Baselines]) -> list[Baseline]:
    """What a run without sharing took, against the mean of those with it: with its sources' training, and without.

    Raises:
        ValueError: a trial found a stage computed, so the run shares.
    """
    if scripts.rows("FROM stages WHERE cached"):
        raise ValueError(f"{scripts.path}: a trial found a stage computed; run it with --no-sharing")
    (row,) = scripts.rows(f"""
        SELECT sum(compute_s) AS all_s, sum(compute_s) FILTER (kind <> '{SOURCE_KIND}') AS given_s FROM stages
    """)
    return [
        Baseline(
            name=ONE_SCRIPT,
            separate=row["all_s"],
            shared=statistics.fmean(each.one_script.shared for each in shared),
        ),
        Baseline(
            name=SOURCE_GIVEN,
            separate=row["given_s"],
            shared=statistics.fmean(each.source_given.shared for each in shared),
        ),
    ]


def _table(
    plan: Plan, site: str, durations: Durations, before: Launched, scripts: Launched, after: Launched
) -> tuple[Measured, bool]:
    slots = 1 if site == "serial" else len(os.sched_getaffinity(0)) // plan.resources.ranks
    with load(before.run) as first, load(scripts.run) as separate, load(after.run) as second:
        costs = [sharing_of(run) for run in (first, second)]
        measured = baselines_of_scripts(separate, [cost.baselines for cost in costs])
        spent_s = [run.rows(COMPUTED)[0]["seconds"] for run in (first, second)]
        over_bound = [makespan_over_bound(run, slots) for run in (first, second)]
        same = compare(points_of(first), points_of(separate))
        again = compare(points_of(first), points_of(second))
        trials = [run.rows("SELECT count(*) AS trials FROM trials")[0]["trials"] for run in (first, separate)]
    seconds = [cost.baselines.one_script.shared for cost in costs]
    twice = max(spent / once for spent, once in zip(spent_s, seconds, strict=True))
    walls = Baseline(name=ONE_SCRIPT, separate=scripts.wall_s, shared=(before.wall_s + after.wall_s) / 2)
    clocks = [*((STAGE_SECONDS, baseline) for baseline in measured), (WALL, walls)]
    processor = None
    if site == "serial":
        processor = Baseline(name=ONE_SCRIPT, separate=scripts.cpu_s, shared=(before.cpu_s + after.cpu_s) / 2)
    goals = GOALS if plan.name == "paper_like" else {}
    times, reference = measured_rows(clocks, processor, seconds[1] / seconds[0], goals)
    rows: list[tuple[Cell, ...]] = [
        ("trials", None, trials[0], trials[1], None, ""),
        ("operating points, distinct", None, costs[0].points, same.points, None, ""),
        ("stages computed, distinct", None, costs[0].stages, None, None, ""),
    ]
    rows += times
    for what, found in (
        ("stage-seconds computed from the first sharing run", costs[0].baselines),
        ("MACs of images expected by --plan", cost_of(plan.trials, lambda _: False).baselines),
        (
            "seconds expected by --plan after one trial",
            cost_of(plan.trials, lambda _: False, durations.seconds).baselines,
        ),
    ):
        for baseline in found.leading_first():
            rows.append(_row(what, baseline, _deviation(baseline, reference.get(baseline.name))))
    rows += [
        ("stage-seconds spent / each distinct stage once", None, twice, None, None,
         f"<= {TWICE_GOAL}: {verdict(twice <= TWICE_GOAL)}"),
        ("makespan / bound", None, max(over_bound), None, None,
         f"{counted(slots, 'slot')}; <= {MAKESPAN_GOAL:g}: {verdict(max(over_bound) <= MAKESPAN_GOAL)}"),
        ("first and second sharing run, stage-seconds", None, *seconds, seconds[1] / seconds[0],
         "second / first: what the machine did meanwhile"),
        ("results equal", None, None, None, None, str(same)),
        ("results of both sharing runs equal", None, None, None, None, str(again)),
    ]  # fmt: skip
    title = f"The sweep {plan.name} with sharing of stages, and as one script per trial"
    return Measured(title=title, columns=COLUMNS, rows=tuple(rows), notes=NOTES), same.is_equal and again.is_equal


def measured_rows(
    clocks: Sequence[tuple[str, Baseline]], processor: Baseline | None, pace: float, goals: Mapping[str, float]
) -> tuple[list[tuple[Cell, ...]], dict[str, float | None]]:
    """Return the rows of what was measured, and the factors to hold others against, by the name of the baseline.

    Args:
        clocks: times by the clock, each with what it is. They are left out if the machine did not keep its pace.
        processor: the processor time of the whole commands; None: not known.
        pace: stage-seconds of the second sharing run over those of the first.
        goals: for the first baseline, by what is measured.
    """
    rows: list[tuple[Cell, ...]] = []
    reference: dict[str, float | None] = {}
    is_steady = 1 / (1 + GOAL_FRACTION) <= pace <= 1 + GOAL_FRACTION
    for what, baseline in clocks:
        if not is_steady:
            rows.append((what, baseline.name, None, None, None, UNSTEADY))
            continue
        reference.setdefault(baseline.name, baseline.factor)
        rows.append(_row(what, baseline, _goal_text(what, baseline, goals)))
    if processor is not None:
        reference[processor.name] = processor.factor
        rows.append(_row(PROCESSOR, processor, _goal_text(PROCESSOR, processor, goals)))
    return rows, reference


def _row(what: str, baseline: Baseline, said: str) -> tuple[Cell, ...]:
    return what, baseline.name, baseline.shared, baseline.separate, baseline.factor, said


def _goal_text(what: str, baseline: Baseline, goals: Mapping[str, float]) -> str:
    if what not in goals or baseline.name != ONE_SCRIPT:
        return ""
    return f">= {goals[what]:g}: {verdict((baseline.factor or 0.0) >= goals[what])}"


def _deviation(baseline: Baseline, measured: float | None) -> str:
    """Say how far a factor is from the measured one; nobody measured each point alone."""
    if measured is None or baseline.factor is None:
        return "not measured"
    difference = (baseline.factor - measured) / measured
    return f"{difference:+.1%} of measured; within {GOAL_FRACTION:.0%}: {verdict(abs(difference) <= GOAL_FRACTION)}"


COMPUTED = "SELECT sum(compute_s) AS seconds FROM stages WHERE NOT cached"

COLUMNS = ("what", "against", "sharing", "without", "without / sharing", "verdict")
NOTES = (
    "Sharing: the mean of a run before and a run after the one without sharing, each from an empty cache. Without: "
    "`--no-sharing`, the same trials as scripts: each computes all stages of its path, with a private, empty cache.",
    f"Three baselines. {ONE_SCRIPT}: what was run. {SOURCE_GIVEN}: the same runs, without the stages that train a "
    f"source network, on both sides. {EACH_POINT_ALONE}: nobody works so; it is computed, and was not run.",
    "Computed: from the stages of the first sharing run alone. Expected by MACs of images: counted, not measured. "
    "Expected in seconds: after the trial that `--plan` names as a probe, its seconds, by kind of stage and network.",
    f"Goals of the sweep paper_like: what Hippo's stage trees save at most in one study over trials as scripts (Shin "
    f"et al., VLDB 2022), {HIPPO_HOURS:g} in GPU-hours and {HIPPO_WALL:g} from end to end; over several studies 6.77 "
    "and 3.53. Those were other sweeps, on GPUs, against the first baseline.",
    "Equal: every operating point, matched by its stage key, has the same validation accuracy, validation loss, MACs "
    "and test predictions wherever it was reached, with sharing and without.",
    "Wall and processor time are of the whole command, with imports and the report. Times by the clock are left out if "
    f"the two sharing runs differ by more than {GOAL_FRACTION:.0%}; processor time changes little then.",
    "Spent: of every stage that some trial computed; two may compute one stage at the same time. Makespan: from the "
    "start of the first stage to the end of the last; bound: the stages that all trials share, then all others on all "
    "slots without a pause; or the longest chain of stages if that is longer. Of both runs the worse.",
)


if __name__ == "__main__":
    sys.exit(main())
