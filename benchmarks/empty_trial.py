"""Seconds per empty trial with our scheduler, compared with stock Ray Tune with its defaults and with reused actors.

    python benchmarks/empty_trial.py            # about four minutes
    python benchmarks/empty_trial.py --quick    # less than one

It compares the rates at which trials end, over the last two thirds of a run, when all slots are running. So no rate
includes the start or the end of Ray, of the scheduler and of the first processes.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

import statistics
from collections.abc import Mapping, Sequence

from benchmarks.record import Row, in_turns, parser_of, spread, table_of, verdict, write
from benchmarks.schedulers import OURS, Contender, Run, measure, run_ours, run_stock_defaults, run_stock_reused

TUNE = "stock Tune, reuse_actors=True"
GOAL_OF_TUNES = 1.1  # ours / stock Tune with reused actors


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the table."""
    parser = parser_of(__doc__, "empty_trial", quick="one run of fewer trials each")
    parser.add_argument("--slots", type=int, default=2, help="trials at once, of one core each (default: 2)")
    options = parser.parse_args(arguments)
    rounds = 1 if options.quick else 3
    trials = {contender.name: contender.quick_trials if options.quick else contender.trials for contender in CONTENDERS}
    runs: dict[str, list[Run]] = {contender.name: [] for contender in CONTENDERS}
    for contender in in_turns(CONTENDERS, rounds):
        runs[contender.name].append(measure(contender, trials[contender.name], options.slots))
        seconds = runs[contender.name][-1].per_trial_s
        print(f"{contender.name}: {seconds:.4f} s per trial", file=sys.stderr, flush=True)
    rows = [row(name, runs_of_one, options.slots, runs) for name, runs_of_one in runs.items()]
    write(table_of("An empty trial", rows, NOTES), options.out)
    return 0


def row(name: str, runs: list[Run], slots: int, all_runs: Mapping[str, list[Run]]) -> Row:
    """The row of a scheduler; ours has the verdict."""
    each = [run.per_trial_s for run in runs]
    ours, tune = (statistics.median(run.per_trial_s for run in all_runs[of]) for of in (OURS, TUNE))
    is_ours = name == OURS
    return {
        "scheduler": name,
        "slots": slots,
        "trials_per_run": len(runs[0].ends_s),
        "runs": len(runs),
        "s_per_trial": statistics.median(each),
        "s_per_trial_quartiles": spread(each),
        "times_ours": statistics.median(each) / ours,
        "s_outside": statistics.median(run.outside_s for run in runs),
        "goal": f"/ {TUNE} <= {GOAL_OF_TUNES}" if is_ours else None,
        "verdict": f"{ours / tune:.2f}: {verdict(ours / tune <= GOAL_OF_TUNES)}" if is_ours else None,
    }


CONTENDERS = (
    Contender(name=OURS, run=run_ours, trials=300, quick_trials=60),
    Contender(name=TUNE, run=run_stock_reused, trials=300, quick_trials=60),
    Contender(name="stock Tune, defaults", run=run_stock_defaults, trials=24, quick_trials=8),
)

NOTES = (
    "s_per_trial: mean seconds from the end of one trial to the end of the next, over the last two thirds of a run; "
    "medians over runs, in which the schedulers take turns. Each trial has one core, each run a process and a Ray of "
    "its own.",
    "s_outside: wall time before the first trial's end and after the last trial's, which is in no rate: starting "
    "and ending Ray, the scheduler and its first processes.",
    "ours: `sweeps.driver.driver.run_sweep`, site local, one rank per trial, one stage that does nothing; durable rows "
    "in `attempts` and `trials`, the display and the choice of the next trial are in the figure.",
    "stock: `tune.Tuner(...).fit()` with its default loggers and its files in a temporary folder, `verbose=0`. "
    "Defaults: a function; fewer trials, because it is slow. reuse_actors: a class with `reset_config` and without a "
    "checkpoint at the end.",
)


if __name__ == "__main__":
    sys.exit(main())
