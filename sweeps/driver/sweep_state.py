"""The state of a running sweep: gives out trials, takes reports, keeps rows and display up to date."""

import shutil
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from sweeps.driver.commits import Commits, FinishedStage
from sweeps.driver.display import PAUSED, Display, RunningTrial, SweepProgress, time_text
from sweeps.driver.events import EventLog
from sweeps.driver.ledger import Ending, Ledger, TrialState
from sweeps.driver.quota import DiskGuard
from sweeps.driver.signals import StopSignals
from sweeps.planning.plan import Plan, PlannedTrial
from sweeps.run.run_folder import RunFolder, log_line
from sweeps.run.trial_producer import ScoreKey, TrialProducer
from sweeps.scheduling.pace import Pace
from sweeps.scheduling.trial_queue import Blocked, QueuedTrial, StageClaim, TrialQueue
from sweeps.worker.messages import StageReport, TrialReport, TrialTask
from transtailor.lines import hanging

MAX_ATTEMPTS = 3  # of a trial in one launch; one that has failed is not tried again
MOST_UNKNOWN_ENDS = 10  # of a trial in one launch; from the next one on they count as attempts
PAUSE_NOTED_EVERY_S = 600.0  # while the disk stays full
WAIT_NOTED_AFTER_S = 10.0  # while nothing runs
WAIT_NOTED_EVERY_S = 60.0


@dataclass(frozen=True, kw_only=True)
class _Reached:
    """How far a running trial is."""

    node: str = ""  # "" before that is known
    stages: int = 0  # that are finished
    done_fraction: float = 0.0  # of the stage that runs
    words: str = "starting"


class TrialBackend(Protocol):
    """Where trials run."""

    def run(self, sweep_state: "SweepState", stop: StopSignals) -> None:
        """Take trials from the sweep state and report on them, until none waits.

        Raises:
            Interrupted: `stop` was asked for; no process that was started here is left.
        """


@dataclass(frozen=True, kw_only=True)
class Launch:
    """What this launch runs."""

    plan: Plan
    run: RunFolder
    cache: Path
    slots: int
    run_id: str
    code_digest: str
    producer: TrialProducer | None = None  # None: the plan has all trials


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """What earlier launches have left."""

    states: Mapping[str, TrialState]  # of the trials that are not to be run now
    finished_stages: Collection[str]  # keys
    missing_bytes: int  # of the stages that are not in the cache
    scores: Mapping[ScoreKey, float]  # of finished trials, and of all at their rungs


