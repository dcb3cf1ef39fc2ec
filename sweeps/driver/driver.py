"""Runs the trials of a plan that are not finished, and says what came of it."""

import os
import socket
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from results.store.reader import Run, finished_trial_ids, last_written_us, load
from results.store.writer import Writer
from sweeps.driver.board import SweepState, TrialBackend
from sweeps.driver.display import Best, Display, display_for_terminal
from sweeps.driver.events import EventLog
from sweeps.driver.ledger import Ledger
from sweeps.driver.quota import DiskGuard
from sweeps.driver.signals import Interrupted, StopSignals
from sweeps.planning.plan import Plan, cost_of, usable_cores
from sweeps.run.run_folder import RunFolder, open_run
from tailor.execution.cache import Cache

TRIAL_TARGET = "sweeps.worker.trial:TrialRank"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BEST_BEFORE = """
SELECT network, dataset, label, metric, max(validation_score) AS validation_score,
    arg_max(macs, validation_score) AS macs, arg_max(seed, validation_score) AS seed, list(DISTINCT seed) AS seeds
FROM operating_points WHERE NOT isnan(validation_score) GROUP BY network, dataset, label, metric
"""
MAX_ATTEMPTS = 3  # of a trial in one launch; only attempts whose processes died are repeated


@dataclass(frozen=True, kw_only=True)
class SweepOutcome:
    """How a launch ended."""

    finished: int  # trials of the sweep that are finished, those of earlier launches included
    failed: int  # in this launch; tried again at the next
    interrupted: bool
    stages_computed: int  # in this launch


@dataclass(frozen=True, kw_only=True)
class _Launch:
    """This process as the rows name it."""

    driver: str  # unique
    code_digest: str
    events: EventLog

    @classmethod
    def of(cls, run: RunFolder, display: Display) -> "_Launch":
        """Of this process, for one run."""
        driver = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        digest = open_run(run).code_digest
        return cls(driver=driver, code_digest=digest, events=EventLog(Writer(run.tables), driver, digest, display.note))


def run_sweep(
    plan: Plan,
    run: RunFolder,
    cache: Path,
    site: str,
    *,
    slots: int | None = None,
    display: Display | None = None,
    target: str = TRIAL_TARGET,
    max_attempts: int = MAX_ATTEMPTS,
    stop_file: Path | None = None,
    max_disk_gb: float | None = None,
) -> SweepOutcome:
    """Runs what is not finished; to be called from the main thread, by the holder of the run's lock.

    Args:
        plan: of the sweep.
        run: its folder, made already.
        cache: folder of finished stages.
        site: "serial", "local", or "slurm" beside a Ray head in a job of its own.
        slots: trials at once on the site "local"; None: as many as this process's cores allow.
        display: where progress is shown; None: on this terminal.
        target: what lives in each rank's process, "module:Class".
        max_attempts: of a trial whose processes die.
        stop_file: once it is there, the sweep stops as if by a signal.
        max_disk_gb: the most that the cache may hold, in units of 10^9 bytes; None: as much as the disk has room for.

    Raises:
        ValueError: no such site.
        ClusterError: on the site "slurm", there is no head, or another controller has taken over.
        SiteError: a trial does not fit on the nodes of the SLURM site.
    """
    finished = finished_trial_ids(run.path)
    waiting = sum(trial.trial_id not in finished for trial in plan.trials)
    slots = _slots(site, plan, slots, waiting)
    display = display or display_for_terminal()
    launch = _Launch.of(run, display)
    cache.mkdir(parents=True, exist_ok=True)
    board = _open_board(plan, run, cache, finished, slots, max_attempts, display, launch, max_disk_gb)
    if site != "slurm":  # there the place says so, with its job
        launch.events("controller_started", detail=f"on site {site}")
    open_site = partial(_site, site, plan, run, slots, target, cache, launch)
    if site != "serial":
        board.waits_for("Ray to start")  # 20 s, with its imports
    interrupted = not _run_to_the_end(open_site, board, stop_file)
    launch.events("stopped", detail="interrupted" if interrupted else None)
    counts = board.ledger.counts()
    return SweepOutcome(
        finished=counts.finished,
        failed=counts.failed,
        interrupted=interrupted,
        stages_computed=board.ledger.stages_computed,
    )


