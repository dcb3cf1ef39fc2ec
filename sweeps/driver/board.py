"""The state of a running sweep: hands out trials, takes reports, keeps tables and display up to date."""

import time
import uuid
from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from sweeps.driver.display import Best, Display, RunningTrial, SweepProgress, time_text
from sweeps.driver.events import EventLog
from sweeps.driver.ledger import Ending, Ledger
from sweeps.driver.quota import DiskGuard
from sweeps.driver.signals import StopSignals
from sweeps.driver.slot import Report
from sweeps.planning.plan import Plan, PlannedTrial
from sweeps.run.run_folder import RunFolder, log_line
from sweeps.scheduling.order import Blocked, QueuedTrial, StageClaim, TrialQueue
from transtailor.files import write_file

PAUSE_SAID_EVERY_S = 600.0  # while the disk stays full
TELL_AFTER_S, TELL_EVERY_S = 10.0, 60.0  # of what is waited for while nothing runs
KNOWN_AFTER_S, KNOWN_FRACTION = 5.0, 0.02  # of time and work: before that, their pace says nothing
PACE_MOMENTS = 50  # remembered of the last two thirds of a sweep


@dataclass(frozen=True, kw_only=True)
class TrialAssignment:
    """A trial to run now."""

    task: dict[str, Any]  # what the ranks' `begin` gets
    attempts: int  # how many times it may still be tried

    @property
    def trial_id(self) -> str:
        """Of the trial."""
        return str(self.task["trial_id"])


@dataclass(frozen=True, kw_only=True)
class _Reached:
    """Where a running trial is."""

    node: str = ""  # "" where that is not known yet
    stages: int = 0  # that it has passed
    done_fraction: float = 0.0  # of the one that runs
    words: str = "starting"


class Pace:
    """How much work was done when, and what that says of the rest."""

    def __init__(self) -> None:
        self._at_s = [0.0]
        self._done = [0.0]

    def left_s(self, at_s: float, done: float, left: float) -> tuple[float, float | None] | None:
        """The least and the most seconds that the rest may take; None: too little is done to know.

        It may go on as it went since the first work, in the second half of the time, or in the last quarter; stages of
        other kinds and idle slots at the end make these differ, and the less is done, the less is known of them: at
        first the rest may go twice as fast or as slowly. The most is None if nothing was done in one of these times.

        Args:
            at_s: seconds since the start, now.
            done, left: work.
        """
        if done <= 0.0:  # processes start
            self._at_s, self._done = [at_s], [0.0]
        passed_s = at_s - self._at_s[0]
        if at_s - self._at_s[-1] >= passed_s / PACE_MOMENTS:
            self._at_s.append(at_s)
            self._done.append(done)
        if left <= 0.0 or passed_s < KNOWN_AFTER_S or done / (done + left) < KNOWN_FRACTION:
            return None
        since = [bisect_right(self._at_s, at_s - passed_s * fraction) - 1 for fraction in (1.0, 0.5, 0.25)]
        speeds = [(done - self._done[then]) / (at_s - self._at_s[then]) for then in since]
        known, slowest = done / (done + left), min(speeds)
        return left / max(speeds) * (1 + known) / 2, left / slowest * (2 - known) if slowest > 0.0 else None


class TrialBackend(Protocol):
    """Where trials run: takes jobs from the board and reports on them until none waits."""

    def run(self, board: "SweepState", stop: StopSignals) -> None:
        """Runs all trials.

        Raises:
            Interrupted: `stop` was asked for; nothing that was started here is left.
        """


