"""Trials on a Ray, of this machine or of a cluster: Ray Tune runs them, the sweep state decides which one is next.

What Tune stores about trials is never read: the tables and the cache say what is finished.
"""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from hpc.ranks.ranks import START_LIMIT_S
from hpc.ray.limits import limits_hint
from sweeps.driver.signals import StopSignals
from sweeps.driver.sweep_state import SweepState
from sweeps.driver.tune_private import TUNE, give_up, kill_process, release, tune_settings
from sweeps.scheduling.trial_queue import Blocked
from sweeps.spec.resources import Resources
from sweeps.worker.messages import RankStart, SlotOrder, StagesSeen, StageWait, TrialReport, TrialTask
from sweeps.worker.slot import REPORT_EVERY_S
from sweeps.worker.tune_slot import TuneSlot, from_tune, to_tune

CHECK_EVERY_S = 1.0  # whether the pool is still there
SILENCE_S = 60.0  # of a trial's process beyond its limit for hangs, before it is ended
MOST_REPORTS_PER_S = 20.0  # of progress, from all slots: each costs Tune some milliseconds
WORKER_LOST = "a worker of the trial was lost"
PROCESS_ENDED = "the process of rank 0 ended: was it killed, or memory short?"
LOG_TAIL_CHARACTERS = 2_000
FIRST_HOLD_S = 0.5
LONGEST_HOLD_S = 10.0
ROUND_WAVES = 100  # of all slots, in one run of Tune: each costs more than the one before; at a run's end slots wait
ROUND_TRIALS_LEAST, ROUND_TRIALS_MOST = 1_000, 5_000  # of one run: Tune's memory, and its state on disk, grow with them


class RayPool(ABC):
    """The Ray that trials run on."""

    storage: Path
    """A folder for Tune's own files that all nodes see; removed with the pool."""
    most_slots: int
    """Trials at once, when all nodes have joined."""
    comes_and_goes: bool
    """True if nodes can join and leave. A trial then survives the loss of its node: it restarts in another process."""
    node_death_s: float = 0.0
    """How long after the end of a trial's process it is known whether its node had died."""

    @property
    @abstractmethod
    def slots(self) -> int:
        """How many trials can run at once now; asked several times a second."""

    def want(self, slots: int) -> None:  # noqa: B027  # nothing, where the number of slots is fixed
        """Take how many slots could be used now; called several times a second."""

    @abstractmethod
    def check(self) -> None:
        """Raise what has ended the pool, if anything has: Tune would wait for it. Called once a second."""

    def has_lost(self, nodes: tuple[str, ...]) -> bool | None:  # noqa: ARG002  # this machine lives as long as this process
        """Whether one of these nodes (Ray's ids) has died or is being drained.

        None: it is not known, as no nodes are given and all live.
        """
        return False

    def waits_for(self) -> str | None:
        """Return what is missing before a trial can run; None: nothing that is known."""
        return None

    @abstractmethod
    def last_errors(self) -> str:
        """Return the last lines of Ray's servers, or where these are; for a process that did not start."""


@dataclass(frozen=True, kw_only=True)
class _Death:
    """The end of a trial's process before it is known whether its node died."""

    trial_id: str
    cause: str
    log_tail: str | None
    nodes: tuple[str, ...]  # Ray's ids; none: the process had not reported them
    at_s: float


