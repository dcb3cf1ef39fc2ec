"""The time lost between trials, compared with other schedulers, and how soon ranks begin again, also after a death.

    python benchmarks/scheduling.py                  # six minutes
    python benchmarks/scheduling.py --trials 1000    # twenty: as many trials of one second as the goal has
    python benchmarks/scheduling.py --quick          # one and a half

The trials of one second only wait, so that schedulers are compared and not the processor time that they leave; each
notes when it began and ended. Parsl is measured if it is installed: `python -m pip install -e '.[bench]'`.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

import math
import multiprocessing
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor

from benchmarks.idle_rank import Moment, read_moments
from benchmarks.record import PACKAGES, Cell, Row, parser_of, spread, table_of, verdict, write
from benchmarks.schedulers import (
    LOOK_EVERY_S,
    OURS,
    Contender,
    Run,
    measure,
    run_ours,
    run_parsl,
    run_stock_defaults,
    run_stock_reused,
    run_submitit,
    sweep_silently,
)

TRIAL_S = 1.0
RANKS = 2
TRIALS, QUICK_TRIALS = 200, 20
WARM_TRIALS, QUICK_WARM_TRIALS = 100, 10
DEATHS, QUICK_DEATHS = 3, 2
GOAL_OF_TUNES, GOAL_BETWEEN_S, GOAL_REPLACED_S = 1.1, 0.1, 1.0
TUNE = "stock Tune, reuse_actors=True"
SPEC = """
name = "warm"
[resources]
ranks = {ranks}
[trial.optimisation]
head_epochs = 1
[axes]
seed = {seeds}
[[variants]]
method.name = "head_only"
"""
WAITING = f"between trials of {TRIAL_S:g} s"
BEGIN = "a trial's end to the next trial's begin"
FIRST_STEP = "a trial's end to the next trial's first step"
REPLACED = "a rank's death to the trial's begin on new ranks"
STEPS_AGAIN = "a rank's death to the trial's first step on new ranks"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the table."""
    parser = parser_of(__doc__, "scheduling", quick="fewer trials of all")
    parser.add_argument(
        "--trials", type=int, default=TRIALS, help="ours and stock Tune's of one second each (default: 200)"
    )
    parser.add_argument("--slots", type=int, default=2, help="of those at once, of one core each (default: 2)")
    options = parser.parse_args(arguments)
    if not 0 < options.slots < options.trials:
        parser.error(
            f"--trials {options.trials} --slots {options.slots}: give a slot or more, and more trials than slots"
        )
    rows: list[Row] = []
    for contender in contenders(options.trials):
        rows.append(
            waiting_row(contender, contender.quick_trials if options.quick else contender.trials, options.slots)
        )
        print(", ".join(str(cell) for cell in rows[-1].values()), file=sys.stderr, flush=True)
    rows = judge(rows)
    warm = moments_of("WarmRank", QUICK_WARM_TRIALS if options.quick else WARM_TRIALS)
    deaths = moments_of("DyingRank", QUICK_DEATHS if options.quick else DEATHS)
    rows += [*warm_rows(warm), *death_rows(deaths)]
    packages = [contender.package for contender in contenders(options.trials) if contender.is_installed]
    write(table_of("Between trials", rows, NOTES), options.out, tuple(dict.fromkeys([*PACKAGES, *packages])))
    return 0


def contenders(trials: int) -> tuple[Contender, ...]:
    """The compared schedulers; ours and the one of the goal get this many trials, the others fewer."""
    return (
        Contender(name=OURS, run=run_ours, trials=trials, quick_trials=QUICK_TRIALS),
        Contender(name=TUNE, run=run_stock_reused, trials=trials, quick_trials=QUICK_TRIALS),
        Contender(name="stock Tune, defaults", run=run_stock_defaults, trials=8, quick_trials=6),
        Contender(name="submitit, LocalExecutor", run=run_submitit, trials=10, quick_trials=6, package="submitit"),
        Contender(name="Parsl, HighThroughput", run=run_parsl, trials=20, quick_trials=8, package="parsl"),
    )


def waiting_row(contender: Contender, trials: int, slots: int) -> Row:
    """The row of a scheduler, which is measured now if it is installed."""
    if not contender.is_installed:
        return _row(WAITING, contender.name, slots, 1, (), verdict="not installed")
    run = measure(contender, trials, slots, TRIAL_S)
    overheads: dict[str, Cell] = {
        "overhead_fraction": overhead_fraction(run, run.span_s, slots),
        "overhead_with_start_fraction": overhead_fraction(run, run.wall_s, slots),
    }
    return _row(WAITING, contender.name, slots, 1, run.gaps_s(slots), **overheads)


def judge(rows: Sequence[Row]) -> list[Row]:
    """The same rows, ours with the verdict on its overhead beside that of stock Tune with as many trials."""
    overheads = {row["scheduler"]: row["overhead_fraction"] for row in rows}
    ratio = float(overheads[OURS] or 0) / float(overheads[TUNE] or 1)
    judged = {
        "goal": f"overhead / that of {TUNE} <= {GOAL_OF_TUNES}",
        "verdict": f"{ratio:.2f}: {verdict(ratio <= GOAL_OF_TUNES)}",
    }
    return [{**row, **judged} if row["scheduler"] == OURS else row for row in rows]


