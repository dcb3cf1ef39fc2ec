"""Sweeps that add trials while they run: a search, and a sweep that adds seeds until its comparisons are settled.

Both decide from rows alone, and a decision is durable before a trial of it starts; so each launch of them, on any site,
continues what another one has begun.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

from results.store.reader import Run
from results.store.writer import Writer
from sweeps.planning.plan import Plan, PlannedTrial
from sweeps.run.run_folder import RunFolder
from sweeps.search.records import Score, ScoreKey
from sweeps.spec.spec import Spec


class TrialProducer(Protocol):
    """What decides which trials are added to a run."""

    spec: Spec
    plan: Plan
    """The trials so far."""

    def save(self, writer: Writer) -> None:
        """Write the decisions and planned trials that the run lacks, and from now on those of `more`."""

    def decides(self, live: Collection[str], /) -> bool:
        """Whether `more` may decide now, by the rows of all trials that have ended; `live`: as there."""

    def more(self, scores: Mapping[ScoreKey, Score], live: Collection[str], /) -> tuple[PlannedTrial, ...]:
        """Return the trials to run next, already written to the table `planned`.

        Empty while trials are live (waiting or running): ask again when one has ended. Empty and no trial live: the
        sweep is over.
        """

    def stopped_trials(self) -> Collection[str]:
        """Return the trials that are not continued."""

    def has_ended(self) -> bool:
        """Whether all trials have ended, and no more are added."""

    def outcome_lines(self, tables: Run) -> Iterable[str]:
        """Say what was decided: lines for a person."""


def producer_of(spec: Spec, run: RunFolder, *, extend: bool = False) -> TrialProducer | None:
    """Return what adds trials to the run of a spec; None: its plan has all trials.

    Raises:
        SpecError: what decides in the spec is not what the run was begun with; `extend` allows a search of which more
            settings continue.
    """
    if spec.search is not None:
        from sweeps.search.run_search import RunSearch

        return RunSearch(spec, run, extend=extend)
    if spec.settle is not None:
        from sweeps.settle.run_settle import RunSettle  # scipy takes 0.3 s

        return RunSettle(spec, run)
    return None