class TuneSite:
    """A backend of several slots; the ranks of each stay warm from trial to trial."""

    def __init__(
        self,
        target: str,
        resources: Resources,
        cache: Path,
        open_pool: Callable[[], AbstractContextManager[RayPool]],
    ) -> None:
        """Keep what `run` needs; nothing is started.

        Args:
            target: what lives in each rank, "module:Class".
            resources: what each trial needs.
            cache: folder of finished stages.
            open_pool: opens the pool that trials run on.
        """
        self._resources = resources
        self._cache = cache
        self._open_pool = open_pool
        self._start = RankStart(
            target=target,
            ranks=resources.ranks,
            threads_per_rank=resources.threads_per_rank,
            gpus_per_rank=resources.gpus_per_rank,
            hang_limit_s=resources.hang_limit_s,
        )

    def run(self, sweep_state: SweepState, stop: StopSignals) -> None:
        """Run all trials.

        Raises:
            Interrupted: `stop` was asked for.
            LibraryError: the installed Ray Tune lacks a private name that is used.
        """
        TUNE.check()
        deaths: list[_Death] = []
        with self._open_pool() as pool:
            stop.rearm()
            with tune_settings(pool.most_slots):
                while sweep_state.waiting or deaths:  # trials that are lost near the end of a round need another one
                    stop.check()
                    self._round(sweep_state, stop, pool, deaths)

    def _round(self, sweep_state: SweepState, stop: StopSignals, pool: RayPool, deaths: list[_Death]) -> None:
        """Run trials until none waits, or as many as one run of Tune may have."""
        rank_bundle = {"CPU": float(self._resources.threads_per_rank)}
        if self._resources.gpus_per_rank:
            rank_bundle["GPU"] = self._resources.gpus_per_rank
        bundles = [rank_bundle] * self._resources.ranks  # the trainable is rank 0
        searcher = _TuneSearcher(sweep_state, self._start, self._cache, pool, stop, deaths)
        tune.run(
            TuneSlot,
            resources_per_trial=tune.PlacementGroupFactory(bundles, strategy=self._resources.placement.upper()),
            search_alg=searcher,
            scheduler=_LiveFIFO(searcher),
            num_samples=-1,
            reuse_actors=True,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            storage_path=str(pool.storage),
            trial_dirname_creator=_directory_name,
            callbacks=[_PrintsNothing()],
            verbose=0,
            raise_on_failed_trial=False,
        )


