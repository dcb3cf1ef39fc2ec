"""The search of one run: its proposals in the table, its trials in the plan, and the next ones while it runs."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from results.questions.search import rung_predictions
from results.store.reader import Run
from sweeps.errors import SpecError
from sweeps.planning.plan import Plan, PlannedTrial, make_plan, trial_to_rung
from sweeps.run.run_folder import RunFolder
from sweeps.run.trial_producer import ScoreKey, TrialProducer
from sweeps.search.checks import refuse_impossible, refuse_overridden
from sweeps.search.halving import is_longer, ladder, stopped_trials
from sweeps.search.outcome import outcome_lines
from sweeps.search.proposals import live_limit, next_batch, trials_of
from sweeps.search.records import Proposal
from sweeps.search.space import SearchCandidate, space_of
from sweeps.spec.expand import Expanded, refuse_too_many
from sweeps.spec.spec import Spec
from tailor.execution.dry_run import Rung

SCORES = """
SELECT trial_id, NULL AS rung, arg_max(validation_score, point) AS validation_score
FROM operating_points JOIN trials USING (trial_id) WHERE status = 'finished' GROUP BY trial_id
UNION ALL SELECT trial_id, rung, validation_score FROM rungs
"""
PROPOSALS = """
SELECT * EXCLUDE (reads, read_scores, read_costs, code_digest, written_at) FROM proposals ORDER BY number
"""


class RunSearch(TrialProducer):
    """The proposals of a run, and the decision about the next ones."""

    table = "proposals"
    decided_by = ("search", "confirm", "axes", "variants", "exclude", "tied_to_seed")
    decisions: list[Proposal]

    def __init__(self, spec: Spec, run: RunFolder, *, extend: bool = False) -> None:
        """Read the proposals of the run, or make the first ones."""
        assert spec.search is not None
        self.settings = self._search = spec.search
        super().__init__(spec, run, extend=extend)
        self._is_over = False
        refuse_too_many(spec)
        self.plan = self._to_rungs(make_plan(spec, self._known_trials))

    def changes(self, spec_of_run: Spec) -> list[str]:
        """Name what decides in the spec and is not that of the run; also the order in which samplers read axes."""
        changed = super().changes(spec_of_run)
        has_same_axes = "[axes]" not in changed and "[variants]" not in changed
        if has_same_axes and space_of(spec_of_run).dimensions != space_of(self.spec).dimensions:
            changed.append("the order of [axes]")
        return changed

    def continues_more(self, changed: Sequence[str], spec_of_run: Spec) -> bool:
        """Whether only the share of the settings that continue has grown."""
        kept = spec_of_run.search
        return changed == ["[search]"] and kept is not None and is_longer(self._search, kept)

    def _known_trials(self) -> Iterable[Expanded]:
        """Yield the trials of all proposals; of a run without any, make the first ones."""
        if self.decisions:
            refuse_overridden(self.spec)
        else:
            refuse_impossible(self.spec)
            self.decisions = [decision.proposal for decision in next_batch(self.spec, (), {})]
            if all(proposal.refusal for proposal in self.decisions):
                raise SpecError(
                    f"{self.spec.where} [search]: every setting is refused, the first because: "
                    f"{self.decisions[0].refusal}; change [axes], [[variants]] or [[exclude]]"
                )
        for proposal in self.decisions:
            if proposal.refusal is None and proposal.promotes is None:
                yield from trials_of(self.spec, proposal)

    def _to_rungs(self, plan: Plan) -> Plan:
        """Return the same trials, each with its stages up to the rung to which it runs now."""
        rungs: Mapping[int | None, Rung] = {rung.number: rung for rung in ladder(self._search)}
        rung_of_trial: dict[str, Rung | None] = {}
        for proposal in self.decisions:  # a later one may have promoted a trial
            for trial_id in proposal.trial_ids:
                rung_of_trial[trial_id] = rungs.get(proposal.rung)
        trials = [trial_to_rung(trial, rung_of_trial[trial.trial_id]) for trial in plan.trials]
        return replace(plan, trials=tuple(trials))

    def read(self, tables: Run) -> list[Proposal]:
        """Return the proposals in a run's table."""
        return read_proposals(tables)

    def row_of(self, decision: Proposal) -> dict[str, Any]:
        """Return the row of a proposal."""
        row = asdict(decision)
        candidate = row.pop("candidate")
        return row | {"variant": candidate["variant"], "values_json": json.dumps(candidate["values"]), "read_costs": ()}

    def decides(self, live: Collection[str]) -> bool:
        """Whether there are so few live trials that more may be proposed: none, or asynchronously less than a batch."""
        return len(live) < live_limit(self.spec)

    def decide(self, scores: Mapping[ScoreKey, float], live: Collection[str]) -> tuple[PlannedTrial, ...] | None:
        """Propose or promote the next settings; None at the end, or while nothing can be decided."""
        decided = next_batch(self.spec, self.decisions, scores, self.why_over(), live)
        if not decided:
            self._is_over = not live
            return None
        self.decisions += [decision.proposal for decision in decided]
        trials = tuple(trial for decision in decided for trial in decision.trials)
        ids = {trial.trial_id for trial in trials}  # those that are promoted are in the plan already
        others = [trial for trial in self.plan.trials if trial.trial_id not in ids]
        self.plan = replace(self.plan, trials=(*others, *trials))
        return trials

    def stopped_trials(self) -> set[str]:
        """Return the trials that are not continued."""
        return stopped_trials(self._search, self.decisions, is_over=self._is_over)

    def has_next(self, tables: Run) -> bool:
        """Whether more settings are proposed, promoted or confirmed."""
        return bool(next_batch(self.spec, self.decisions, read_scores(tables), self.why_over()))

    def outcome_lines(self, tables: Run) -> Iterator[str]:
        """Say how well each rung predicted the end, and how the confirmed settings score: lines for a person."""
        yield from map(str, rung_predictions(tables))
        yield from outcome_lines(self.decisions, tables)


def read_scores(tables: Run) -> dict[ScoreKey, float]:
    """Return the validation score of each finished trial of a run, and of each trial at its rungs."""
    return {(row["trial_id"], row["rung"]): row["validation_score"] for row in tables.rows(SCORES)}


def read_proposals(tables: Run) -> list[Proposal]:
    """Return the proposals of a run in their order, without what each decision read: that is for people."""
    proposals = []
    for row in tables.rows(PROPOSALS):
        candidate = SearchCandidate(variant=row.pop("variant"), values=json.loads(row.pop("values_json")))
        lists_as_tuples = {name: tuple(value) for name, value in row.items() if isinstance(value, list)}
        proposals.append(Proposal(candidate=candidate, **row | lists_as_tuples))
    return proposals
