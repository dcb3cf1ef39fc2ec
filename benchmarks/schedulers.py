"""The compared schedulers: each runs trials that only wait, a few at once, in a separate process."""

import contextlib
import importlib.util
import io
import multiprocessing
import os
import sysconfig
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.idle_rank import idle, read_moments
from benchmarks.record import show_to_ranks

if TYPE_CHECKING:
    from ray.tune import CheckpointConfig, TuneConfig

    from sweeps.planning.plan import Plan
    from sweeps.run.run_folder import RunFolder

OURS = "ours"
LOOK_EVERY_S = 0.005


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of idle trials; moments are in seconds of one clock."""

    begins_s: tuple[float, ...]  # of the trials, ascending
    ends_s: tuple[float, ...]  # ascending
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

    @property
    def span_s(self) -> float:
        """From the begin of the first trial to the end of the last."""
        return self.ends_s[-1] - self.begins_s[0]

    def gaps_s(self, slots: int) -> tuple[float, ...]:
        """How long each slot was empty between two trials: one value per trial, except the first in each slot.

        Raises:
            RuntimeError: more trials ran at once than there are slots.
        """
        freed = self.ends_s[: len(self.ends_s) - slots]
        gaps = tuple(begin - end for begin, end in zip(self.begins_s[slots:], freed, strict=True))
        if min(gaps, default=0.0) < 0:
            raise RuntimeError(f"more than {slots} trials ran at once")
        return gaps


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A scheduler, and how many trials it gets in a run."""

    name: str
    run: Callable[[int, int, float, Path], float]
    """(trials, slots, seconds each, empty folder) -> wall seconds; trials note their moments in the folder."""
    trials: int
    quick_trials: int
    package: str = "ray"
    """The package that it needs."""

    @property
    def is_installed(self) -> bool:
        """Whether it can run here."""
        return importlib.util.find_spec(self.package) is not None


def measure(contender: Contender, trials: int, slots: int, seconds: float = 0.0) -> Run:
    """A run in a separate process: no scheduler sees what another one left in memory or in the environment.

    Args:
        contender: what runs them.
        trials: how many.
        slots: how many at once.
        seconds: how long each trial waits.

    Raises:
        RuntimeError: not all trials ran once.
    """
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name, ProcessPoolExecutor(1, mp_context=context) as process:
        wall_s = process.submit(contender.run, trials, slots, seconds, Path(name)).result()
        moments = read_moments(Path(name))
    begins, ends = (tuple(at_s for at_s, what, _ in moments if what == which) for which in ("begin", "end"))
    if (len(begins), len(ends)) != (trials, trials):
        raise RuntimeError(f"{contender.name}: {len(begins)} trials began and {len(ends)} ended, expected {trials}")
    return Run(begins_s=begins, ends_s=ends, wall_s=wall_s)


def run_ours(trials: int, slots: int, seconds: float, folder: Path) -> float:
    """As `sweeps.driver.driver.run_sweep` on the site "local", with its tables; each trial is one stage."""
    from benchmarks.idle_sweep import make_run

    plan, run = make_run(trials, folder / "runs", folder, seconds)
    return sweep_silently(plan, run, folder / "cache", "local", slots, "benchmarks.idle_rank:IdleRank")


def sweep_silently(plan: "Plan", run: "RunFolder", cache: Path, site: str, slots: int, target: str) -> float:
    """Run a sweep to its end on ranks of a class of the benchmarks, and show nothing; seconds in all.

    Raises:
        RuntimeError: a trial did not finish.
    """
    from sweeps.driver.display import PlainDisplay
    from tests.sweeps.other_ranks import sweep_with_ranks

    show_to_ranks()
    start_s = time.perf_counter()
    display = PlainDisplay(io.StringIO())
    outcome = sweep_with_ranks(target, plan, run, cache, display=display, site=site, slots=slots)
    wall_s = time.perf_counter() - start_s
    if outcome.finished != len(plan.trials):
        raise RuntimeError(f"{outcome.finished} of {len(plan.trials)} trials finished: {outcome}")
    return wall_s


def run_stock_defaults(trials: int, slots: int, seconds: float, folder: Path) -> float:
    """`tune.Tuner` as its documentation shows it: a function, nothing set but the number of trials."""
    from ray import tune

    def wait(_config: dict[str, float]) -> None:
        idle(folder, seconds)
        tune.report({"score": 0.0})

    return _run_stock(wait, tune.TuneConfig(num_samples=trials), slots, folder)


def run_stock_reused(trials: int, slots: int, seconds: float, folder: Path) -> float:
    """`tune.Tuner` with a class whose processes are reused from trial to trial."""
    from ray import tune

    class Wait(tune.Trainable):
        def setup(self, config: dict[str, float]) -> None:
            """Accept the new settings, which need no set-up."""

        def step(self) -> dict[str, float | bool]:
            idle(folder, seconds)
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


def run_submitit(trials: int, slots: int, seconds: float, folder: Path) -> float:
    """`submitit.LocalExecutor`, a process per trial; it starts all jobs that it gets, so it gets `slots` at once."""
    import submitit

    show_to_ranks()
    start_s = time.perf_counter()
    executor = submitit.LocalExecutor(folder=folder / "jobs")
    running: list[submitit.Job[None]] = []
    for _ in range(trials):
        while len(running) == slots:
            running = _still_running(running)
        running.append(executor.submit(idle, folder, seconds))
    while running:
        running = _still_running(running)
    return time.perf_counter() - start_s


def _still_running(jobs: list[Any]) -> list[Any]:
    """Of submitit's jobs those that have not ended, after a moment; raises what one of the others raised."""
    time.sleep(LOOK_EVERY_S)
    ended = [job for job in jobs if job.done()]
    for job in ended:
        job.result()
    return [job for job in jobs if job not in ended]


def run_parsl(trials: int, slots: int, seconds: float, folder: Path) -> float:
    """Parsl's `HighThroughputExecutor` on this machine, all trials submitted at once."""
    import parsl
    from parsl.executors import HighThroughputExecutor
    from parsl.providers import LocalProvider

    show_to_ranks()
    # It looks for its own programs there; the path lacks an environment that is not activated.
    os.environ["PATH"] = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
    executor = HighThroughputExecutor(
        address="127.0.0.1",
        max_workers_per_node=slots,
        provider=LocalProvider(init_blocks=1, max_blocks=1),
    )
    start_s = time.perf_counter()
    with parsl.load(parsl.Config(executors=[executor], run_dir=str(folder / "parsl"))):
        wait = parsl.python_app(idle)
        for future in [wait(folder, seconds) for _ in range(trials)]:
            future.result()
    return time.perf_counter() - start_s
