"""Sweeps that add trials while they run: a search, and a sweep that adds seeds until its comparisons are settled.

Both decide from rows alone. A decision is durable before its trials are planned, and these are before one of them
starts; so each launch, on any site, continues what another one has begun, also one that was killed in between.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, ClassVar

from results.store.reader import Run, finished_trial_ids, load, stopped_trial_ids
from results.store.writer import Writer
from sweeps.errors import SpecError
from sweeps.planning.plan import Plan, PlannedTrial
from sweeps.run.run_folder import RunFolder, add_trials, open_run
from sweeps.spec.search_settings import SearchSettings
from sweeps.spec.settle_settings import SettleSettings
from sweeps.spec.spec import Spec, load_spec
from transtailor.files import is_there

ScoreKey = tuple[str, int | None]
"""A trial, and the number of the rung where it rests; None: its end."""
SPENT = """
SELECT coalesce(sum(seconds), 0) / 3600 AS hours, coalesce(sum(trial_s), 0) * ? / 3600 AS gpu_hours
FROM (
    SELECT epoch(max(coalesce(ended_at, started_at))) - epoch(min(started_at)) AS seconds,
        sum(epoch(coalesce(ended_at, started_at)) - epoch(started_at)) AS trial_s
    FROM attempts GROUP BY driver
)
"""
"""Hours in which launches have run trials, and hours of the GPUs (`?` of each trial) that these had."""


class TrialProducer(ABC):
    """What decides which trials are added to a run.

    Attributes:
        decisions: those of the run, in their order.
        plan: the trials so far.
    """

    table: ClassVar[str]
    """That of the decisions."""
    decided_by: ClassVar[tuple[str, ...]]
    """The keys of a spec that may not change while a run decides by them."""
    settings: SearchSettings | SettleSettings
    plan: Plan

    def __init__(self, spec: Spec, run: RunFolder, *, extend: bool = False) -> None:
        """Read the decisions of the run, if it exists; nothing is written.

        Raises:
            SpecError: what decides in the spec is not what the run was begun with; `extend` allows a search of which
                more settings continue.
        """
        self.spec = spec
        self.run = run
        self.decisions: list[Any] = []
        self._writer: Writer | None = None  # once it may write
        if is_there(run.plan):
            spec_of_run = load_spec(run.spec)
            changed = self.changes(spec_of_run)
            continues_more = self.continues_more(changed, spec_of_run)
            if changed and not (continues_more and extend):
                advice = "type --extend to continue more settings, " if continues_more else ""
                raise SpecError(
                    f"{spec.where}: {changed[0]} is not that of {run.spec}, by which this run decides what it adds; "
                    f"{advice}undo the change, or type --name NAME for a new run (the cache has its stages that are "
                    "the same)"
                )
            with load(run.path) as tables:
                self.decisions = self.read(tables)
        self._saved = len(self.decisions)  # how many of them are in the run's table

    def changes(self, spec_of_run: Spec) -> list[str]:
        """Name what decides in the spec and is not that of the run."""
        return [f"[{name}]" for name in self.decided_by if getattr(spec_of_run, name) != getattr(self.spec, name)]

    def continues_more(self, changed: Sequence[str], spec_of_run: Spec) -> bool:  # noqa: ARG002
        """Whether what has changed only continues more of the trials that rest."""
        return False

    @abstractmethod
    def read(self, tables: Run) -> list[Any]:
        """Return the decisions in a run's table."""

    @abstractmethod
    def row_of(self, decision: Any) -> dict[str, Any]:
        """Return the row of a decision, without the digest of the code."""

    def save(self, writer: Writer) -> None:
        """Write the decisions and planned trials that the run lacks, and from now on those of `more`."""
        self._writer = writer
        record = open_run(self.run)
        rows = [
            {**self.row_of(decision), "code_digest": record.code_digest} for decision in self.decisions[self._saved :]
        ]
        if rows:
            writer.write(self.table, rows)
        new_trials = [trial for trial in self.plan.trials if trial.trial_id not in record.trials]
        if new_trials:
            add_trials(self.run, self.plan, new_trials, record.code_digest, writer)
        self._saved = len(self.decisions)

    @abstractmethod
    def decides(self, live: Collection[str]) -> bool:
        """Whether `more` may decide now, by the rows of all trials that have ended; `live`: as there."""

    @abstractmethod
    def decide(self, scores: Mapping[ScoreKey, float], live: Collection[str]) -> tuple[PlannedTrial, ...] | None:
        """Make the next decisions, and return the trials that they add to the plan; None if none can be made."""

    def more(self, scores: Mapping[ScoreKey, float], live: Collection[str]) -> tuple[PlannedTrial, ...]:
        """Return the trials to run next.

        Empty while trials are live: ask again when one has ended. Empty and no trial live: the sweep is over.

        Args:
            scores: of the trials that have ended.
            live: trials that wait or run.

        Writes:
            the decisions and their planned trials.
        """
        while self.decides(live) and (trials := self.decide(scores, live)) is not None:
            assert self._writer is not None
            self.save(self._writer)
            if trials:
                return trials
        return ()

    def stopped_trials(self) -> Collection[str]:
        """Return the trials that are not continued."""
        return ()

    @abstractmethod
    def has_next(self, tables: Run) -> bool:
        """Whether more is decided when all trials so far have ended."""

    def has_ended(self) -> bool:
        """Whether all trials have ended or are stopped, and no more are added."""
        if not is_there(self.run.plan):
            return False
        planned = {trial.trial_id for trial in self.plan.trials}
        with load(self.run.path) as tables:
            ended = finished_trial_ids(self.run.path) | stopped_trial_ids(tables)
            return planned <= ended and not self.has_next(tables)

    @abstractmethod
    def outcome_lines(self, tables: Run) -> Iterable[str]:
        """Say what was decided: lines for a person."""

    def why_over(self) -> str | None:
        """Say which limit of time the run has reached, with all launches; None: none."""
        limits = {"hours": self.settings.hours, "gpu_hours": self.settings.gpu_hours}
        if not any(limits.values()):
            return None
        resources = self.spec.resources
        with load(self.run.path) as tables:
            (spent,) = tables.rows(SPENT, [resources.ranks * resources.gpus_per_rank])
        for name, limit in limits.items():
            if limit is not None and spent[name] >= limit:
                return f"{name} = {limit:g} were reached"
        return None
