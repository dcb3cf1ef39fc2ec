"""The state of a running sweep: gives out trials, takes reports, keeps tables and display up to date."""

import shutil
import time
import uuid
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from sweeps.driver.display import Best, Display, RunningTrial, SweepProgress, time_text
from sweeps.driver.events import EventLog
from sweeps.driver.ledger import Ending, Ledger, TrialState
from sweeps.driver.quota import DiskGuard
from sweeps.driver.signals import StopSignals
from sweeps.planning.plan import Plan, PlannedTrial
from sweeps.run.run_folder import RunFolder, log_line
from sweeps.scheduling.order import Blocked, QueuedTrial, StageClaim, TrialQueue
from sweeps.scheduling.pace import Pace
from sweeps.search.records import Score, ScoreKey
from sweeps.worker.messages import PointReport, StageReport, TrialAssignment, TrialReport, TrialTask
from transtailor.files import write_file

MAX_ATTEMPTS = 3  # of a trial in one launch; only attempts whose processes died are repeated
PAUSE_NOTED_EVERY_S = 600.0  # while the disk stays full
WAIT_NOTED_AFTER_S, WAIT_NOTED_EVERY_S = 10.0, 60.0  # while nothing runs


@dataclass(frozen=True, kw_only=True)
class _Reached:
    """How far a running trial is."""

    node: str = ""  # "" before that is known
    stages: int = 0  # that are finished
    done_fraction: float = 0.0  # of the stage that runs
    words: str = "starting"


class TrialBackend(Protocol):
    """Where trials run."""

    def run(self, board: "SweepState", stop: StopSignals) -> None:
        """Take trials from the sweep state and report on them, until none waits.

        Raises:
            Interrupted: `stop` was asked for; no process that was started here is left.
        """


class MoreTrials(Protocol):
    """A sweep that chooses its trials while it runs."""

    def more(self, scores: Mapping[ScoreKey, Score], live: Collection[str]) -> tuple[PlannedTrial, ...]:
        """The trials to run next, durable as planned; none, and none live (waiting or running): the sweep is over."""

    def stopped_trials(self) -> Collection[str]:
        """The trials that are not continued."""


@dataclass(frozen=True, kw_only=True)
class Launch:
    """What this launch runs."""

    plan: Plan
    run: RunFolder
    cache: Path
    slots: int
    code_digest: str
    search: MoreTrials | None = None  # None: the plan has all trials


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """What earlier launches have left."""

    states: Mapping[str, TrialState]  # of the trials that are not to be run now
    finished_stages: Collection[str]  # keys
    best: Mapping[Best, Collection[str]]  # to the ids of the trials that it is the best of
    missing_bytes: int  # of the stages that are not in the cache
    scores: Mapping[ScoreKey, Score]  # of finished trials, and of all at their rungs


