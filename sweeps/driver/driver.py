"""Runs the trials of a plan that are not finished."""

import os
import socket
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from results.store.reader import Run, load, stopped_trial_ids
from results.store.writer import Writer
from sweeps.driver.commits import Commits, units_begun, units_written
from sweeps.driver.committing import commit_meanwhile
from sweeps.driver.display import Display
from sweeps.driver.events import EventLog
from sweeps.driver.ledger import Ledger, TrialState
from sweeps.driver.quota import DiskGuard
from sweeps.driver.signals import Interrupted, StopSignals
from sweeps.driver.sweep_state import Earlier, Launch, SweepState, TrialBackend
from sweeps.planning.cost import cost_of
from sweeps.planning.plan import Plan
from sweeps.planning.this_machine import most_at_once
from sweeps.run.run_folder import RunFolder, open_run
from sweeps.run.trial_producer import TrialProducer
from sweeps.search.run_search import read_scores
from sweeps.spec.resources import Resources
from tailor.execution.cache import Cache
from transtailor.files import make_folder

TRIAL_TARGET = "sweeps.worker.trial:TrialRank"
RESTED = """
SELECT trial_id, rung FROM rungs SEMI JOIN stages USING (trial_id, stage_key) SEMI JOIN attempts USING (trial_id)
"""
"""The trials that rest, without those of which a commit was cut off before the rows of their last stage and attempt."""


@dataclass(frozen=True, kw_only=True)
class SweepOutcome:
    """How a launch ended."""

    finished: int  # trials of the sweep that are finished, those of earlier launches included
    failed: int  # in this launch; tried again at the next
    interrupted: bool
    stages_computed: int  # in this launch


@dataclass(frozen=True)
class SweepSite:
    """Where trials run."""

    name: str  # "serial", "local", or "slurm" next to a Ray head in a job
    max_disk_gb: float | None = None  # most that the cache may hold, in units of 10^9 bytes; None: what the disk holds


def run_sweep(
    plan: Plan,
    run: RunFolder,
    cache: Path,
    site: SweepSite,
    *,
    writer: Writer,
    display: Display,
    stop_file: Path | None = None,
    producer: TrialProducer | None = None,
) -> SweepOutcome:
    """Run the trials that are not finished; to be called from the main thread, by the holder of the run's lock.

    Args:
        cache: folder of finished stages.
        writer: of the run's rows.
        display: where progress is shown.
        stop_file: stops the sweep like a signal as soon as it exists.
        producer: adds trials when those of the plan have ended; None: there are no more.

    Raises:
        ValueError: no such site.
        ClusterError: on the site "slurm", there is no head, or another controller has taken over.
        SiteError: a trial does not fit on the nodes of the SLURM site.
    """
    most_slots = most_slots_on(site.name, plan.resources)
    state = sweep_state(
        plan, run, cache, writer=writer, most_slots=most_slots, max_disk_gb=site.max_disk_gb, display=display,
        producer=producer,
    )  # fmt: skip
    if site.name != "slurm":  # there the pool writes this event, with its job
        state.events("controller_started", detail=f"on site {site.name}")
    if site.name != "serial":
        state.set_wait("Ray to start")  # 20 s, with its imports
    return run_trials(state, lambda: _backend(site.name, state), stop_file)


def most_slots_on(site_name: str, resources: Resources) -> int | None:
    """Return how many trials a site can run at once; None: as many as it gets workers for.

    Raises:
        ValueError: no such site.
    """
    if site_name == "serial":
        return 1
    if site_name == "local":
        return most_at_once(resources)
    if site_name == "slurm":
        return None
    raise ValueError(f"site {site_name!r} is not known; type serial, local or slurm")


def slots_for(plan: Plan, waiting: int, most_slots: int | None) -> int:
    """Return how many trials a launch runs at once: no more than there are to run.

    Args:
        waiting: how many trials wait.
        most_slots: how many the site can run at once; None: as many as wait.
    """
    slots = waiting if plan.grows is None else plan.most_live
    if most_slots is not None:
        slots = min(most_slots, slots)
    return max(1, slots)


def sweep_state(
    plan: Plan,
    run: RunFolder,
    cache: Path,
    *,
    writer: Writer,
    most_slots: int | None,
    display: Display,
    max_disk_gb: float | None = None,
    producer: TrialProducer | None = None,
) -> SweepState:
    """Return the state in which a launch begins: trials that are not finished, by tables and cache, wait.

    Attempts that a killed launch has left running are ended.

    Args:
        most_slots: at most so many trials run at once; None: as many as there are.
        max_disk_gb: see `SweepSite`; all others: see `run_sweep`.
    """
    driver_id = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    record = open_run(run)
    with load(run.path) as tables:
        states = _states_of(plan, tables)
        waiting = sum(trial.trial_id not in states for trial in plan.trials)
        slots = slots_for(plan, waiting, most_slots)
        launch = Launch(
            plan=plan,
            run=run,
            cache=cache,
            slots=slots,
            run_id=record.run_id,
            code_digest=record.code_digest,
            producer=producer,
        )
        events = EventLog(writer, driver_id, record.code_digest, display.note)
        commits = Commits(
            writer, plan, run, cache, run_id=record.run_id, code_digest=record.code_digest,
            written=units_written(tables), begun=units_begun(tables), events=events,
        )  # fmt: skip
        make_folder(cache)
        ledger = _open_ledger(launch, tables, states, commits, driver_id)
        earlier = _earlier(launch, tables, states)
    return SweepState(launch, earlier, ledger, commits, display, events, DiskGuard(cache, max_disk_gb))


