"""Runs the trials of a plan that are not finished, and says what came of it."""

import os
import socket
import uuid
from dataclasses import dataclass
from pathlib import Path

from results.reader import Run, finished_trial_ids, load
from results.writer import Writer
from sweeps.board import Board, Site
from sweeps.display import Best, Display, display_for_terminal
from sweeps.ledger import Ledger
from sweeps.plan import Plan, usable_cores
from sweeps.run_folder import RunFolder, open_run
from sweeps.stop import Interrupted, StopSignals
from tailor.cache import Cache

TRIAL_TARGET = "sweeps.trial:TrialRank"
MAX_ATTEMPTS = 3  # of a trial in one launch; only attempts whose processes died are repeated


@dataclass(frozen=True, kw_only=True)
class SweepOutcome:
    """How a launch ended."""

    finished: int  # trials of the sweep that are finished, those of earlier launches included
    failed: int  # in this launch; tried again at the next
    interrupted: bool
    stages_computed: int  # in this launch


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
) -> SweepOutcome:
    """Runs what is not finished; to be called from the main thread, by the holder of the run's lock.

    Args:
        plan: of the sweep.
        run: its folder, made already.
        cache: folder of finished stages.
        site: "serial" or "local".
        slots: trials at once on the site "local"; None: as many as this process's cores allow.
        display: where progress is shown; None: on this terminal.
        target: what lives in each rank's process, "module:Class".
        max_attempts: of a trial whose processes die.

    Raises:
        ValueError: no such site.
    """
    finished = finished_trial_ids(run.path)
    waiting = sum(trial.trial_id not in finished for trial in plan.trials)
    slots = 1 if site == "serial" else _slots(plan, slots, waiting)
    place = _site(site, plan, slots, target, cache)
    board = _open_board(plan, run, cache, finished, slots, max_attempts, display or display_for_terminal())
    interrupted = False
    with StopSignals() as stop:
        try:
            if waiting:
                place.run(board, stop)
        except Interrupted as signal_name:
            board.interrupt(f"the launch was stopped by {signal_name}")
            interrupted = True
        finally:
            board.close()
    counts = board.ledger.counts()
    return SweepOutcome(
        finished=counts.finished,
        failed=counts.failed,
        interrupted=interrupted,
        stages_computed=board.ledger.stages_computed,
    )


def _open_board(
    plan: Plan, run: RunFolder, cache: Path, finished: set[str], slots: int, max_attempts: int, display: Display
) -> Board:
    """The board at the start of this launch: what earlier ones finished is read from the tables and the cache."""
    code_digest = open_run(run).code_digest
    with load(run.path) as tables:
        ledger = _open_ledger(plan, run, tables, finished, code_digest)
        best = _best_before(tables)
    keys = set() if plan.private_cache else {stage.key for trial in plan.trials for stage in trial.stages}
    is_there = Cache(cache).has
    return Board(
        plan,
        run,
        cache,
        ledger=ledger,
        finished_trials=finished,
        finished_stages={key for key in keys if is_there(key)},
        slots=slots,
        display=display,
        code_digest=code_digest,
        max_attempts=max_attempts,
        best=best,
    )


def _site(name: str, plan: Plan, slots: int, target: str, cache: Path) -> Site:
    """The place by its name; Ray is imported only where it is used."""
    if name == "serial":
        from sweeps.serial_site import SerialSite

        return SerialSite(target, plan.resources)
    if name == "local":
        # Read when Ray is imported. The deaths of ranks are told by our own tables and display, once.
        os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "A worker died or was killed")
        from sweeps.tune_site import TuneSite

        return TuneSite(target, plan.resources, slots, cache)
    raise ValueError(f"site {name!r} is not known; type serial or local")


def _slots(plan: Plan, asked: int | None, waiting: int) -> int:
    """Trials at once: as asked, or as many as the cores allow; never more than there are trials."""
    cores_per_trial = plan.resources.ranks * plan.resources.threads_per_rank
    most = usable_cores() // cores_per_trial if asked is None else asked
    return max(1, min(most, waiting))


def _open_ledger(plan: Plan, run: RunFolder, tables: Run, finished: set[str], code_digest: str) -> Ledger:
    """The book of this launch; attempts that a killed launch left running are ended in it."""
    numbers = tables.rows("SELECT trial_id, max(attempt) AS attempt FROM attempts GROUP BY trial_id")
    ledger = Ledger(
        Writer(run.tables),
        [trial.trial_id for trial in plan.trials],
        finished=finished,
        attempts_before={row["trial_id"]: row["attempt"] for row in numbers},
        code_digest=code_digest,
        driver=f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}",
    )
    ledger.close_abandoned(tables.rows("SELECT * FROM attempts WHERE status = 'running'"))
    return ledger


def _best_before(tables: Run) -> list[Best]:
    """The best operating point of each arm that earlier launches reached, by the validation split."""
    rows = tables.rows(
        "SELECT label, metric, max(validation_score) AS validation_score, arg_max(macs, validation_score) AS macs "
        "FROM operating_points GROUP BY label, metric ORDER BY label, metric"
    )
    return [Best(**row) for row in rows]