class _TuneSearcher(Searcher):
    """Gives Tune one trial for each free slot.

    Where no trial may start yet, the slot gets an order to wait for a stage of another trial: without an order Tune
    would end the slot's process, and its warm ranks with it.
    """

    def __init__(
        self,
        sweep_state: SweepState,
        start: RankStart,
        cache: Path,
        pool: RayPool,
        stop: StopSignals,
        deaths: list[_Death],
    ) -> None:
        super().__init__()
        self._deaths = deaths  # whose trials count as running
        self._sweep_state = sweep_state
        self._start = start
        self._cache = cache
        self._pool = pool
        self._stop = stop
        self._checked_s = 0.0
        self._orders_given = 0
        self._orders_at_most = min(max(ROUND_TRIALS_LEAST, ROUND_WAVES * pool.most_slots), ROUND_TRIALS_MOST)
        self._hold_s = FIRST_HOLD_S  # how long the next slot without a trial waits
        # All by Tune's id of a trial.
        self._running: dict[str, str | None] = {}  # our id; None: the slot waits for a stage, or its process ends
        self._has_slot_since_s: dict[str, float] = {}  # until its process reports something
        self._heard_s: dict[str, float] = {}  # when it has reported last
        self._causes: dict[str, str] = {}  # why its process was ended
        self._last_words: dict[str, str] = {}  # Ray's, on the end of its process
        self._nodes: dict[str, tuple[str, ...]] = {}  # once it has reported them

    def suggest(self, trial_id: str) -> Any:
        """Return the configuration of a trial for Tune; None: not now; Searcher.FINISHED: no more in this round."""
        self.check()
        self._sweep_state.take_more(if_idle=True)  # without live trials nothing asks for a slot, where `next` decides
        if not (self._sweep_state.waiting or self._running or self._deaths):
            return Searcher.FINISHED
        could_run = self._sweep_state.could_run
        self._pool.want(could_run)
        if len(self._running) >= self._pool.slots:
            return None  # choose when a slot is free: then more is known
        if self._orders_given >= self._orders_at_most:
            return Searcher.FINISHED
        if self._sweep_state.waiting and not self._sweep_state.pause_or_resume():
            return None
        choice = self._sweep_state.next()
        if choice is None:
            return None if self._deaths else Searcher.FINISHED
        if isinstance(choice, Blocked) and self._pool.comes_and_goes and len(self._running) >= could_run:
            return None  # the slot's node may be released
        return to_tune(self._order(trial_id, choice))

    def _order(self, trial_id: str, choice: TrialTask | Blocked) -> SlotOrder:
        """Return the order for a slot, and note that it has one; where all trials are blocked, it waits for a while."""
        self._orders_given += 1
        self._has_slot_since_s[trial_id] = time.monotonic()
        work: TrialTask | StageWait
        if isinstance(choice, Blocked):
            work = StageWait(keys=tuple(sorted(choice.keys)), cache=self._cache, limit_s=self._hold_s)
            self._hold_s = min(2 * self._hold_s, LONGEST_HOLD_S)
            self._running[trial_id] = None
        else:
            work = choice
            self._hold_s = FIRST_HOLD_S
            self._running[trial_id] = choice.trial_id
        return SlotOrder(
            work=work,
            start=self._start,
            report_every_s=max(REPORT_EVERY_S, len(self._running) / MOST_REPORTS_PER_S),
        )

    def check(self) -> None:
        """Raise Interrupted when a stop was asked for, and see `RayPool.check`.

        Called at each turn of Tune's loop. With live trials Tune calls the scheduler, about ten times a second; without
        any it calls only the searcher, once a second for up to ten minutes.
        """
        self._stop.check()
        now_s = time.monotonic()
        if now_s - self._checked_s > CHECK_EVERY_S:
            self._checked_s = now_s
            self._pool.check()
            self._pass_on_deaths()
            self._pool.want(self._sweep_state.could_run)
            self._sweep_state.set_wait(None if self._running else self._pool.waits_for())

    def late_trials(self) -> list[str]:
        """Return Tune's ids of trials that have had a slot for too long without a report of their process."""
        too_long_ago_s = time.monotonic() - START_LIMIT_S
        return [trial_id for trial_id, since_s in self._has_slot_since_s.items() if since_s < too_long_ago_s]

    def take_silent(self) -> list[str]:
        """Return Tune's ids of trials whose process has said nothing for the limit of hangs and `SILENCE_S`, once."""
        limit_s = (self._start.hang_limit_s or math.inf) + SILENCE_S
        too_long_ago_s = time.monotonic() - limit_s
        silent = [trial_id for trial_id, heard_s in self._heard_s.items() if heard_s < too_long_ago_s]
        for trial_id in silent:
            del self._heard_s[trial_id]
            self._causes[trial_id] = f"nothing came of the process of rank 0 for {limit_s:g} s: was it stopped?"
        return silent

    def note_end_of_process(self, trial_id: str, words: str) -> None:
        """Note what Ray says of the end of a trial's process; `on_trial_complete` comes next."""
        self._last_words[trial_id] = words[-LOG_TAIL_CHARACTERS:]

    def take_back(self, pending: Sequence[str]) -> Sequence[str]:
        """Let trials wait again whose slots were lost before their processes have started; return Tune's ids of these.

        Args:
            pending: Tune's ids of the trials without a process, the first one first.
        """
        if not pending or len(self._running) <= self._pool.slots:
            return ()
        started = [self._nodes.get(trial_id, ()) for trial_id in self._running if trial_id not in pending]
        free_slots = self._pool.slots - sum(not self._pool.has_lost(nodes) for nodes in started)
        without_slot = pending[max(0, free_slots) :]
        for trial_id in without_slot:
            ours = self._running[trial_id]
            self._running[trial_id] = None
            if ours is not None:
                self._sweep_state.note_loss(ours, WORKER_LOST, counts=False)
        return without_slot

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Take the report of a step that is not the last one."""
        self._has_slot_since_s.pop(trial_id, None)
        self._heard_s[trial_id] = time.monotonic()
        ours = self._running[trial_id]
        if ours is None:  # the slot has no trial
            return
        report = from_tune(TrialReport, result)
        if report.kind == "placed":
            self._nodes[trial_id] = report.nodes
        if report.ends_attempt:
            self._running[trial_id] = None  # its process gives itself up next
        self._report(ours, report, self._nodes.get(trial_id, ()))

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        """Take the report of the last step, or the end of the slot's process."""
        ours = self._running.pop(trial_id)
        is_late = self._has_slot_since_s.pop(trial_id, math.inf) < time.monotonic() - START_LIMIT_S
        nodes = self._nodes.pop(trial_id, ())
        self._heard_s.pop(trial_id, None)
        cause = self._causes.pop(trial_id, PROCESS_ENDED + limits_hint())
        words = self._last_words.pop(trial_id, None)
        if ours is None:
            if result and not error:
                self._sweep_state.add_finished_stages(from_tune(StagesSeen, result).keys)
        elif is_late and not error and not result:
            cause = f"no process of the trial started within {START_LIMIT_S:g} s of a free slot"
            self._sweep_state.note_loss(ours, cause, self._pool.last_errors(), counts=True)
        elif error or not result:
            self._note_death(ours, cause, words, nodes)
        else:
            self._report(ours, from_tune(TrialReport, result), nodes)

    def _report(self, trial_id: str, report: TrialReport, nodes: tuple[str, ...]) -> None:
        """Pass a report on, but for a death, which may be that of a node."""
        if report.kind == "died":
            self._note_death(trial_id, report.cause or report.kind, report.log_tail, nodes)
        else:
            self._sweep_state.report(trial_id, report)

    def _note_death(self, trial_id: str, cause: str, log_tail: str | None, nodes: tuple[str, ...]) -> None:
        death = _Death(trial_id=trial_id, cause=cause, log_tail=log_tail, nodes=nodes, at_s=time.monotonic())
        self._deaths.append(death)
        self._pass_on_deaths()

    def _pass_on_deaths(self) -> None:
        """Pass on the deaths of lost nodes, and those that their nodes have outlived: these are the trials' fault."""
        undecided = []
        for death in self._deaths:
            has_lost = self._pool.has_lost(death.nodes)
            if has_lost or time.monotonic() - death.at_s >= self._pool.node_death_s:
                counts = None if has_lost is None else not has_lost
                cause = WORKER_LOST if has_lost else death.cause
                self._sweep_state.note_loss(death.trial_id, cause, death.log_tail, counts=counts)
            else:
                undecided.append(death)
        self._deaths[:] = undecided

    def save_to_dir(self, *_: str, **__: str) -> None:
        """Save nothing: Tune's state is never read."""

    save = restore = save_to_dir