class SweepState:
    """What a site talks to; the same for all sites."""

    def __init__(
        self,
        plan: Plan,
        run: RunFolder,
        cache: Path,
        *,
        ledger: Ledger,
        finished_trials: Collection[str],
        finished_stages: Collection[str],
        slots: int,
        display: Display,
        code_digest: str,
        max_attempts: int,
        best: Iterable[Best],
        events: EventLog,
        disk: DiskGuard,
        new_bytes: int,
    ) -> None:
        self._plan, self._run, self._cache = plan, run, cache
        self.ledger, self._display = ledger, display
        self._code_digest, self._max_attempts = code_digest, max_attempts
        self._trials = {trial.trial_id: trial for trial in plan.trials if trial.trial_id not in finished_trials}
        waiting = [self._as_waiting(trial) for trial in self._trials.values()]
        self._queue = TrialQueue(waiting, finished_stages, slots=slots)
        self._work = {stage.key: stage.work for trial in self._trials.values() for stage in trial.stages}
        self._reached: dict[str, _Reached] = {}  # by running trial
        self._pace = Pace()
        self._work_done = 0.0
        self._started_s: float | None = None
        self._best = {point.of: point for point in best}
        self._events, self._disk, self._new_bytes = events, disk, new_bytes
        self._why_paused: str | None = None
        self._say_again_s = 0.0
        self._waits: str | None = None  # for what, while nothing runs
        self._waits_told: str | None = None
        self._waits_since_s, self._told_s = 0.0, float("-inf")
        self._stopped_by: str | None = None

    @property
    def waiting(self) -> int:
        """How many trials wait."""
        return self._queue.waiting

    @property
    def could_run(self) -> int:
        """How many trials could run now, were there slots for all; those that run are among them."""
        return len(self.ledger.running) + self._queue.could_start

    @property
    def is_paused(self) -> bool:
        """Whether nothing more may be started now, because the disk is nearly full; said again while it lasts."""
        left = self._queue.work_left
        left_fraction = left / (self._work_done + left) if left > 0 else 0.0
        why = self._disk.why_paused(int(self._new_bytes * left_fraction))
        has_changed = (why is None) != (self._why_paused is None)
        if has_changed:
            self._events("resumed" if why is None else "paused", detail=why)
        if has_changed or (why is not None and time.monotonic() > self._say_again_s):
            self._say_again_s = time.monotonic() + PAUSE_SAID_EVERY_S
            self._display.note("there is room again: resumed" if why is None else f"paused: {why}")
        self._why_paused = why
        return why is not None

    def waits_for(self, what: str | None) -> None:
        """Takes what nothing can run without, asked about once a second; None: something runs.

        It is told once it is no short wait, and when it changes, at most once a minute.
        """
        now_s = time.monotonic()
        if what is None:
            self._waits = self._waits_told = None
            return
        if self._waits is None:
            self._waits_since_s = now_s
        self._waits = what
        if what != self._waits_told and now_s > max(self._waits_since_s + TELL_AFTER_S, self._told_s + TELL_EVERY_S):
            self._waits_told, self._told_s = what, now_s
            self._events("waiting", detail=what)
            self._display.note(f"waiting for {what}")
        self._show()

    def stopping(self, who: str) -> None:
        """A stop was asked for: nothing more begins. Called from any thread."""
        self._stopped_by = who
        self._events("stopping", detail=who)
        self._display.note(f"stopping: asked by {who}")

    def next(self, warm_ranks: int | None = None) -> TrialAssignment | Blocked | None:
        """The trial to start now on a place where `warm_ranks` ranks are warm; what to wait for; None: none waits."""
        choice = self._queue.next(warm_ranks)
        if not isinstance(choice, QueuedTrial):
            return choice
        self._started_s = time.monotonic() if self._started_s is None else self._started_s
        trial_id = choice.trial_id
        self._reached[trial_id] = _Reached()
        attempts = self._max_attempts - self.ledger.attempts_made(trial_id)
        self.ledger.started(trial_id)
        self._show()
        return TrialAssignment(
            task=self._task(self._trials[trial_id]) | {"holder": self._hold(trial_id)}, attempts=attempts
        )

    def report(self, trial_id: str, report: Report) -> None:
        """Takes a report on a running trial."""
        reached = self._reached[trial_id]
        if report.hosts:
            more = len(set(report.hosts)) - 1
            reached = replace(reached, node=report.hosts[0] + (f" and {more} more" if more else ""))
            self._reached[trial_id] = reached
        if report.stage is not None:
            self._stage(trial_id, report.stage)
        elif report.kind == "progress":
            done_fraction = max(reached.done_fraction, report.done_fraction)
            self._reached[trial_id] = replace(reached, done_fraction=done_fraction, words=report.words)
        elif report.kind == "placed":
            self.ledger.placed(trial_id, report.hosts)
        elif report.kind in ("died", "failed", "finished", "suspended"):
            counts = report.kind != "suspended"
            status: Ending = "interrupted" if report.kind == "suspended" else report.kind
            self._ended(trial_id, status, report.cause, report.log_tail, over=report.over, counts=counts)
            if not report.over:
                self._reached[trial_id] = _Reached(node=reached.node)
                self.ledger.started(trial_id)
        self._show()

    def lost(self, trial_id: str, cause: str, log_tail: str | None = None, *, counts: bool = True) -> None:
        """The place of a running trial is gone: the trial waits again, unless it was tried too often.

        Args:
            trial_id: of the trial.
            cause: what happened.
            log_tail: last lines of its ranks, where there are any.
            counts: as one of the trial's attempts; not where a node was lost or is to be left, which no trial can help.
        """
        over = counts and self.ledger.attempts_made(trial_id) >= self._max_attempts
        self._ended(trial_id, "died" if counts else "interrupted", cause, log_tail, over=over, counts=counts)
        if not over:
            self._queue.trial_ended(trial_id, finished=False)
        self._show()

    def stages_there(self, keys: Collection[str]) -> None:
        """Stages that were seen in the cache."""
        for key in keys:
            self._queue.stage_finished(key)

    def interrupt(self, cause: str) -> None:
        """Notes that the running attempts were cut off; their trials go on at the next launch."""
        for trial_id in self.ledger.running:
            self.ledger.ended(trial_id, "interrupted", cause, over=False)

    def close(self) -> None:
        """Shows the end."""
        self._display.close(self.progress())

    def progress(self) -> SweepProgress:
        """How the sweep stands now."""
        running = self.ledger.running
        in_stages = sum(self._work_in_stage(trial_id) for trial_id in running)
        done, left = self._work_done + in_stages, max(0.0, self._queue.work_left - in_stages)
        elapsed_s = 0.0 if self._started_s is None else time.monotonic() - self._started_s
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

    def _stage(self, trial_id: str, stage: dict[str, Any]) -> None:
        key = stage["stage_key"]
        self._queue.stage_finished(self._key(trial_id, key))
        self.ledger.stage_done(trial_id, stage)
        before = self._reached[trial_id]
        self._reached[trial_id] = _Reached(node=before.node, stages=before.stages + 1, words="")
        if not stage["cached"]:
            self._work_done += self._work.get(key, 0.0)
        if stage["point"] is not None:
            self._point(self._trials[trial_id], stage["point"])

    def _point(self, trial: PlannedTrial, point: Mapping[str, Any]) -> None:
        """Takes an operating point among the best of its arm."""
        seed = trial.config["seed"]
        new = Best(
            label=trial.label, network=trial.config["network"], dataset=trial.config["data"]["name"], seed=seed,
            seeds=(seed,), **{name: point[name] for name in ("metric", "validation_score", "macs")},
        )  # fmt: skip
        before = self._best.get(new.of, new)
        best = before if before.validation_score >= new.validation_score else new
        self._best[new.of] = replace(best, seeds=tuple({*before.seeds, seed}))

    def _ended(
        self,
        trial_id: str,
        status: Ending,
        cause: str | None,
        log_tail: str | None,
        *,
        over: bool,
        counts: bool = True,
    ) -> None:
        self.ledger.ended(trial_id, status, cause, log_tail, over=over, counts=counts)
        if over:
            self._queue.trial_ended(trial_id, finished=True)  # or failed: not to be run again in this launch
        if status != "finished":
            self._log(trial_id, f"{status}: {cause}", log_tail)
            again = "" if over else "; it is tried again"
            self._display.note(f"trial {trial_id} ({self._trials[trial_id].label}) {status}: {cause}{again}")

    def _log(self, trial_id: str, *texts: str | None) -> None:
        """Adds to the log of a trial whose ranks can no longer do so; what they printed last is in no other file."""
        line = log_line(datetime.now(UTC), "ERROR", "\n".join(text for text in texts if text))
        path = self._run.log(trial_id)
        path.parent.mkdir(exist_ok=True)
        with path.open("a") as log:
            log.write(f"{line}\n")

    def _hold(self, trial_id: str) -> str:
        """Makes whoever gets the trial now the only one who may write its rows; returns what proves it."""
        holder = uuid.uuid4().hex
        path = self._run.holder(trial_id)
        path.parent.mkdir(exist_ok=True)
        write_file(path, holder)
        return holder

    def _work_in_stage(self, trial_id: str) -> float:
        """What is done of the stage that a trial computes."""
        reached = self._reached[trial_id]
        if not reached.done_fraction:
            return 0.0
        return reached.done_fraction * self._work[self._trials[trial_id].stages[reached.stages].key]

    def _running_trial(self, trial_id: str) -> RunningTrial:
        trial, reached = self._trials[trial_id], self._reached[trial_id]
        number, stages = reached.stages, len(trial.stages)
        return RunningTrial(
            trial_id=trial_id,
            label=trial.label,
            network=trial.config["network"],
            dataset=trial.config["data"]["name"],
            seed=trial.config["seed"],
            node=reached.node,
            stage=f"{trial.stages[number].kind} {number + 1}/{stages}" if number < stages else "end",
            words=reached.words,
        )

    def _show(self) -> None:
        self._display.show(self.progress())

    def _as_waiting(self, trial: PlannedTrial) -> QueuedTrial:
        claims = {
            stage.key: StageClaim(key=self._key(trial.trial_id, stage.key), work=stage.work) for stage in trial.stages
        }
        return QueuedTrial(trial_id=trial.trial_id, ranks=self._plan.resources.ranks, claims=tuple(claims.values()))

    def _key(self, trial_id: str, key: str) -> str:
        """The key under which the queue knows a stage; with a cache of its own a trial shares no stage."""
        return f"{trial_id}/{key}" if self._plan.private_cache else key

    def _task(self, trial: PlannedTrial) -> dict[str, Any]:
        return {
            "trial_id": trial.trial_id,
            "config": trial.config,
            "label": trial.label,
            "sweep": self._plan.name,
            "run": str(self._run.path),
            "cache": str(self._cache),
            "private_cache": self._plan.private_cache,
            "code_digest": self._code_digest,
            "device": "cuda" if self._plan.resources.gpus_per_rank else "cpu",
            "imports": [str(self._run.imports / module.file) for module in self._plan.imports],
        }
