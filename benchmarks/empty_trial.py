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

import contextlib
import io
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.idle_rank import idle, read_moments
from benchmarks.idle_sweep import run_ours
from benchmarks.record import Row, in_turns, parser_of, show_to_ranks, spread, table_of, verdict, write

if TYPE_CHECKING:
    from ray.tune import CheckpointConfig, TuneConfig

OURS, TUNE = "ours", "stock Tune, reuse_actors=True"
GOAL_OF_TUNES = 1.1  # ours / stock Tune with reused actors


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of empty trials."""

    ends_s: tuple[float, ...]  # of the trials, ascending, of one clock
    wall_s: float  # of all, the start and the end of the scheduler included

    @property
    def per_trial_s(self) -> float:
        """Mean seconds from one end to the next, over the last two thirds of the trials."""
        first = len(self.ends_s) // 3
        return (self.ends_s[-1] - self.ends_s[first]) / (len(self.ends_s) - 1 - first)

    @property
    def outside_s(self) -> float:
        """What the rate leaves out: the wall time before the first end and after the last."""
        return self.wall_s - (self.ends_s[-1] - self.ends_s[0])


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A scheduler, and how many trials it gets in a run."""

    name: str
    run: Callable[[int, int, Path], float]
    """(trials, slots, empty folder) -> wall seconds; trials note their moments in the folder."""
    trials: int
    quick_trials: int


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


def measure(contender: Contender, trials: int, slots: int) -> Run:
    """A run in a separate process: no scheduler sees what another one left in memory or in the environment.

    Raises:
        RuntimeError: not all trials ran once.
    """
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name, ProcessPoolExecutor(1, mp_context=context) as process:
        wall_s = process.submit(contender.run, trials, slots, Path(name)).result()
        moments = read_moments(Path(name))
    begun = sum(what == "begin" for _, what, _ in moments)
    ends_s = tuple(at_s for at_s, what, _ in moments if what == "end")
    if (begun, len(ends_s)) != (trials, trials):
        raise RuntimeError(f"{contender.name}: {begun} trials began and {len(ends_s)} ended, expected {trials}")
    return Run(ends_s=ends_s, wall_s=wall_s)


def run_stock_defaults(trials: int, slots: int, folder: Path) -> float:
    """`tune.Tuner` as its documentation shows it: a function, nothing set but the number of trials."""
    from ray import tune

    def wait(_config: dict[str, float]) -> None:
        idle(folder)
        tune.report({"score": 0.0})

    return _run_stock(wait, tune.TuneConfig(num_samples=trials), slots, folder)


def run_stock_reused(trials: int, slots: int, folder: Path) -> float:
    """`tune.Tuner` with a class whose processes are reused from trial to trial."""
    from ray import tune

    class Wait(tune.Trainable):
        def setup(self, config: dict[str, float]) -> None:
            """Accept the new settings, which need no set-up."""

        def step(self) -> dict[str, float | bool]:
            idle(folder)
            return {"score": 0.0, "done": True}

        def reset_config(self, new_config: dict[str, float]) -> bool:  # noqa: ARG002  # Tune's interface
            return True

    config = tune.TuneConfig(num_samples=trials, reuse_actors=True)
    return _run_stock(Wait, config, slots, folder, tune.CheckpointConfig(checkpoint_at_end=False))


def _run_stock(
    trainable: Any, config: "TuneConfig", slots: int, folder: Path, checkpoints: "CheckpointConfig | None" = None
) -> float:
    """Stock Tune on a Ray that is started like ours, writing to `folder`; its output is dropped."""
    from ray import tune

    from hpc.ray.local import local_ray

    show_to_ranks()
    start_s = time.perf_counter()
    with local_ray(slots), contextlib.redirect_stdout(io.StringIO()):
        run_config = tune.RunConfig(storage_path=str(folder / "tune"), verbose=0, checkpoint_config=checkpoints)
        results = tune.Tuner(trainable, tune_config=config, run_config=run_config).fit()
    wall_s = time.perf_counter() - start_s
    if results.num_errors:
        raise RuntimeError(f"{results.num_errors} of {config.num_samples} trials ended with an error")
    return wall_s


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
    "ours: `sweeps.driver.driver.run_sweep`, site local, one rank per trial, one stage that does nothing. Its durable "
    "file, rows in `stages`, `attempts` and `trials`, the display and the choice of the next trial are in the figure.",
    "stock: `tune.Tuner(...).fit()` with its default loggers and its files in a temporary folder, `verbose=0`. "
    "Defaults: a function; fewer trials, because it is slow. reuse_actors: a class with `reset_config` and without a "
    "checkpoint at the end.",
)


if __name__ == "__main__":
    sys.exit(main())