def _run_to_the_end(open_site: Callable[[], TrialBackend], board: SweepState, stop_file: Path | None) -> bool:
    """Runs what waits; False if that was cut off."""
    with StopSignals(stop_file, board.stopping) as stop:
        try:
            if board.waiting:
                with stop.interruptible():
                    site = open_site()
                site.run(board, stop)
        except Interrupted as signal_name:
            board.interrupt(f"the launch was stopped by {signal_name}")
            return False
        finally:
            board.close()
    return True


def _open_board(
    plan: Plan,
    run: RunFolder,
    cache: Path,
    finished: set[str],
    slots: int,
    max_attempts: int,
    display: Display,
    launch: _Launch,
    max_disk_gb: float | None,
) -> SweepState:
    """The board at the start of this launch: what earlier ones finished is read from the tables and the cache."""
    with load(run.path) as tables:
        ledger = _open_ledger(plan, run, tables, finished, launch)
        best = _best_before(tables)
    is_there = Cache(cache).has
    there = {key for key in {stage.key for trial in plan.trials for stage in trial.stages} if is_there(key)}
    return SweepState(
        plan,
        run,
        cache,
        ledger=ledger,
        finished_trials=finished,
        finished_stages=set() if plan.private_cache else there,
        slots=slots,
        display=display,
        code_digest=launch.code_digest,
        max_attempts=max_attempts,
        best=best,
        events=launch.events,
        disk=DiskGuard(cache, max_disk_gb),
        new_bytes=cost_of(plan.trials, there.__contains__).new_bytes,
    )


def _site(name: str, plan: Plan, run: RunFolder, slots: int, target: str, cache: Path, launch: _Launch) -> TrialBackend:
    """The place by its name; Ray is imported only where it is used."""
    if name == "serial":
        from sweeps.driver.serial_site import SerialSite

        return SerialSite(target, plan.resources)
    if name not in ("local", "slurm"):
        raise ValueError(f"site {name!r} is not known; type serial, local or slurm")
    # Read when Ray is imported. The deaths of ranks are told by our own tables and display, once.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "A worker died or was killed")
    from sweeps.driver.tune_site import TuneSite

    if name == "local":
        from sweeps.driver.local_pool import local_pool

        return TuneSite(target, plan.resources, cache, partial(local_pool, plan.resources, slots))
    from sweeps.driver.slurm_pool import slurm_pool

    place = partial(slurm_pool, run, plan.resources, launch.code_digest, launch.events)
    return TuneSite(target, plan.resources, cache, place)


def _slots(site: str, plan: Plan, asked: int | None, waiting: int) -> int:
    """Trials at once: as asked, or as many as the cores of this machine allow; never more than there are trials."""
    if site == "serial":
        return 1
    if site == "slurm":
        return max(1, waiting)  # as many as there are workers for
    cores_per_trial = plan.resources.ranks * plan.resources.threads_per_rank
    most = usable_cores() // cores_per_trial if asked is None else asked
    return max(1, min(most, waiting))


def _open_ledger(plan: Plan, run: RunFolder, tables: Run, finished: set[str], launch: _Launch) -> Ledger:
    """The book of this launch; attempts that a killed launch left running are ended in it."""
    numbers = tables.rows("SELECT trial_id, max(attempt) AS attempt FROM attempts GROUP BY trial_id")
    last_us = last_written_us(tables)
    ledger = Ledger(
        Writer(run.tables, after=None if last_us is None else EPOCH + timedelta(microseconds=last_us)),
        [trial.trial_id for trial in plan.trials],
        finished=finished,
        attempts_before={row["trial_id"]: row["attempt"] for row in numbers},
        code_digest=launch.code_digest,
        driver=launch.driver,
    )
    ledger.close_abandoned(tables.rows("SELECT * FROM attempts WHERE status = 'running'"))
    return ledger


def _best_before(tables: Run) -> list[Best]:
    """The best operating point of each arm that earlier launches reached, by the validation split."""
    return [Best(**row | {"seeds": tuple(row["seeds"])}) for row in tables.rows(BEST_BEFORE)]