def overhead_fraction(run: Run, took_s: float, slots: int) -> float:
    """The time in addition to the trials' own, one after the other in each slot."""
    return took_s / (math.ceil(len(run.ends_s) / slots) * TRIAL_S) - 1


def moments_of(target: str, trials: int) -> list[Moment]:
    """The notes of this many real trials on RANKS ranks, one trial at a time, in a separate process."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(1, mp_context=context) as process:
        return process.submit(run_warm, target, trials, Path(folder)).result()


def run_warm(target: str, trials: int, folder: Path, site: str = "local") -> list[Moment]:
    """Runs real trials of one epoch in a folder; `target` is a class of benchmarks.warm_rank.

    Raises:
        RuntimeError: a trial did not finish.
    """
    from benchmarks.idle_sweep import new_run
    from sweeps.planning.plan import make_plan
    from sweeps.spec.spec import load_spec

    spec = folder / "warm.toml"
    spec.write_text(SPEC.format(ranks=RANKS, seeds=list(range(trials))))
    plan = make_plan(load_spec(spec))
    run = new_run(plan, folder / "runs")
    sweep_silently(plan, run, folder / "cache", site, 1, f"benchmarks.warm_rank:{target}")
    return read_moments(run.path)


def warm_rows(moments: Sequence[Moment]) -> Iterator[Row]:
    """The rows of the time between two trials on the same ranks."""
    yield _row(BEGIN, OURS, 1, RANKS, delays(moments, "end", "begin"))
    delays_s = delays(moments, "end", "first_step")
    is_met = statistics.median(delays_s) <= GOAL_BETWEEN_S
    yield _row(FIRST_STEP, OURS, 1, RANKS, delays_s, goal=f"median <= {GOAL_BETWEEN_S} s", verdict=verdict(is_met))


def death_rows(moments: Sequence[Moment]) -> Iterator[Row]:
    """The rows of the time between the death of a rank and the trial's next attempt."""
    yield _row(REPLACED, OURS, 1, RANKS, delays(moments, "death", "begin"))
    delays_s = delays(moments, "death", "first_step")
    is_met = max(delays_s) <= GOAL_REPLACED_S
    yield _row(STEPS_AGAIN, OURS, 1, RANKS, delays_s, goal=f"most <= {GOAL_REPLACED_S:g} s", verdict=verdict(is_met))


def delays(moments: Sequence[Moment], what: str, then: str) -> list[float]:
    """Seconds from each moment at which the one happened to the first later one at which the other did."""
    delays_s, since_s = [], None
    for moment_s, happened, _ in moments:
        if happened == what:
            since_s = moment_s
        elif happened == then and since_s is not None:
            delays_s.append(moment_s - since_s)
            since_s = None
    return delays_s


def _row(what: str, scheduler: str, slots: int, ranks: int, times_s: Sequence[float], **more: Cell) -> Row:
    """A row of the table: the times' median, quartiles and largest, and what else is given."""
    return {
        "what": what,
        "scheduler": scheduler,
        "slots": slots,
        "ranks": ranks,
        "times": len(times_s),
        "median_s": statistics.median(times_s) if times_s else None,
        "quartiles_s": spread(times_s) if times_s else None,
        "most_s": max(times_s, default=None),
        "overhead_fraction": more.get("overhead_fraction"),
        "overhead_with_start_fraction": more.get("overhead_with_start_fraction"),
        "goal": more.get("goal"),
        "verdict": more.get("verdict"),
    }


NOTES = (
    f"Between trials of {TRIAL_S:g} s: from the end of a trial to the begin of the one that gets its slot, as the "
    "trials note it. They wait (`sleep`) and take no processor time from their scheduler. Each scheduler has a process "
    "of its own and runs alone; all but ours and the second have fewer trials.",
    "overhead_fraction: how much longer the time from the first begin to the last end is than the trials "
    "alone would take; overhead_with_start_fraction: the same with the start and the end of the scheduler, which weigh "
    "the less the more trials there are.",
    "ours: `sweeps.driver.driver.run_sweep`, site local, one rank per trial, durable rows in `attempts` and `trials`. "
    "Stock Tune: its default loggers; a function, or a class with `reset_config`. submitit starts whatever it is "
    f"given, so it is given a trial when one has ended, which is looked at every {1e3 * LOOK_EVERY_S:g} ms. Parsl: all "
    "trials at once, one block of workers on this machine.",
    f"The last four rows are real trials (`head_only` on digits, one epoch) on {RANKS} ranks that train together (DDP, "
    "gloo), with all their rows and stages, one trial at a time. A trial ends when its rows are durable; it begins "
    "when rank 0 is called; its first step is when the optimiser is about to change weights, after the first batch.",
    "Death: the last rank of the running trial is killed (SIGKILL) before the trial's second step; all its ranks are "
    "replaced, and it begins again on them. The goal is of the largest.",
)


if __name__ == "__main__":
    sys.exit(main())