class _LiveFIFO(FIFOScheduler):
    """First in, first out over the live trials only: at each step, Tune's own scheduler visits all trials ever made.

    Tune calls it about ten times a second while there are live trials: see `_TuneSearcher.check`.
    """

    def __init__(self, searcher: _TuneSearcher) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._searcher = searcher
        self._live: dict[str, Trial] = {}
        self._ended: list[Trial] = []  # since the last turn

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:  # noqa: ARG002  # Tune's interface
        """Add a trial."""
        self._live[trial.trial_id] = trial

    def on_trial_complete(self, tune_controller: Any, trial: Trial, *_: Any) -> None:  # noqa: ARG002
        """Remove a trial that has ended, however that was."""
        self._live.pop(trial.trial_id, None)
        self._ended.append(trial)

    on_trial_remove = on_trial_complete

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Remove a trial whose process has ended, and pass on what Ray says of that."""
        self._searcher.note_end_of_process(trial.trial_id, Path(trial.error_file).read_text())
        self.on_trial_complete(tune_controller, trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Return the first that waits for its process; raise Interrupted on a stop, and see `RayPool.check`."""
        self._searcher.check()
        pending = [trial_id for trial_id, trial in self._live.items() if trial.status == Trial.PENDING]
        late = set(self._searcher.late_trials()).intersection(pending)  # of others, the ranks have a limit of their own
        for trial_id in late.union(self._searcher.take_back(pending)):
            give_up(tune_controller, self._live[trial_id])
        for trial_id in self._searcher.take_silent():
            kill_process(self._live[trial_id])
        while self._ended:
            release(tune_controller, self._ended.pop())
        for trial in self._live.values():
            if trial.status in (Trial.PENDING, Trial.PAUSED):
                return trial
        return None


class _PrintsNothing(TrialProgressCallback):
    """Replaces Tune's own callback, which prints nothing either (`verbose=0`) but remembers every trial."""

    def on_trial_result(self, *_: Any, **__: Any) -> None:
        """Print nothing."""

    on_trial_error = on_trial_complete = on_trial_result


def _directory_name(trial: Trial) -> str:
    return str(trial.trial_id)
