"""Seconds per empty trial through our scheduler, beside stock Ray Tune with its defaults and with reused actors.

    python benchmarks/empty_trial.py            # about four minutes
    python benchmarks/empty_trial.py --quick    # less than one

What is compared is the rate at which trials end, over the last two thirds of a run: all slots are up by then. So
nobody's figure holds the start of Ray, of the scheduler and of the first processes, nor their end.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository, instead of the folder of this script

import argparse
import contextlib
import io
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.record import RESULTS, Measured, show_to_ranks, spread, write

if TYPE_CHECKING:
    from ray.tune import CheckpointConfig, TuneConfig

OURS = "ours"
COLUMNS = (
    "scheduler",
    "slots",
    "trials_per_run",
    "runs",
    "s_per_trial",
    "s_per_trial_quartiles",
    "times_ours",
    "s_outside",
)


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of empty trials."""

    ends_s: tuple[float, ...]  # when each trial ended, ascending, by any clock
    wall_s: float  # of all, the start and the end of Ray included

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
    run: Callable[[int, int, Path], Run]  # trials, slots, an empty folder
    trials: int
    quick_trials: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description="seconds per empty trial: our scheduler beside stock Ray Tune")
    parser.add_argument("--quick", action="store_true", help="one run of fewer trials each: for a look")
    parser.add_argument("--slots", type=int, default=2, help="trials at once, of one core each (default: 2)")
    parser.add_argument("--out", type=Path, default=RESULTS / "empty_trial", help="path of the table, without suffix")
    options = parser.parse_args(arguments)
    rounds = 1 if options.quick else 3
    trials = {one.name: one.quick_trials if options.quick else one.trials for one in CONTENDERS}
    runs: dict[str, list[Run]] = {one.name: [] for one in CONTENDERS}
    for number in range(rounds):
        for one in CONTENDERS if number % 2 == 0 else reversed(CONTENDERS):
            runs[one.name].append(_in_own_process(one, trials[one.name], options.slots))
            seconds = runs[one.name][-1].per_trial_s
            print(f"round {number + 1} of {rounds}: {one.name}: {seconds:.4f} s per trial", file=sys.stderr, flush=True)
    rows = tuple(_row(name, found, options.slots, runs[OURS]) for name, found in runs.items())
    write(Measured(title="An empty trial", columns=COLUMNS, rows=rows, notes=NOTES), options.out)
    return 0


def _row(name: str, runs: list[Run], slots: int, ours: list[Run]) -> tuple[str | int | float, ...]:
    each = [run.per_trial_s for run in runs]
    times = statistics.median(each) / statistics.median(run.per_trial_s for run in ours)
    outside = statistics.median(run.outside_s for run in runs)
    return name, slots, len(runs[0].ends_s), len(runs), statistics.median(each), spread(each), times, outside


def _in_own_process(one: Contender, trials: int, slots: int) -> Run:
    """A run in a process of its own: no scheduler finds what another one left in memory or in the environment."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(1, mp_context=context) as process:
        return process.submit(one.run, trials, slots, Path(folder)).result()


def run_ours(trials: int, slots: int, folder: Path) -> Run:
    """`sweeps.driver.run_sweep` on the site "local", with its tables; each trial is one stage that does nothing."""
    from benchmarks.empty_sweep import make_run
    from results.reader import load
    from sweeps.display import PlainDisplay
    from sweeps.driver import run_sweep

    show_to_ranks()
    plan, run = make_run(trials, folder / "runs")
    start_s = time.perf_counter()
    outcome = run_sweep(
        plan,
        run,
        folder / "cache",
        "local",
        slots=slots,
        display=PlainDisplay(io.StringIO()),
        target="benchmarks.empty_rank:EmptyRank",
    )
    wall_s = time.perf_counter() - start_s
    if outcome.finished != trials:
        raise RuntimeError(f"{outcome.finished} of {trials} empty trials finished: {outcome}")
    with load(run.path) as tables:
        ends = tables.rows("SELECT epoch_us(ended_at) / 1e6 AS end_s FROM trials ORDER BY ended_at")
    return Run(ends_s=tuple(row["end_s"] for row in ends), wall_s=wall_s)


def run_stock_defaults(trials: int, slots: int, folder: Path) -> Run:
    """`tune.Tuner` as its documentation shows it: a function, nothing set but the number of trials."""
    from ray import tune

    def nothing(_config: dict[str, float]) -> None:
        tune.report({"score": 0.0})

    return _run_stock(nothing, tune.TuneConfig(num_samples=trials), slots, folder)


def run_stock_reused(trials: int, slots: int, folder: Path) -> Run:
    """`tune.Tuner` with a class whose processes are reused from trial to trial."""
    from ray import tune

    class Nothing(tune.Trainable):
        def setup(self, config: dict[str, float]) -> None:
            """Nothing to set up."""

        def step(self) -> dict[str, float | bool]:
            return {"score": 0.0, "done": True}

        def reset_config(self, new_config: dict[str, float]) -> bool:  # noqa: ARG002  # Tune's interface
            return True

    config = tune.TuneConfig(num_samples=trials, reuse_actors=True)
    return _run_stock(Nothing, config, slots, folder, tune.CheckpointConfig(checkpoint_at_end=False))


def _run_stock(
    trainable: Any, config: "TuneConfig", slots: int, folder: Path, checkpoints: "CheckpointConfig | None" = None
) -> Run:
    """Stock Tune on a Ray that is started like ours, writing to `folder`; what it prints is thrown away."""
    from ray import tune

    from hpc.local_ray import local_ray

    ends: list[float] = []

    class Ends(tune.Callback):
        def on_trial_complete(self, *_arguments: object, **_more: object) -> None:
            ends.append(time.perf_counter())

    start_s = time.perf_counter()
    with local_ray(slots), contextlib.redirect_stdout(io.StringIO()):
        run_config = tune.RunConfig(
            storage_path=str(folder), callbacks=[Ends()], verbose=0, checkpoint_config=checkpoints
        )
        found = tune.Tuner(trainable, tune_config=config, run_config=run_config).fit()
    wall_s = time.perf_counter() - start_s
    if found.num_errors or not len(ends) == len(found) == config.num_samples:
        raise RuntimeError(f"{len(ends)} of {config.num_samples} empty trials ended, {found.num_errors} with an error")
    return Run(ends_s=tuple(ends), wall_s=wall_s)


CONTENDERS = (
    Contender(name=OURS, run=run_ours, trials=300, quick_trials=60),
    Contender(name="stock Tune, reuse_actors=True", run=run_stock_reused, trials=300, quick_trials=60),
    Contender(name="stock Tune, defaults", run=run_stock_defaults, trials=24, quick_trials=8),
)

NOTES = (
    "s_per_trial: mean seconds from the end of one trial to the end of the next, over the last two thirds of a run; "
    "medians over runs, in which the schedulers take turns. Each trial has one core, each run a process and a Ray of "
    "its own.",
    "s_outside: wall time before the first trial's end and after the last one's, which is in nobody's figure: starting "
    "and ending Ray, the scheduler and its first processes.",
    "ours: `sweeps.driver.run_sweep`, site local, one rank per trial, one stage that does nothing; durable rows in "
    "`attempts` and `trials`, the display and the choice of the next trial are in the figure.",
    "stock: `tune.Tuner(...).fit()` with its default loggers and its files in a temporary folder, `verbose=0`. "
    "Defaults: a function; fewer trials, because it is slow. reuse_actors: a class with `reset_config` and without a "
    "checkpoint at the end.",
)


if __name__ == "__main__":
    sys.exit(main())
