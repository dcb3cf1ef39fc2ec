"""The outcome of each trial: counts, and makes the rows of the tables `attempts` and `trials`."""

import socket
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

from sweeps.driver.commits import EndedAttempt
from sweeps.driver.events import RowTaker
from sweeps.worker.messages import StageReport

Ending = Literal["finished", "rested", "failed", "died", "interrupted"]
TrialState = Literal["finished", "failed", "resting", "stopped"]
"""Of a trial that neither runs nor waits; a resting one is continued or stopped by the next decision of the search."""


class AttemptTaker(RowTaker, Protocol):
    """The part of sweeps.driver.commits.Commits that is used here."""

    def end(self, trial_id: str, ended: EndedAttempt) -> object:
        """Take the end of an attempt, whose rows come after those of its stages."""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How many trials of the sweep are in each state."""

    finished: int  # those of earlier launches included
    failed: int
    running: int
    waiting: int
    resting: int = 0
    stopped: int = 0

    @property
    def trials(self) -> int:
        """All trials of the sweep."""
        return self.finished + self.failed + self.running + self.waiting + self.resting + self.stopped


@dataclass(frozen=True, kw_only=True)
class _Attempt:
    number: int
    started_at: datetime
    nodes: tuple[str, ...] | None = None  # names of its ranks' machines, by rank


class Ledger:
    """The attempts of one launch; only the driver has one."""

    def __init__(
        self,
        rows: AttemptTaker,
        trial_ids: Collection[str],
        *,
        states: Mapping[str, TrialState],
        attempts_before: Mapping[str, int],
        code_digest: str,
        driver: str,
    ) -> None:
        """Start without running trials.

        Args:
            states: of the trials that this launch does not run, unless a later launch continues them.
            attempts_before: number of the last attempt of earlier launches, for trials that had one.
            driver: unique id of this launch's process.
        """
        self._rows = rows
        self._trial_ids = set(trial_ids)
        self._states = {trial_id: state for trial_id, state in states.items() if trial_id in self._trial_ids}
        self._in_state = Counter[str](self._states.values())  # counted once: displays ask at each report
        self._attempts = dict(attempts_before)  # number of the last attempt
        self._attempts_before = dict(attempts_before)
        self._not_its_fault: Counter[str] = Counter()  # attempts of this launch that ended without a fault of the trial
        self._first_start: dict[str, datetime] = {}
        self._running: dict[str, _Attempt] = {}
        self._code_digest = code_digest
        self._driver = driver
        self.stages_computed = 0  # in this launch

    def add(self, trial_ids: Iterable[str]) -> None:
        """Add trials to the sweep, or let resting and stopped ones wait again."""
        for trial_id in trial_ids:
            self._trial_ids.add(trial_id)
            self._set_state(trial_id, None)

    def resting_trials(self, trial_ids: Iterable[str]) -> list[str]:
        """Return those of these trials that rest."""
        return [trial_id for trial_id in trial_ids if self._states.get(trial_id) == "resting"]

    def stop(self, trial_ids: Collection[str]) -> None:
        """Note that resting trials are not continued."""
        now = datetime.now(UTC)
        if trial_ids:
            self._rows.add("trials", [self._end(trial_id, "stopped", None, now) for trial_id in trial_ids])
        for trial_id in trial_ids:
            self._set_state(trial_id, "stopped")

    def _set_state(self, trial_id: str, state: TrialState | None) -> None:
        """Note the state of a trial; None: it waits or runs."""
        before = self._states.pop(trial_id, None)
        if before is not None:
            self._in_state[before] -= 1
        if state is not None:
            self._states[trial_id] = state
            self._in_state[state] += 1

    def counts(self) -> Counts:
        """Return how many trials are in each state now."""
        running = len(self._running)
        return Counts(
            finished=self._in_state["finished"],
            failed=self._in_state["failed"],
            running=running,
            waiting=len(self._trial_ids) - len(self._states) - running,
            resting=self._in_state["resting"],
            stopped=self._in_state["stopped"],
        )

    def attempts_made(self, trial_id: str) -> int:
        """Return the attempts of this launch, with the running one; interrupted ones and rests do not count."""
        of_this_launch = self._attempts.get(trial_id, 0) - self._attempts_before.get(trial_id, 0)
        return of_this_launch - self._not_its_fault[trial_id]

    @property
    def running(self) -> list[str]:
        """Ids of the trials that run."""
        return list(self._running)

    def note_start(self, trial_id: str) -> None:
        """Note the start of a new attempt."""
        if trial_id in self._running or self._states.get(trial_id) == "finished":
            raise ValueError(f"trial {trial_id} cannot start: it runs or is finished")
        self._set_state(trial_id, None)
        now = datetime.now(UTC)
        attempt = _Attempt(number=self._attempts.get(trial_id, 0) + 1, started_at=now)
        self._attempts[trial_id] = attempt.number
        self._running[trial_id] = attempt
        self._first_start.setdefault(trial_id, now)
        self._rows.add("attempts", [self._attempt_row(trial_id, attempt, "running")])

    def note_nodes(self, trial_id: str, nodes: tuple[str, ...]) -> None:
        """Note on which machines the ranks of a running trial are."""
        self._running[trial_id] = replace(self._running[trial_id], nodes=nodes)
        self._rows.add("attempts", [self._attempt_row(trial_id, self._running[trial_id], "running")])

    def stage_done(self, trial_id: str, stage: StageReport) -> None:
        """Count a finished stage of a running trial."""
        if trial_id not in self._running:
            raise ValueError(f"trial {trial_id} does not run, yet it reached stage {stage.stage_key}")
        self.stages_computed += not stage.cached

    def note_end(
        self,
        trial_id: str,
        status: Ending,
        cause: str | None = None,
        log_tail: str | None = None,
        *,
        over: bool,
    ) -> None:
        """Note the end of the running attempt.

        Args:
            cause: why, unless it finished.
            log_tail: last lines of its log, if there are any.
            over: the trial is finished, rests, or has failed and is not tried again in this launch.
        """
        attempt = self._running.pop(trial_id)
        self._not_its_fault[trial_id] += status in ("interrupted", "rested")
        now = datetime.now(UTC)
        row = None
        if over and status == "rested":
            self._set_state(trial_id, "resting")
        elif over:
            state: TrialState = "finished" if status == "finished" else "failed"
            self._set_state(trial_id, state)
            error = None if status == "finished" else (cause or status)
            row = self._end(trial_id, state, error, now)
        ended = EndedAttempt(
            attempt=self._attempt_row(trial_id, attempt, status, cause, log_tail or None, now),
            trial=row,
            needs_all=status in ("finished", "rested"),
            is_last=status == "finished",
        )
        self._rows.end(trial_id, ended)

    def reopen(self, trial_id: str) -> None:
        """Let a trial that had ended wait again, because its rows cannot be made; the attempt does not count."""
        self._not_its_fault[trial_id] += self._states[trial_id] == "finished"
        self._set_state(trial_id, None)

    def _end(self, trial_id: str, state: TrialState, error: str | None, now: datetime) -> dict[str, Any]:
        """Return the row of a trial that has ended."""
        started_at = self._first_start.get(trial_id, now)  # of this launch
        return {
            "trial_id": trial_id,
            "status": state,
            "attempts": self._attempts[trial_id],
            "started_at": started_at,
            "ended_at": now,
            "seconds": (now - started_at).total_seconds(),
            "error": error,
            "code_digest": self._code_digest,
        }

    def close_abandoned(self, attempts: Sequence[Mapping[str, Any]]) -> None:
        """End attempts that earlier launches have left running; to be called by the holder of the run's lock.

        Args:
            attempts: their rows, with the time when they did something last.
        """
        cause = "the process that launched it ended without a message"
        rows = []
        for attempt in attempts:
            row = {name: value for name, value in attempt.items() if name != "written_at"}
            rows.append(row | {"status": "interrupted", "cause": cause})
        if rows:
            self._rows.add("attempts", rows)

    def _attempt_row(
        self,
        trial_id: str,
        attempt: _Attempt,
        status: str,
        cause: str | None = None,
        log_tail: str | None = None,
        ended_at: datetime | None = None,
    ) -> dict[str, Any]:
        return {
            "trial_id": trial_id,
            "attempt": attempt.number,
            "driver": self._driver,
            "status": status,
            "cause": cause,
            "log_tail": log_tail,
            "host": socket.gethostname(),
            "nodes": None if attempt.nodes is None else list(attempt.nodes),
            "started_at": attempt.started_at,
            "ended_at": ended_at,
            "code_digest": self._code_digest,
        }
