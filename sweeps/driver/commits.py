"""The one place where rows of a running sweep are made and written, from what is reported.

A stage that is reported finished is in the cache, and its rows are made from its file there: see `stage_rows`. Until
the next commit they are in no file; after a kill the next launch reads the cache again.
"""

import shutil
import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import safetensors.numpy

from results.arms.names import HEAD_ONLY
from results.store.reader import Run
from results.store.rows import Rows
from results.store.writer import Writer
from sweeps.driver.events import EventLog
from sweeps.driver.stage_rows import (
    StageTraining,
    TrialFacts,
    rows_of_point,
    rows_of_rung,
    rows_of_stage,
    training_of,
)
from sweeps.planning.plan import Plan, PlannedTrial
from sweeps.run.run_folder import RunFolder
from tailor.execution.cache import Cache, DamagedStage, StoredStage
from tailor.stages import OperatingPoint
from transtailor.files import finish_new_file
from transtailor.waiting import Unlimited, wait_for

FOUND_LIMIT_S = 90.0  # for a stage that was reported to be seen: above `CACHED_S`
LOOK_AGAIN_S = 1.0
REFUSED_LIMIT_S = 30.0  # of a disk, at a launch's end: the next one makes the rows
MOST_ROWS = 2**18  # made before they are written: they are held in memory until then

OF_POINTS = ("predictions", "estimates", "test_scores", "kept_filters", "layers")  # their rows name no stage
OF_STAGES = ("epochs", "rungs", "operating_points")
Unit = tuple[str, str, str | int]
"""The rows of one stage in one table: the table, the trial's id, and the stage's key, or its point in `OF_POINTS`."""
REACHED = """
SELECT trial_id, stage_key, tensors_sha256 FROM stages
WHERE trial_id NOT IN (SELECT trial_id FROM trials WHERE status = 'finished')
"""
BEGUN = """
SELECT DISTINCT trial_id, {unit} AS unit FROM {table}
ANTI JOIN (FROM stages LEFT JOIN operating_points USING (trial_id, stage_key)) USING (trial_id, {unit})
WHERE trial_id NOT IN (SELECT trial_id FROM trials WHERE status = 'finished')
"""


@dataclass(frozen=True, kw_only=True)
class FinishedStage:
    """A stage that a trial has finished: its place in the order of execution, and its number as an operating point."""

    key: str
    order: int
    point: int | None


@dataclass(frozen=True, kw_only=True)
class EndedAttempt:
    """How an attempt of a trial ended, as rows.

    Attributes:
        needs_all: the trial is finished or rests: these rows are written only after those of all its stages.
        is_last: the trial is finished, and its states of stages and its own cache are not needed any more.
    """

    attempt: Mapping[str, Any]
    trial: Mapping[str, Any] | None
    needs_all: bool
    is_last: bool


@dataclass(frozen=True, kw_only=True)
class LostTrial:
    """A trial of which a stage that was reported finished cannot be read: it has to run again."""

    trial_id: str
    cause: str


@dataclass
class _AttemptRows:
    """An attempt of a trial: what of it waits to be written."""

    facts: TrialFacts
    written: dict[str, str]  # of the trial: stage key -> checksum of the tensors that its rows are of
    stages: list[FinishedStage] = field(default_factory=list)
    ended: EndedAttempt | None = None
    unseen_since_s: float | None = None  # when its first stage was not found


class _UnseenError(Exception):
    """A stage that was reported finished is not in the cache, or not seen yet."""