class SweepState:
    """The trials that wait and run; the same for all backends."""

    def __init__(
        self, launch: Launch, earlier: Earlier, ledger: Ledger, display: Display, events: EventLog, disk: DiskGuard
    ) -> None:
        self.launch, self.ledger = launch, ledger
        self.display, self.events = display, events
        self._plan = launch.plan
        self._trials = {trial.trial_id: trial for trial in self._plan.trials if trial.trial_id not in earlier.states}
        waiting = [self._queued_trial(trial) for trial in self._trials.values()]
        self._queue = TrialQueue(waiting, earlier.finished_stages, slots=launch.slots)
        self._search, self._scores = launch.search, dict(earlier.scores)
        self._work = {stage.key: stage.work for trial in self._trials.values() for stage in trial.stages}
        self._reached: dict[str, _Reached] = {}  # by running trial
        self._pace, self._work_done = Pace(), 0.0
        self._started_s: float | None = None
        self._best = {point.of: point for point in earlier.best}
        self._best_of = {point.of: set(trial_ids) for point, trial_ids in earlier.best.items()}
        self._disk, self._missing_bytes = disk, earlier.missing_bytes
        self._why_paused: str | None = None
        self._pause_noted_s = 0.0
        self._waits: str | None = None  # for what, while nothing runs
        self._wait_noted: str | None = None
        self._waits_since_s, self._wait_noted_s = 0.0, float("-inf")
        self._stopped_by: str | None = None

    @property
    def waiting(self) -> int:
        """How many trials wait; a search that may continue counts as one."""
        return self._queue.waiting or int(self._search is not None)

    @property
    def could_run(self) -> int:
        """How many trials run or could start now if there were a slot for each."""
        return len(self.ledger.running) + self._queue.could_start

    def pause_or_resume(self) -> bool:
        """Pause if the disk is nearly full, resume if it has room again; whether a trial may start now.

        A pause is noted when it begins and ends, and from time to time while it lasts.
        """
        left = self._queue.work_left
        left_fraction = left / (self._work_done + left) if left > 0 else 0.0
        why = self._disk.why_paused(int(self._missing_bytes * left_fraction))
        has_changed = (why is None) != (self._why_paused is None)
        if has_changed:
            self.events("resumed" if why is None else "paused", detail=why)
        if has_changed or (why is not None and time.monotonic() > self._pause_noted_s + PAUSE_NOTED_EVERY_S):
            self._pause_noted_s = time.monotonic()
            self.display.note("there is room again: resumed" if why is None else f"paused: {why}")
        self._why_paused = why
        return why is None

    def set_wait(self, what: str | None) -> None:
        """Take what no trial can run without, about once a second; None: a trial runs.

        A long wait is noted, and noted again when its cause changes, at most once a minute.
        """
        now_s = time.monotonic()
        if what is None:
            self._waits = self._wait_noted = None
            return
        if self._waits is None:
            self._waits_since_s = now_s
        self._waits = what
        is_long = now_s > self._waits_since_s + WAIT_NOTED_AFTER_S
        if what != self._wait_noted and is_long and now_s > self._wait_noted_s + WAIT_NOTED_EVERY_S:
            self._wait_noted, self._wait_noted_s = what, now_s
            self.events("waiting", detail=what)
            self.display.note(f"waiting for {what}")
        self._show()

    def set_stopping(self, who: str) -> None:
        """Note that a stop was asked for: no trial starts from now on. Called from any thread."""
        self._stopped_by = who
        self.display.note(f"stopping: asked by {who}")
        with suppress(OSError):  # a disk that refuses it: the sweep stops all the same
            self.events("stopping", detail=who)

    def next(self) -> TrialAssignment | Blocked | None:
        """The trial to start in a free slot; or what blocks all; None: no trial waits."""
        self.search_on()
        choice = self._queue.next()
        if choice is None and self._search is not None:
            return Blocked(self._queue.claimed)  # what is tried next depends on the trials that run
        if not isinstance(choice, QueuedTrial):
            return choice
        self._started_s = time.monotonic() if self._started_s is None else self._started_s
        trial_id = choice.trial_id
        self._reached[trial_id] = _Reached()
        attempts = MAX_ATTEMPTS - self.ledger.attempts_made(trial_id)
        self.ledger.note_start(trial_id)
        self._show()
        return TrialAssignment(task=self._task(self._trials[trial_id]), attempts=attempts)

    def search_on(self, *, if_idle: bool = False) -> None:
        """Take the next trials of a search, or note its end; `if_idle`: only while no trial waits or runs."""
        search = self._search
        if search is None or ((live := self._queue.live) and if_idle):
            return
        trials = search.more(self._scores_of_ended(live), live)
        left = self.ledger.resting_trials(search.stopped_trials()) if trials or not live else []
        for trial_id in left:  # before its row says so: a launch that is killed here removes the states again
            shutil.rmtree(self.launch.run.checkpoint(trial_id), ignore_errors=True)
        self.ledger.stop(left)
        if not trials:
            self._search = search if live else None
            return
        self._trials |= {trial.trial_id: trial for trial in trials}
        self._work |= {stage.key: stage.work for trial in trials for stage in trial.stages}
        new = {stage.key: stage for trial in trials for stage in trial.stages if stage.key not in self._queue.finished}
        self._missing_bytes += sum(stage.stored_bytes for stage in new.values())
        self.ledger.add(trial.trial_id for trial in trials)
        self._queue = self._queue.with_trials(map(self._queued_trial, trials))
        self.search_on()  # asynchronously there may be more

    def _scores_of_ended(self, live: Collection[str]) -> dict[ScoreKey, Score]:
        """The scores without those of live trials at the rungs to which they run now: these may change."""
        return {
            (key, rung): score
            for (key, rung), score in self._scores.items()
            if key not in live or rung != _rung_of(self._trials[key])
        }

    def report(self, trial_id: str, report: TrialReport) -> None:
        """Take a report on a running trial."""
        reached = self._reached[trial_id]
        if report.hosts:
            more = len(set(report.hosts)) - 1
            reached = replace(reached, node=report.hosts[0] + (f" and {more} more" if more else ""))
            self._reached[trial_id] = reached
        for stage in report.stages:
            self._stage(trial_id, stage)
        if report.kind == "progress":
            done_fraction = max(reached.done_fraction, report.done_fraction)
            self._reached[trial_id] = replace(reached, done_fraction=done_fraction, words=report.words)
        elif report.kind == "placed":
            self.ledger.note_nodes(trial_id, report.hosts)
        elif report.kind in ("died", "failed", "finished", "suspended"):
            counts = report.kind != "suspended"
            status: Ending = "interrupted" if report.kind == "suspended" else report.kind
            if status == "finished" and self._trials[trial_id].rung is not None:
                status, counts = "rested", False
            self._note_end(trial_id, status, report.cause, report.log_tail, over=report.over, counts=counts)
            if not report.over:
                self._reached[trial_id] = _Reached(node=reached.node)
                self.ledger.note_start(trial_id)
        self._show()

    def note_loss(self, trial_id: str, cause: str, log_tail: str | None = None, *, counts: bool = True) -> None:
        """Note that a running trial has lost its slot: it waits again, unless it was tried too often.

        Args:
            log_tail: last lines of its ranks, if there are any.
            counts: as one of the trial's attempts; not if a node was lost or drained, which is not the trial's fault.
        """
        over = counts and self.ledger.attempts_made(trial_id) >= MAX_ATTEMPTS
        self._note_end(trial_id, "died" if counts else "interrupted", cause, log_tail, over=over, counts=counts)
        if not over:
            self._queue.trial_ended(trial_id, finished=False)
        self._show()

    def add_finished_stages(self, keys: Collection[str]) -> None:
        """Note stages that are in the cache."""
        for key in keys:
            self._queue.stage_finished(key)

    def interrupt(self, cause: str) -> None:
        """Note that the running attempts were interrupted; the next launch resumes their trials."""
        for trial_id in self.ledger.running:
            self.ledger.note_end(trial_id, "interrupted", cause, over=False)

    def close(self) -> None:
        """Show the end."""
        self.display.close(self.progress)

    @property
    def progress(self) -> SweepProgress:
        """How far the sweep is now."""
        running, in_stages, elapsed_s = self.ledger.running, self._work_in_stages(), self._elapsed_s()
        done, left = self._work_done + in_stages, max(0.0, self._queue.work_left - in_stages)
        return SweepProgress(
            sweep=self._plan.name,
            counts=self.ledger.counts(),
            work_done=done,
            work_left=left,
            elapsed_s=elapsed_s,
            left_s=self._pace.left_s(elapsed_s, done, left),
            best=tuple(self._best.values()),
            running=tuple(self._running_trial(trial_id) for trial_id in running),
            state=self._state(),
        )

    def _state(self) -> str:
        if self._stopped_by is not None:
            return f"stopping: asked by {self._stopped_by}"
        if self._why_paused is not None:
            return f"paused: {self._why_paused}"
        if self._waits is None:
            return ""
        waited_s = time.monotonic() - self._waits_since_s
        return f"waiting for {self._waits}" + (f", for {time_text(waited_s)}" if waited_s >= 1.0 else "")

    def _stage(self, trial_id: str, stage: StageReport) -> None:
        key = stage.stage_key
        self._queue.stage_finished(self._key(trial_id, key))
        self.ledger.stage_done(trial_id, stage)
        before = self._reached[trial_id]
        self._reached[trial_id] = _Reached(node=before.node, stages=before.stages + 1, words="")
        if not stage.cached:
            self._work_done += self._work.get(key, 0.0)
        if stage.point is not None:
            self._point(self._trials[trial_id], stage.point)

    def _point(self, trial: PlannedTrial, point: PointReport) -> None:
        """Keep a measurement as the trial's last, and an operating point if it is the best of its arm."""
        self._scores[trial.trial_id, _rung_of(trial)] = Score(
            validation_score=point.validation_score, macs=point.macs, latency_ms=point.latency_ms
        )
        if point.point is None:
            return
        new = Best(
            arm=trial.arm, network=trial.settings.network, dataset=trial.settings.dataset,
            train_images=trial.train_images, seed=trial.settings.seed, trials=1, metric=point.metric,
            validation_score=point.validation_score, macs=point.macs, trial_id=trial.trial_id, point=point.point,
        )  # fmt: skip
        best = min(self._best.get(new.of, new), new, key=lambda one: one.rank)
        trial_ids = self._best_of.setdefault(new.of, set())
        trial_ids.add(trial.trial_id)
        self._best[new.of] = replace(best, trials=len(trial_ids))

    def _note_end(
        self, trial_id: str, status: Ending, cause: str | None, log_tail: str | None, *, over: bool, counts: bool = True
    ) -> None:
        self.ledger.note_end(trial_id, status, cause, log_tail, over=over, counts=counts)
        if over:
            self._queue.trial_ended(trial_id, finished=True)  # or failed: not to be run again in this launch
        if status not in ("finished", "rested"):
            self._scores.pop((trial_id, _rung_of(self._trials[trial_id])), None)
            self._log(trial_id, f"{status}: {cause}", log_tail)
            again = "" if over else "; it is tried again"
            self.display.note(f"trial {trial_id} ({self._trials[trial_id].arm}) {status}: {cause}{again}")

    def _log(self, trial_id: str, *texts: str | None) -> None:
        """Append to the log of a trial whose ranks have ended; what they printed last is in no other file."""
        line = log_line(datetime.now(UTC), "ERROR", "\n".join(text for text in texts if text))
        path = self.launch.run.log(trial_id)
        path.parent.mkdir(exist_ok=True)
        with path.open("a") as log:
            log.write(f"{line}\n")

    def _hold(self, trial_id: str) -> str:
        """Let only the ranks that get the trial now write its rows; returns what proves that they are these."""
        holder = uuid.uuid4().hex
        path = self.launch.run.holder(trial_id)
        path.parent.mkdir(exist_ok=True)
        write_file(path, holder)
        return holder

    def _elapsed_s(self) -> float:
        return 0.0 if self._started_s is None else time.monotonic() - self._started_s

    def _work_in_stages(self) -> float:
        """The work that is done of the stages that run now."""
        work = 0.0
        for trial_id in self.ledger.running:
            reached, stages = self._reached[trial_id], self._trials[trial_id].stages
            if reached.done_fraction and reached.stages < len(stages):  # else its rows are being written
                work += reached.done_fraction * self._work[stages[reached.stages].key]
        return work

    def _running_trial(self, trial_id: str) -> RunningTrial:
        trial, reached = self._trials[trial_id], self._reached[trial_id]
        number, stages = reached.stages, len(trial.stages)
        return RunningTrial(
            trial_id=trial_id,
            arm=trial.arm,
            network=trial.settings.network,
            dataset=trial.settings.dataset,
            seed=trial.settings.seed,
            node=reached.node,
            stage=f"{trial.stages[number].kind} {number + 1}/{stages}" if number < stages else "end",
            words=reached.words,
        )

    def _show(self) -> None:
        self._pace.note(self._elapsed_s(), self._work_done + self._work_in_stages())
        self.display.show(self.progress)

    def _queued_trial(self, trial: PlannedTrial) -> QueuedTrial:
        distinct = {stage.key: stage.work for stage in trial.stages}
        claims = (StageClaim(key=self._key(trial.trial_id, key), work=work) for key, work in distinct.items())
        return QueuedTrial(trial_id=trial.trial_id, claims=tuple(claims))

    def _key(self, trial_id: str, key: str) -> str:
        """The queue's key of a stage; a trial with a private cache shares no stage."""
        return f"{trial_id}/{key}" if self._plan.private_cache else key

    def _task(self, trial: PlannedTrial) -> TrialTask:
        return TrialTask(
            trial_id=trial.trial_id,
            settings=trial.settings,
            label=trial.label,
            arm=trial.arm,
            sweep=self._plan.name,
            run=self.launch.run.path,
            cache=self.launch.cache,
            private_cache=self._plan.private_cache,
            code_digest=self.launch.code_digest,
            device="cuda" if self._plan.resources.gpus_per_rank else "cpu",
            imports=tuple(self.launch.run.imports / module.file for module in self._plan.imports),
            holder=self._hold(trial.trial_id),
            rung=trial.rung,
        )


def _rung_of(trial: PlannedTrial) -> int | None:
    """The number of the rung to which a trial runs now; None: its end."""
    return None if trial.rung is None else trial.rung.number