def run_trials(
    state: SweepState, open_backend: Callable[[], TrialBackend], stop_file: Path | None = None
) -> SweepOutcome:
    """Run the trials that wait on the backend that `open_backend` returns; see `run_sweep`."""
    with commit_meanwhile(state.commits, state.launch.run.path, state.display.note):
        interrupted = not _run_to_the_end(open_backend, state, stop_file)
        state.events("stopped", detail="interrupted" if interrupted else None)
    counts = state.ledger.counts()
    return SweepOutcome(
        finished=counts.finished,
        failed=counts.failed,
        interrupted=interrupted,
        stages_computed=state.ledger.stages_computed,
    )


def _states_of(plan: Plan, tables: Run) -> dict[str, TrialState]:
    """Return the states of the trials that a launch does not run: they are finished, or at the rung of the plan."""
    rested = {(row["trial_id"], row["rung"]) for row in tables.rows(RESTED)}
    finished = {row["trial_id"] for row in tables.rows("SELECT trial_id FROM trials WHERE status = 'finished'")}
    stopped = stopped_trial_ids(tables)
    states: dict[str, TrialState] = {}
    for trial in plan.trials:
        if trial.trial_id in finished:
            states[trial.trial_id] = "finished"
        elif trial.rung is not None and (trial.trial_id, trial.rung.number) in rested:
            states[trial.trial_id] = "stopped" if trial.trial_id in stopped else "resting"
    return states


def _run_to_the_end(open_backend: Callable[[], TrialBackend], state: SweepState, stop_file: Path | None) -> bool:
    """Run the trials that wait; False if that was interrupted."""
    with StopSignals(stop_file, state.set_stopping) as stop:
        try:
            while state.waiting:
                with stop.interruptible():
                    backend = open_backend()
                backend.run(state, stop)
                state.commits.finish()
                state.take_lost()
        except Interrupted as signal_name:
            state.interrupt(f"the launch was stopped by {signal_name}")
            return False
        finally:
            state.close()
    return True


def _earlier(launch: Launch, tables: Run, states: Mapping[str, TrialState]) -> Earlier:
    """Return what earlier launches have finished, as tables and cache say."""
    plan = launch.plan
    cache = Cache(launch.cache)
    stage_keys = {stage.key for trial in plan.trials for stage in trial.stages}
    cached = {key for key in stage_keys if cache.has(key)}
    return Earlier(
        states=states,
        finished_stages=set() if plan.private_cache else cached,
        missing_bytes=cost_of(plan.trials, cached.__contains__).new_bytes,
        scores=read_scores(tables) if launch.producer else {},
    )


def _backend(site_name: str, state: SweepState) -> TrialBackend:
    """Return what runs trials on a site; Ray is imported only where it is used."""
    launch = state.launch
    resources = launch.plan.resources
    if site_name == "serial":
        from sweeps.driver.serial_site import SerialSite

        return SerialSite(TRIAL_TARGET, resources)
    # Read when Ray is imported. Our own tables and display report the deaths of ranks, once.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "A worker died or was killed")
    from sweeps.driver.tune_site import TuneSite

    if site_name == "local":
        from sweeps.driver.local_pool import local_pool

        return TuneSite(TRIAL_TARGET, resources, launch.cache, lambda: local_pool(resources, launch.slots))
    from sweeps.driver.slurm_pool import slurm_pool

    return TuneSite(
        TRIAL_TARGET,
        resources,
        launch.cache,
        lambda: slurm_pool(launch.run, resources, launch.code_digest, state.events),
    )


def _open_ledger(
    launch: Launch, tables: Run, states: Mapping[str, TrialState], commits: Commits, driver_id: str
) -> Ledger:
    """Open the ledger of this launch, and end the attempts that a killed launch has left running."""
    last_attempts = tables.rows("SELECT trial_id, max(attempt) AS attempt FROM attempts GROUP BY trial_id")
    ledger = Ledger(
        commits,
        [trial.trial_id for trial in launch.plan.trials],
        states=states,
        attempts_before={row["trial_id"]: row["attempt"] for row in last_attempts},
        code_digest=launch.code_digest,
        driver=driver_id,
    )
    abandoned = []
    for row in tables.rows("SELECT * FROM attempts WHERE status = 'running'"):
        ended_at = _last_sign(launch.run, row["trial_id"], row["started_at"])
        abandoned.append(row | {"ended_at": ended_at})
    ledger.close_abandoned(abandoned)
    return ledger


def _last_sign(run: RunFolder, trial_id: str, started_at: datetime) -> datetime:
    """Return when a trial wrote last (its log, a checkpoint), or its controller did: at least its start, at most now.

    The time since then is not the attempt's: it was killed soon after, and this launch may begin days later.
    """
    paths = [*run.trial(trial_id).rglob("*"), run.progress]  # a launch on SLURM, not by its controller, removes this
    written_s = [path.stat().st_mtime for path in paths if path.is_file()]
    last = datetime.fromtimestamp(max(written_s, default=0.0), UTC)
    return max(started_at, min(last, datetime.now(UTC)))