class SweepState:
    """The trials that wait and run; the same for all backends.

    A backend calls `next` for each free slot, `report` for what happens to a trial, `note_loss` if its process has
    ended without a report or on a lost node, and `add_finished_stages` if other sweeps have computed what a trial
    waits for.
    """

    def __init__(
        self,
        launch: Launch,
        earlier: Earlier,
        ledger: Ledger,
        commits: Commits,
        display: Display,
        events: EventLog,
        disk: DiskGuard,
    ) -> None:
        self.launch = launch
        self.ledger = ledger
        self.commits = commits
        self.display = display
        self.events = events
        self._plan = launch.plan
        self._trials = {trial.trial_id: trial for trial in self._plan.trials if trial.trial_id not in earlier.states}
        queued = [self._queued_trial(trial) for trial in self._trials.values()]
        self._queue = TrialQueue(queued, earlier.finished_stages, slots=launch.slots)
        self._producer = launch.producer
        self._scores = dict(earlier.scores)
        self._work: dict[str, float] = {}  # planned, by stage key
        self._note_work(self._trials.values())
        self._reached: dict[str, _Reached] = {}  # by running trial
        self._pace = Pace()
        self._work_done = 0.0
        self._started_s: float | None = None
        self._disk = disk
        self._missing_bytes = earlier.missing_bytes
        self._unknown_ends = Counter[str]()  # by trial
        self._why_paused: str | None = None
        self._pause_noted_s = 0.0
        self._waits_for: str | None = None  # while nothing runs
        self._waits_since_s = 0.0
        self._wait_noted: str | None = None
        self._wait_noted_s = float("-inf")
        self._stopped_by: str | None = None

    @property
    def waiting(self) -> int:
        """How many trials wait; a producer that may add some counts as one."""
        return self._queue.waiting or int(self._producer is not None)

    @property
    def could_run(self) -> int:
        """How many trials run or could start now if there were a slot for each."""
        return len(self.ledger.running) + self._queue.could_start

    def pause_or_resume(self) -> bool:
        """Pause if the disk is nearly full or refuses rows, resume later; return whether a trial may start now.

        A pause is noted when it begins and ends, and from time to time while it lasts.

        Raises:
            Exception: that of `Commits.ended_by`, for which no room helps.
        """
        self._raise_what_ended()
        work_left = self._queue.work_left
        left_fraction = work_left / (self._work_done + work_left) if work_left > 0 else 0.0
        why = self.commits.why_failing or self._disk.why_paused(int(self._missing_bytes * left_fraction))
        has_changed = (why is None) != (self._why_paused is None)
        if has_changed:
            self.events("resumed" if why is None else "paused", detail=why)
        is_long = why is not None and time.monotonic() > self._pause_noted_s + PAUSE_NOTED_EVERY_S
        if why != self._why_paused:  # also while it lasts: whoever makes room sees what is left now
            self._why_paused = why
            self._show()
        if has_changed or is_long:
            self._pause_noted_s = time.monotonic()
            self.display.note("there is room again: resumed" if why is None else f"{PAUSED}{why}")
        return why is None

    def _raise_what_ended(self) -> None:
        if self.commits.ended_by is not None:
            raise self.commits.ended_by

    def set_wait(self, what: str | None) -> None:
        """Take what all trials wait for, about once a second; None: a trial runs.

        A long wait is noted, and noted again when its cause changes, at most once a minute.
        """
        now_s = time.monotonic()
        if what is None:
            self._waits_for = None
            self._wait_noted = None
            return
        if self._waits_for is None:
            self._waits_since_s = now_s
        self._waits_for = what
        is_long = now_s > self._waits_since_s + WAIT_NOTED_AFTER_S
        may_note = now_s > self._wait_noted_s + WAIT_NOTED_EVERY_S
        if what != self._wait_noted and is_long and may_note:
            self._wait_noted = what
            self._wait_noted_s = now_s
            self.events("waiting", detail=what)
            self.display.note(f"waiting for {what}")
        self._show()

    def set_stopping(self, who: str) -> None:
        """Note that a stop was asked for: no trial starts from now on. Called from any thread."""
        self._stopped_by = who
        self.display.note(f"stopping: asked by {who}")
        self.events("stopping", detail=who)
        with suppress(Exception):  # which `Commits` remembers
            self.commits.commit()  # attempts that have just begun: SLURM may kill this process in a second

    def next(self) -> TrialTask | Blocked | None:
        """Return the trial to start in a free slot; or what blocks all; None: no trial waits.

        Raises:
            Exception: that of `Commits.ended_by`.
        """
        self._raise_what_ended()
        self.take_lost()
        self.take_more()
        choice = self._queue.next()
        if choice is None and self._producer is not None:
            return Blocked(self._queue.claimed)  # what is added next depends on the trials that run
        if not isinstance(choice, QueuedTrial):
            return choice
        if self._started_s is None:
            self._started_s = time.monotonic()
        trial_id = choice.trial_id
        self._reached[trial_id] = _Reached()
        self.ledger.note_start(trial_id)
        self.commits.begin(self._trials[trial_id])
        self._show()
        return self._task(self._trials[trial_id])

    def take_more(self, *, if_idle: bool = False) -> None:
        """Take the trials that the producer adds, or note its end; `if_idle`: only while no trial waits or runs."""
        producer = self._producer
        if producer is None:
            return
        live = self._queue.live
        if if_idle and live:
            return
        if producer.decides(live):  # it reads rows
            self.commits.finish()
            if self.take_lost():
                return
        trials = producer.more(self._scores_of_ended(live), live)
        if trials or not live:
            self._stop_trials(self.ledger.resting_trials(producer.stopped_trials()))
        if trials:
            self._add_trials(trials)
            self.take_more()  # asynchronously there may be more
        elif not live:
            self._producer = None  # it is over

    def take_lost(self) -> bool:
        """Let trials wait again whose rows cannot be made; return whether there were any."""
        lost = self.commits.take_lost()
        for trial in lost:
            self.ledger.reopen(trial.trial_id)
            self._queue = self._queue.with_trials([self._queued_trial(self._trials[trial.trial_id])])
            self._scores.pop((trial.trial_id, _rung_of(self._trials[trial.trial_id])), None)
            self.display.note(f"trial {trial.trial_id} runs again: {trial.cause}")
        return bool(lost)

    def _stop_trials(self, resting: Collection[str]) -> None:
        """Remove the states of trials that rest and are not continued, and note that they are stopped."""
        for trial_id in resting:  # before its row says so: a launch that is killed here removes the states again
            shutil.rmtree(self.launch.run.checkpoint(trial_id), ignore_errors=True)
        self.ledger.stop(resting)

    def _add_trials(self, trials: Collection[PlannedTrial]) -> None:
        """Let added trials wait."""
        for trial in trials:
            self._trials[trial.trial_id] = trial
        self._note_work(trials)
        bytes_of_stages: dict[str, int] = {}  # of unfinished ones, each once
        for trial in trials:
            for stage in trial.stages:
                if stage.key not in self._queue.finished:
                    bytes_of_stages[stage.key] = stage.stored_bytes
        self._missing_bytes += sum(bytes_of_stages.values())
        self.ledger.add(trial.trial_id for trial in trials)
        self._queue = self._queue.with_trials([self._queued_trial(trial) for trial in trials])

    def _note_work(self, trials: Iterable[PlannedTrial]) -> None:
        for trial in trials:
            for stage in trial.stages:
                self._work[stage.key] = stage.work

    def _scores_of_ended(self, live: Collection[str]) -> dict[ScoreKey, float]:
        """Return the scores without those of live trials at the rungs to which they run now: these may change."""
        scores = {}
        for (trial_id, rung), score in self._scores.items():
            may_change = trial_id in live and rung == _rung_of(self._trials[trial_id])
            if not may_change:
                scores[trial_id, rung] = score
        return scores

    def report(self, trial_id: str, report: TrialReport) -> None:
        """Take a report on a running trial."""
        reached = self._reached[trial_id]
        if report.hosts:
            node = report.hosts[0]
            other_hosts = len(set(report.hosts)) - 1
            if other_hosts:
                node += f" and {other_hosts} more"
            reached = replace(reached, node=node)
            self._reached[trial_id] = reached
        for stage in report.stages:
            self._stage(trial_id, stage)
        if report.kind == "progress":
            done_fraction = max(reached.done_fraction, report.done_fraction)
            self._reached[trial_id] = replace(reached, done_fraction=done_fraction, words=report.words)
        elif report.kind == "placed":
            self.ledger.note_nodes(trial_id, report.hosts)
        elif report.kind == "finished":
            rests = self._trials[trial_id].rung is not None
            self._note_end(trial_id, "rested" if rests else "finished", over=True)
        elif report.kind == "failed":  # the same call would raise again
            self._note_end(trial_id, "failed", report.cause, report.log_tail, over=True)
        elif report.ends_attempt:
            self.note_loss(trial_id, report.cause or report.kind, report.log_tail, counts=report.kind == "died")
        self._show()

    def note_loss(self, trial_id: str, cause: str, log_tail: str | None = None, *, counts: bool | None = True) -> None:
        """Note that a running trial has lost its ranks: it waits again, unless it was tried too often.

        Args:
            log_tail: last lines of its ranks, if there are any.
            counts: as one of the trial's attempts; not if a node was lost or drained, or a rank was stopped from
                outside, which is not the trial's fault. None: that is not known; `MOST_UNKNOWN_ENDS` do not count.
        """
        if counts is None:
            self._unknown_ends[trial_id] += 1
            counts = self._unknown_ends[trial_id] > MOST_UNKNOWN_ENDS
        over = counts and self.ledger.attempts_made(trial_id) >= MAX_ATTEMPTS
        self._note_end(trial_id, "died" if counts else "interrupted", cause, log_tail, over=over)
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
        elapsed_s = self._elapsed_s()
        work_in_stages = self._work_in_stages()
        work_done = self._work_done + work_in_stages
        work_left = max(0.0, self._queue.work_left - work_in_stages)
        return SweepProgress(
            sweep=self._plan.name,
            counts=self.ledger.counts(),
            work_done=work_done,
            work_left=work_left,
            elapsed_s=elapsed_s,
            left_s=self._pace.left_s(elapsed_s, work_done, work_left),
            running=tuple(self._running_trial(trial_id) for trial_id in self.ledger.running),
            state=self._state(),
        )

    def _state(self) -> str:
        if self._stopped_by is not None:
            return f"stopping: asked by {self._stopped_by}"
        if self._why_paused is not None:
            return f"{PAUSED}{self._why_paused}"
        if self._waits_for is None:
            return ""
        text = f"waiting for {self._waits_for}"
        waited_s = time.monotonic() - self._waits_since_s
        return f"{text}, for {time_text(waited_s)}" if waited_s >= 1.0 else text

    def _stage(self, trial_id: str, stage: StageReport) -> None:
        """Take a stage that a running trial has finished."""
        self._queue.stage_finished(self._key(trial_id, stage.stage_key))
        self.ledger.stage_done(trial_id, stage)
        self.commits.stage(trial_id, FinishedStage(key=stage.stage_key, order=stage.order, point=stage.point))
        before = self._reached[trial_id]
        self._reached[trial_id] = _Reached(node=before.node, stages=before.stages + 1, words="")
        if not stage.cached:
            self._work_done += self._work.get(stage.stage_key, 0.0)
        if stage.validation_score is not None:  # the last measurement, also of a model that rests in a fine-tuning
            self._scores[trial_id, _rung_of(self._trials[trial_id])] = stage.validation_score

    def _note_end(
        self, trial_id: str, status: Ending, cause: str | None = None, log_tail: str | None = None, *, over: bool
    ) -> None:
        """Note the end of an attempt in the tables; if the trial is not run again, release its stages."""
        self.ledger.note_end(trial_id, status, cause, log_tail, over=over)
        if over:
            self._queue.trial_ended(trial_id, finished=True)  # or failed: not to be run again in this launch
        if status not in ("finished", "rested"):
            self._scores.pop((trial_id, _rung_of(self._trials[trial_id])), None)
            self._log(trial_id, f"{status}: {cause}", log_tail)
            again = "" if over else "; it is tried again"
            text = hanging(f"{cause}{again}", 6)
            self.display.note(f"trial {trial_id} ({self._trials[trial_id].arm}) {status}: {text}")

    def _log(self, trial_id: str, *texts: str | None) -> None:
        """Add to the log of a trial whose ranks have ended; what they printed last is in no other file."""
        line = log_line(datetime.now(UTC), "ERROR", "\n".join(text for text in texts if text))
        self.launch.run.begin_log(trial_id).write_text(f"{line}\n")

    def _elapsed_s(self) -> float:
        return 0.0 if self._started_s is None else time.monotonic() - self._started_s

    def _work_in_stages(self) -> float:
        """Return the work that is done of the stages that run now."""
        work = 0.0
        for trial_id in self.ledger.running:
            reached = self._reached[trial_id]
            stages = self._trials[trial_id].stages
            if reached.done_fraction and reached.stages < len(stages):  # else its rows are being written
                running_stage = stages[reached.stages]
                work += reached.done_fraction * self._work[running_stage.key]
        return work

    def _running_trial(self, trial_id: str) -> RunningTrial:
        """Return a running trial as displays show it."""
        trial = self._trials[trial_id]
        reached = self._reached[trial_id]
        stage_text = "end"
        if reached.stages < len(trial.stages):
            stage_text = f"{trial.stages[reached.stages].kind} {reached.stages + 1}/{len(trial.stages)}"
        return RunningTrial(
            trial_id=trial_id,
            arm=trial.arm,
            network=trial.settings.network,
            dataset=trial.settings.dataset,
            seed=trial.settings.seed,
            node=reached.node,
            stage=stage_text,
            words=reached.words,
        )

    def _show(self) -> None:
        self._pace.note(self._elapsed_s(), self._work_done + self._work_in_stages())
        self.display.show(self.progress)

    def _queued_trial(self, trial: PlannedTrial) -> QueuedTrial:
        work_of_stages = {stage.key: stage.work for stage in trial.stages}  # each stage once
        claims = [StageClaim(key=self._key(trial.trial_id, key), work=work) for key, work in work_of_stages.items()]
        return QueuedTrial(trial_id=trial.trial_id, claims=tuple(claims))

    def _key(self, trial_id: str, stage_key: str) -> str:
        """Return the queue's key of a stage; a trial with a private cache shares no stage."""
        return f"{trial_id}/{stage_key}" if self._plan.private_cache else stage_key

    def _task(self, trial: PlannedTrial) -> TrialTask:
        """Return what the ranks need to run a trial."""
        return TrialTask(
            trial_id=trial.trial_id,
            settings=trial.settings,
            run=self.launch.run.path,
            run_id=self.launch.run_id,
            cache=self.launch.cache,
            private_cache=self._plan.private_cache,
            device="cuda" if self._plan.resources.gpus_per_rank else "cpu",
            imports=tuple(self.launch.run.imports / module.copy for module in self._plan.imports),
            rung=trial.rung,
        )


def _rung_of(trial: PlannedTrial) -> int | None:
    """Return the number of the rung to which a trial runs now; None: its end."""
    return None if trial.rung is None else trial.rung.number
