"""The search of one run: its proposals in the table, its trials in the plan, and the next ones while it runs.

A proposal is durable before its trials are planned, and these are before one of them starts: a launch that is killed
in between is completed by the next one.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any

from results.questions.search import rung_predictions
from results.store.reader import Run, finished_trial_ids, load, stopped_trial_ids
from results.store.writer import Writer
from sweeps.errors import SpecError
from sweeps.planning.plan import Plan, PlannedTrial, make_plan, trial_to_rung
from sweeps.run.run_folder import RunFolder, add_decisions
from sweeps.run.spent import time_limit_reached
from sweeps.search.checks import refuse_impossible, refuse_overridden
from sweeps.search.halving import is_longer, ladder, stopped_trials
from sweeps.search.outcome import outcome_lines
from sweeps.search.proposals import live_limit, next_batch, trials_of
from sweeps.search.records import Proposal, Score, ScoreKey
from sweeps.search.samplers import Sampling
from sweeps.search.space import SearchCandidate, space_of
from sweeps.spec.expand import Expanded
from sweeps.spec.spec import Spec, load_spec
from tailor.execution.dry_run import Rung
from transtailor.files import is_there

DECIDES = ("search", "confirm", "axes", "variants", "exclude", "tied_to_seed")  # keys of a spec
SCORES = """
SELECT trial_id, NULL AS rung, arg_max(validation_score, point) AS validation_score, arg_max(macs, point) AS macs,
    arg_max(pruning_latency_ms, point) AS pruning_latency_ms
