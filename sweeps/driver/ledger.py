"""The outcome of each trial: writes the tables `attempts` and `trials`, each row once, and counts."""

import socket
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

from sweeps.worker.messages import StageReport

Ending = Literal["finished", "failed", "died", "interrupted"]


class RowWriter(Protocol):
    """The part of results.store.writer.Writer that is used here."""

    def write(self, table: str, rows: Sequence[Mapping[str, Any]]) -> object:
        """Append rows, durable on return."""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How many trials of the sweep are in each state."""

    finished: int  # those of earlier launches included
    failed: int
    running: int
    waiting: int

    @property
    def trials(self) -> int:
        """All trials of the sweep."""
        return self.finished + self.failed + self.running + self.waiting


@dataclass(frozen=True, kw_only=True)
class _Attempt:
    number: int
    started_at: datetime
    nodes: tuple[str, ...] | None = None  # names of its ranks' machines, by rank


class Ledger:
    """The attempts of one launch; only the driver has one."""

    def __init__(
        self,
        writer: RowWriter,
        trial_ids: Collection[str],
        *,
        finished: Collection[str],
        attempts_before: Mapping[str, int],
        code_digest: str,
        driver: str,
    ) -> None:
        """Start without running trials.

        Args:
            finished: those that earlier launches finished.
            attempts_before: number of the last attempt of earlier launches, for trials that had one.
            driver: unique id of this launch's process.
        """
        self._writer = writer
        self._trial_ids = list(trial_ids)
        self._finished = set(finished) & set(trial_ids)
        self._failed: set[str] = set()
        self._attempts = dict(attempts_before)
        self._before = dict(attempts_before)
        self._not_its_fault: Counter[str] = Counter()  # attempts of this launch that the cluster ended
        self._first_start: dict[str, datetime] = {}
        self._running: dict[str, _Attempt] = {}
        self._code_digest = code_digest
        self._driver = driver
        self.stages_computed = 0  # in this launch

    def add(self, trial_ids: Iterable[str]) -> None:
        """Add trials to the sweep."""
        self._trial_ids += trial_ids

    def counts(self) -> Counts:
        """How many trials are in each state now."""
        running = len(self._running)
        over = len(self._finished) + len(self._failed)
        waiting = len(self._trial_ids) - over - running
        return Counts(finished=len(self._finished), failed=len(self._failed), running=running, waiting=waiting)

    def attempts_made(self, trial_id: str) -> int:
        """Attempts of this launch, with the running one; those that the cluster ended do not count."""
        made = self._attempts.get(trial_id, 0) - self._before.get(trial_id, 0)
        return made - self._not_its_fault[trial_id]

    @property
    def running(self) -> list[str]:
        """Ids of the trials that run."""
        return list(self._running)

    def started(self, trial_id: str) -> None:
        """Note the start of a new attempt."""
        if trial_id in self._running or trial_id in self._finished:
            raise ValueError(f"trial {trial_id} cannot start: it runs or is finished")
        now = datetime.now(UTC)
        attempt = _Attempt(number=self._attempts.get(trial_id, 0) + 1, started_at=now)
        self._attempts[trial_id] = attempt.number
        self._running[trial_id] = attempt
        self._first_start.setdefault(trial_id, now)
        self._write_attempt(trial_id, attempt, "running")

    def placed(self, trial_id: str, nodes: tuple[str, ...]) -> None:
        """Note on which machines the ranks of a running trial are."""
        self._running[trial_id] = replace(self._running[trial_id], nodes=nodes)
        self._write_attempt(trial_id, self._running[trial_id], "running")

    def stage_done(self, trial_id: str, stage: StageReport) -> None:
        """Count a finished stage of a running trial; the trial itself writes its rows."""
        if trial_id not in self._running:
            raise ValueError(f"trial {trial_id} does not run, yet it reached stage {stage.stage_key}")
        self.stages_computed += not stage.cached

    def ended(
        self,
        trial_id: str,
        status: Ending,
        cause: str | None = None,
        log_tail: str | None = None,
        *,
        over: bool,
        counts: bool = True,
    ) -> None:
        """Note the end of the running attempt.

        Args:
            cause: why, unless it finished.
            log_tail: last lines of its log, if there are any.
            over: the trial is finished, or failed and not tried again in this launch.
            counts: as one of the trial's attempts; not if a node was lost or drained.
        """
        attempt = self._running.pop(trial_id)
        self._not_its_fault[trial_id] += not counts
        now = datetime.now(UTC)
        self._write_attempt(trial_id, attempt, status, cause, log_tail or None, now)
        if not over:
            return
        finished = status == "finished"
        (self._finished if finished else self._failed).add(trial_id)
        first = self._first_start[trial_id]
        row = {
            "trial_id": trial_id,
            "status": "finished" if finished else "failed",
            "attempts": attempt.number,
            "started_at": first,
            "ended_at": now,
            "seconds": (now - first).total_seconds(),
            "error": None if finished else (cause or status),
            "code_digest": self._code_digest,
        }
        self._writer.write("trials", [row])

    def close_abandoned(self, attempts: Sequence[Mapping[str, Any]]) -> None:
        """End attempts that earlier launches have left running; to be called by the holder of the run's lock."""
        now = datetime.now(UTC)
        cause = "the process that launched it ended without a message"
        rows = [
            {name: value for name, value in row.items() if name != "written_at"}
            | {"status": "interrupted", "cause": cause, "ended_at": now}
            for row in attempts
        ]
        if rows:
            self._writer.write("attempts", rows)

    def _write_attempt(
        self,
        trial_id: str,
        attempt: _Attempt,
        status: str,
        cause: str | None = None,
        log_tail: str | None = None,
        ended_at: datetime | None = None,
    ) -> None:
        row = {
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
        self._writer.write("attempts", [row])
