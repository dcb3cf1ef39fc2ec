"""A sweep whose ranks are not those of real trials: `run_sweep`, put together again from the driver's public parts."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

from results.store.writer import Writer
from sweeps.driver.display import Display
from sweeps.driver.driver import SweepOutcome, run_trials, sweep_state
from sweeps.driver.serial_site import SerialSite
from sweeps.driver.sweep_state import SweepState, TrialBackend
from sweeps.planning.plan import Plan
from sweeps.run.run_folder import RunFolder
from sweeps.run.trial_producer import TrialProducer

OpenPool = Callable[[], AbstractContextManager[Any]]


def sweep_with_ranks(
    rank: str,
    plan: Plan,
    run: RunFolder,
    cache: Path,
    *,
    display: Display,
    site: str = "serial",
    slots: int = 1,
    open_pool: OpenPool | None = None,
    stop_file: Path | None = None,
    max_disk_gb: float | None = None,
    producer: TrialProducer | None = None,
) -> SweepOutcome:
    """Run what is not finished on a site of this machine; `rank` is the class of the object in each rank.

    `open_pool` opens the Ray of the site "local"; None: a Ray of its own.
    """
    writer = Writer(run.tables)
    state = sweep_state(
        plan, run, cache, writer=writer, most_slots=slots, display=display, max_disk_gb=max_disk_gb, producer=producer
    )  # fmt: skip
    if site == "serial":
        open_backend: Callable[[], TrialBackend] = partial(SerialSite, rank, plan.resources)
    else:
        open_backend = partial(_on_ray, rank, state, open_pool)
    return run_trials(state, open_backend, stop_file)


def _on_ray(rank: str, state: SweepState, open_pool: OpenPool | None) -> TrialBackend:
    from sweeps.driver.local_pool import local_pool  # imports Ray
    from sweeps.driver.tune_site import TuneSite

    resources = state.launch.plan.resources
    open_pool = open_pool or partial(local_pool, resources, state.launch.slots)
    return TuneSite(rank, resources, state.launch.cache, open_pool)