FROM operating_points JOIN trials USING (trial_id) WHERE status = 'finished' GROUP BY trial_id
UNION ALL SELECT trial_id, rung, validation_score, macs, NULL FROM rungs
"""
PROPOSALS = """
SELECT * EXCLUDE (reads, read_scores, read_costs, code_digest, written_at) FROM proposals ORDER BY number
"""


class RunSearch:
    """The proposals of a run, and the decision about the next ones."""

    def __init__(self, spec: Spec, run: RunFolder, *, extend: bool = False) -> None:
        """Read the proposals of the run, if it exists; nothing is written.

        Raises:
            SpecError: another search has begun in the run; `extend` allows one of which more settings continue.
        """
        self.spec = spec
        self._run = run
        self.proposals: list[Proposal] = []
        self._saved = 0  # how many of them are in the run's table
        self._is_over = False
        self._writer: Writer | None = None  # once it may write
        if is_there(run.plan):
            _refuse_changed(spec, run, extend=extend)
            with load(run.path) as tables:
                self.proposals = read_proposals(tables)
            self._saved = len(self.proposals)
        self.plan = self._to_rungs(make_plan(spec, self._known_trials))

    @cached_property
    def _sampling(self) -> Sampling:
        assert self.spec.search is not None
        return Sampling(space_of(self.spec), self.spec.search)

    def _known_trials(self) -> Iterable[Expanded]:
        """Yield the trials of all proposals; of a run without any, make the first ones."""
        if self.proposals:
            refuse_overridden(self.spec)
        else:
            refuse_impossible(self.spec)
            decisions = next_batch(self.spec, (), {}, sampling=self._sampling)
            self.proposals = [decision.proposal for decision in decisions]
            if all(proposal.refusal for proposal in self.proposals):
                raise SpecError(
                    f"{self.spec.where} [search]: every setting is refused, the first because: "
                    f"{self.proposals[0].refusal}; change [axes], [[variants]] or [[exclude]]"
                )
        for proposal in self.proposals:
            if proposal.refusal is None and proposal.promotes is None:
                yield from trials_of(self.spec, proposal)

    def _to_rungs(self, plan: Plan) -> Plan:
        """Return the same trials, each with its stages up to the rung to which it runs now."""
        assert self.spec.search is not None
        rungs: Mapping[int | None, Rung] = {rung.number: rung for rung in ladder(self.spec.search)}
        rung_of_trial: dict[str, Rung | None] = {}
        for proposal in self.proposals:  # a later one may have promoted a trial
            for trial_id in proposal.trial_ids:
                rung_of_trial[trial_id] = rungs.get(proposal.rung)
        trials = [trial_to_rung(trial, rung_of_trial[trial.trial_id]) for trial in plan.trials]
        return replace(plan, trials=tuple(trials))

    def save(self, writer: Writer) -> None:
        """Write the proposals and planned trials that the run lacks, and from now on those of `more`."""
        self._writer = writer
        new_rows = [_row(proposal) for proposal in self.proposals[self._saved :]]
        add_decisions(self._run, self.plan, "proposals", new_rows, writer)
        self._saved = len(self.proposals)

    def _why_over(self) -> str | None:
        """Say which limit of time the run has reached; None: none."""
        search = self.spec.search
        assert search is not None
        return time_limit_reached(self._run, self.spec.resources, hours=search.hours, gpu_hours=search.gpu_hours)

    def has_ended(self) -> bool:
        """Whether all trials have ended or are stopped, and no more are proposed."""
        if not is_there(self._run.plan):
            return False
        with load(self._run.path) as tables:
            ended = finished_trial_ids(self._run.path) | stopped_trial_ids(tables)
            if not {trial.trial_id for trial in self.plan.trials} <= ended:
                return False
            scores = read_scores(tables)
        return not next_batch(self.spec, self.proposals, scores, self._why_over(), self._sampling, ())

    def stopped_trials(self) -> set[str]:
        """Return the trials that are not continued."""
        assert self.spec.search is not None
        return stopped_trials(self.spec.search, self.proposals, is_over=self._is_over)

    def outcome_lines(self, tables: Run) -> Iterator[str]:
        """Say how well each rung predicted the end, and how the confirmed settings score: lines for a person."""
        yield from map(str, rung_predictions(tables))
        yield from outcome_lines(self.proposals, tables)

    def decides(self, live: Collection[str]) -> bool:
        """Whether there are so few live trials that more may be proposed."""
        return len(live) < live_limit(self.spec)

    def more(self, scores: Mapping[ScoreKey, Score], live: Collection[str]) -> tuple[PlannedTrial, ...]:
        """Decide what is tried next, and return its trials; none at the end, or while nothing can be decided.

        Args:
            scores: of the trials that have ended.
            live: trials that wait or run. Asynchronously there are at most as many as a batch has; else a decision is
                made when there are none.

        Writes:
            the proposals and their planned trials.
        """
        if not self.decides(live):
            return ()
        assert self._writer is not None
        while decisions := next_batch(self.spec, self.proposals, scores, self._why_over(), self._sampling, live):
            trials: list[PlannedTrial] = []
            for decision in decisions:
                self.proposals.append(decision.proposal)
                trials += decision.trials
            self.plan = replace(self.plan, trials=(*_without(self.plan.trials, trials), *trials))
            self.save(self._writer)
            if trials:
                return tuple(trials)
        self._is_over = not live
        return ()


def _without(trials: Iterable[PlannedTrial], others: Iterable[PlannedTrial]) -> list[PlannedTrial]:
    ids = {trial.trial_id for trial in others}
    return [trial for trial in trials if trial.trial_id not in ids]


def _refuse_changed(spec: Spec, run: RunFolder, *, extend: bool) -> None:
    """Raise SpecError if what decides in the spec is not what the run's proposals were chosen by.

    With `extend`, more settings may continue.
    """
    spec_of_run = load_spec(run.spec)
    changed = [f"[{name}]" for name in DECIDES if getattr(spec_of_run, name) != getattr(spec, name)]
    has_same_axes = "[axes]" not in changed and "[variants]" not in changed
    if has_same_axes and space_of(spec_of_run).dimensions != space_of(spec).dimensions:
        changed.append("the order of [axes]")  # in which samplers read them
    assert spec.search is not None
    kept = spec_of_run.search
    continues_more = changed == ["[search]"] and kept is not None and is_longer(spec.search, kept)
    if changed and not (continues_more and extend):
        advice = "type --extend to continue more settings, " if continues_more else ""
        raise SpecError(
            f"{spec.where}: {changed[0]} is not that of {run.spec}, by which this run's proposals were chosen; {advice}"
            "undo the change, or type --name NAME for a new run (the cache has its stages that are the same)"
        )


def read_scores(tables: Run) -> dict[ScoreKey, Score]:
    """Return the score of each finished trial of a run, and of each trial at its rungs."""
    scores = {}
    for row in tables.rows(SCORES):
        trial_id = row.pop("trial_id")
        rung = row.pop("rung")
        scores[trial_id, rung] = Score(**row)
    return scores


def read_proposals(tables: Run) -> list[Proposal]:
    """Return the proposals of a run in their order, without what each decision read: that is for people."""
    return [_proposal(row) for row in tables.rows(PROPOSALS)]


def _row(proposal: Proposal) -> dict[str, Any]:
    row = asdict(proposal)
    candidate = row.pop("candidate")
    return row | {"variant": candidate["variant"], "values_json": json.dumps(candidate["values"])}


def _proposal(row: dict[str, Any]) -> Proposal:
    """Return the proposal of which `_row` has made this row."""
    candidate = SearchCandidate(variant=row.pop("variant"), values=json.loads(row.pop("values_json")))
    lists_as_tuples = {name: tuple(value) for name, value in row.items() if isinstance(value, list)}
    return Proposal(candidate=candidate, **row | lists_as_tuples)