class Commits:
    """Makes the rows of what is reported, and commits them; any thread may call it."""

    def __init__(
        self,
        writer: Writer,
        plan: Plan,
        run: RunFolder,
        cache: Path,
        *,
        run_id: str,
        code_digest: str,
        written: Mapping[str, Mapping[str, str]],
        begun: Collection[Unit] = (),
        events: EventLog,
    ) -> None:
        """Start with nothing to write.

        Args:
            cache: folder of finished stages.
            written: trial id -> stage key -> checksum of its tensors: what is in the tables, of trials that may go on.
            begun: what is in the tables of other stages, since a commit was cut off between two tables.
            events: told of a stage that was computed again with another result.
        """
        self._writer = writer
        self._run = run
        self._cache = Cache(cache)
        self._has_private_caches = plan.private_cache
        self._facts = partial(TrialFacts, sweep=plan.name, run_id=run_id, code_digest=code_digest)
        self._arms = {trial.arm: {"label": trial.label, "method": trial.settings.method} for trial in plan.trials}
        self._written = {trial_id: dict(stages) for trial_id, stages in written.items()}
        self._begun = frozenset(begun)
        self._events = events
        self._attempts: list[_AttemptRows] = []  # that run, or have rows that wait; of each trial in their order
        self._training: dict[str, StageTraining] = {}  # by stage key
        self._records: dict[str, list[Mapping[str, Any]]] = {}  # for the writer, by table
        self._rows_made = 0  # that the writer has not written
        self._over: list[Path] = []  # folders to remove when the rows are durable
        self._lost: list[LostTrial] = []
        self._taking = threading.Lock()
        self._committing = threading.Lock()
        self.why_failing: str | None = None
        """Why the last commit failed; None: it did not."""
        self.ended_by: Exception | None = None
        """Why no row can be written any more, such as another process that writes them now; None: they can."""
        self.has_new_ends = False  # since the points were written

    def add(self, table: str, rows: Rows) -> None:
        """Take rows that are made from no stage."""
        self._writer.add(table, rows)

    def begin(self, trial: PlannedTrial) -> None:
        """Note that an attempt of a trial has started."""
        with self._taking:
            written = self._written.setdefault(trial.trial_id, {})
            self._attempts.append(_AttemptRows(facts=self._facts(trial=trial, head=self._head(trial)), written=written))

    def _head(self, trial: PlannedTrial) -> dict[str, str]:
        """Return arm, label and method of the head's fit with which a trial's path begins; none if it does not."""
        if trial.head_arm is None:
            return {}
        none_planned = {"label": HEAD_ONLY, "method": HEAD_ONLY}
        return {"arm": trial.head_arm} | self._arms.get(trial.head_arm, none_planned)

    def stage(self, trial_id: str, stage: FinishedStage) -> None:
        """Take a finished stage of a trial that runs."""
        with self._taking:
            self._running(trial_id).stages.append(stage)

    def end(self, trial_id: str, ended: EndedAttempt) -> None:
        """Take the end of an attempt; if it did not finish, also the stages in the cache that it has not reported."""
        with self._taking:
            self._running(trial_id).ended = ended
            self.has_new_ends = True

    def _running(self, trial_id: str) -> _AttemptRows:
        own = (attempt for attempt in reversed(self._attempts) if attempt.facts.trial.trial_id == trial_id)
        return next(own)  # the last one runs

    def take_lost(self) -> list[LostTrial]:
        """Return the trials that have to run again, each once."""
        with self._taking:
            lost, self._lost = self._lost, []
        return lost

    @property
    def is_waiting(self) -> bool:
        """Whether something waits to be written."""
        with self._taking:
            return self._writer.has_rows_waiting or any(attempt.stages or attempt.ended for attempt in self._attempts)

    def commit(self) -> None:
        """Write the rows of all that came in, about `MOST_ROWS` at a time.

        A stage that is not seen yet stays for the next commit.

        Raises:
            TakenOverError: another process writes the run now.
            OSError: the disk refuses; all stays for the next commit.
        """
        with self._committing:
            try:
                has_more = True
                while has_more:
                    has_more = self._make_rows()
                    self._writer.commit()
                    self._rows_made = 0
                    self._remove_what_is_over()
            except OSError as error:
                self.why_failing = f"rows cannot be written: {error}"
                raise
            except Exception as error:
                self.ended_by = error
                raise
            self.why_failing = None

    def finish(self) -> None:
        """Commit until the rows of all that has ended are there. Raises as `commit`, after `REFUSED_LIMIT_S`."""
        give_up_s = time.monotonic() + REFUSED_LIMIT_S

        def is_written() -> bool:
            try:
                self.commit()
            except OSError:
                if time.monotonic() >= give_up_s:
                    raise
                return False
            with self._taking:  # what runs at a search's decision may wait for longer
                return not any(attempt.ended for attempt in self._attempts)

        limit = Unlimited(f"a stage that is not seen is given up after {FOUND_LIMIT_S:g} s")
        wait_for(is_written, "the last rows to be written", limit, poll_s=LOOK_AGAIN_S)

    def _remove_what_is_over(self) -> None:
        over, self._over = self._over, []
        for folder in over:
            shutil.rmtree(folder, ignore_errors=True)

    def _make_rows(self) -> bool:
        """Make rows of the attempts, those of a trial in their order; return whether `MOST_ROWS` have left some out."""
        with self._taking:
            attempts = list(self._attempts)
        held_back = set()
        try:
            for attempt in attempts:
                if self._rows_made >= MOST_ROWS:
                    return True
                trial_id = attempt.facts.trial.trial_id
                if trial_id not in held_back and not self._make_rows_of(attempt):
                    held_back.add(trial_id)
        finally:
            self._give_rows()
        return False

    def _keep(self, table: str, rows: Rows) -> None:
        self._rows_made += len(rows)
        if isinstance(rows, pa.Table):
            self._writer.add(table, rows)
        else:
            self._records.setdefault(table, []).extend(rows)

    def _give_rows(self) -> None:
        """Give the records that were made to the writer, those of a table together: many small tables take long."""
        records, self._records = self._records, {}
        for table, rows in records.items():
            self._writer.add(table, rows)

    def _make_rows_of(self, attempt: _AttemptRows) -> bool:
        """Make the rows of an attempt's stages, and then of its end; return whether that came."""
        ended = attempt.ended  # before the stages, which were all reported before it
        if ended is not None and not ended.needs_all:
            self._add_unreported(attempt)
        while attempt.stages:
            try:
                self._make_rows_of_stage(attempt, attempt.stages[0])
                attempt.unseen_since_s = None
            except (_UnseenError, DamagedStage) as error:
                if ended is None or ended.needs_all:
                    self._wait_or_lose(attempt, error)
                    return False
            attempt.stages.pop(0)  # of an attempt that did not finish, what is not seen is not written
        if ended is None:
            return False
        self._keep("attempts", [ended.attempt])
        self._keep("trials", [] if ended.trial is None else [ended.trial])
        self._forget(attempt)
        if ended.is_last:
            trial_id = attempt.facts.trial.trial_id
            del self._written[trial_id]
            self._over += [self._run.checkpoint(trial_id), self._run.private_cache(trial_id)]
        return True

    def _forget(self, attempt: _AttemptRows) -> None:
        with self._taking:
            self._attempts = [other for other in self._attempts if other is not attempt]

    def _wait_or_lose(self, attempt: _AttemptRows, error: Exception) -> None:
        """Leave an attempt's rows for the next commit; if a stage stays away or is damaged, the trial runs again."""
        now_s = time.monotonic()
        if attempt.unseen_since_s is None:
            attempt.unseen_since_s = now_s
        may_appear = isinstance(error, _UnseenError) and now_s - attempt.unseen_since_s < FOUND_LIMIT_S
        if attempt.ended is None or may_appear:
            return
        cause = f"a stage that was reported finished cannot be read: {error}"
        self._keep("attempts", [{**attempt.ended.attempt, "status": "interrupted", "cause": cause}])
        self._forget(attempt)
        with self._taking:
            self._lost.append(LostTrial(trial_id=attempt.facts.trial.trial_id, cause=cause))

    def _add_unreported(self, attempt: _AttemptRows) -> None:
        """Add the stages that an attempt has finished and not reported: up to the first that is not in the cache."""
        known = {stage.key for stage in attempt.stages} | attempt.written.keys()
        cache = self._cache_of(attempt.facts.trial)
        for order, stage in enumerate(attempt.facts.trial.stages):
            if stage.key in known:
                continue
            if not cache.has(stage.key):
                return
            finish_new_file(cache.path(stage.key))  # its rank may have been killed before it did so
            attempt.stages.append(FinishedStage(key=stage.key, order=order, point=stage.point))

    def _make_rows_of_stage(self, attempt: _AttemptRows, stage: FinishedStage) -> None:
        """Give the rows of a stage to the writer, unless they are written.

        Raises:
            _UnseenError, DamagedStage: the stage, or one before it, cannot be read.
        """
        facts = attempt.facts
        cache = self._cache_of(facts.trial)
        stored = _found(cache, stage.key)
        if stage.key in attempt.written:
            if attempt.written[stage.key] != stored.tensors_sha256:
                self._events("stage_changed", detail=f"stage {stage.key} of trial {facts.trial.trial_id}")
                attempt.written[stage.key] = stored.tensors_sha256  # told once
            return
        self._learn(cache, stored)
        rows = rows_of_stage(facts, stage.order, stored)
        if facts.trial.rung is not None:
            rows |= rows_of_rung(facts, stage.point, stored, facts.trial.rung)
        if stage.point is not None and stored.description.kind == OperatingPoint.kind:
            tensors = safetensors.numpy.load(cache.read_tensors(stage.key))
            rows |= rows_of_point(facts, stage.point, stored, tensors, self._training)
        for table, of_table in rows.items():
            unit = stage.point if table in OF_POINTS else stage.key
            if (table, facts.trial.trial_id, unit) not in self._begun:
                self._keep(table, of_table)
        attempt.written[stage.key] = stored.tensors_sha256

    def _learn(self, cache: Cache, stored: StoredStage) -> None:
        """Remember the training of a stage and of all before it."""
        waiting = [stored]
        while waiting:
            stage = waiting[-1]
            unknown = [key for key in stage.description.parents if key not in self._training]
            if not unknown:
                self._training[waiting.pop().key] = training_of(stage)
                continue
            for key in unknown:
                waiting.append(_found(cache, key))

    def _cache_of(self, trial: PlannedTrial) -> Cache:
        return Cache(self._run.private_cache(trial.trial_id)) if self._has_private_caches else self._cache


def _found(cache: Cache, key: str) -> StoredStage:
    """Read a stage.

    Raises:
        _UnseenError: it is not there.
        DamagedStage: its file is damaged.
    """
    stored = cache.read(key)
    if stored is None:
        raise _UnseenError(f"{cache.path(key)} is not there")
    return stored


def units_written(tables: Run) -> dict[str, dict[str, str]]:
    """Return trial id -> stage key -> checksum of its tensors, of the trials that are not finished."""
    written: dict[str, dict[str, str]] = {}
    for row in tables.rows(REACHED):
        written.setdefault(row["trial_id"], {})[row["stage_key"]] = row["tensors_sha256"]
    return written


def units_begun(tables: Run) -> set[Unit]:
    """Return the units that are there of stages which have no row in `stages`, of trials that are not finished."""
    begun: set[Unit] = set()
    for table in (*OF_POINTS, *OF_STAGES):
        unit = "point" if table in OF_POINTS else "stage_key"
        rows = tables.rows(BEGUN.format(table=table, unit=unit))
        begun.update((table, row["trial_id"], row["unit"]) for row in rows)
    return begun
