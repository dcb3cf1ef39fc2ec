"""The decisions of a search: a pure function of the spec, of the proposals before, and of their trials' scores."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from sweeps.planning.plan import PlannedTrial, plan_trial
from sweeps.search.halving import ladder, promotion_so_far, promotions
from sweeps.search.records import Proposal, Score, ScoreKey, Told, result_of
from sweeps.search.samplers import Drawn, Sampling
from sweeps.search.space import SearchCandidate, Space, space_of
from sweeps.spec.expand import Expanded, expand_one
from sweeps.spec.search_settings import ConfirmSettings
from sweeps.spec.spec import Spec
from tailor.core.errors import ConfigError
from tailor.core.seeds import stream

MOST_REFUSED = 100  # proposals of one batch; then the search ends
DRAWS = 1_000  # of a setting that was not tried, before all are listed


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A proposal with its planned trials."""

    proposal: Proposal
    trials: tuple[PlannedTrial, ...]


class Searcher(Protocol):
    """Proposes settings."""

    def propose(self, number: int, batch: int, told: Sequence[Told]) -> Drawn:
        """Return the setting of proposal `number`; `told`: the results of all earlier proposals, by their numbers."""


def next_batch(
    spec: Spec,
    earlier: Sequence[Proposal],
    scores: Mapping[ScoreKey, Score],
    over: str | None = None,
    searcher: Searcher | None = None,
    live: Collection[str] = (),
) -> list[Decision]:
    """Decide what is tried next; with the synchronous rule, when no trial of the earlier proposals waits or runs.

    Args:
        spec: with [search].
        earlier: all proposals so far.
        scores: trial and rung -> its score; failed trials have none.
        over: why no more settings are proposed, if a limit of time was reached.
        searcher: what proposes settings; None: a new `Sampling`, which proposes the same as an old one.
        live: trials of earlier proposals that wait or run; they have no scores at the rungs to which they run.

    Returns:
        the next batch of the search; then, rung by rung, the promotions; then the proposals that confirm; then none:
        the sweep is over. Asynchronously: a promotion, or else the next setting; none while nothing can be decided;
        when no trial is live, what the synchronous rule promotes in addition.

    Raises:
        SpecError: the library of a sampler is missing.
    """
    space = space_of(spec)
    searched = [proposal for proposal in earlier if proposal.purpose == "search"]
    missing = (key for one in earlier for key in one.trial_ids if (key, one.rung) not in scores)
    unscored = tuple(dict.fromkeys(missing))
    assert spec.search is not None
    is_asynchronous = spec.search.is_asynchronous
    if is_asynchronous and (best := list(promotion_so_far(spec.search, earlier, scores))):
        return list(_continued(spec, best, earlier, unscored))
    if all(one.purpose == "search" or (is_asynchronous and one.purpose == "promote") for one in earlier):
        last = [one for one in searched if one.batch == searched[-1].batch]
        refused = sum(one.refusal is not None for one in last)
        if refused >= MOST_REFUSED:
            over = f"{refused} settings of a batch were refused, the last because: {last[-1].refusal}"
        batch = list(_search(spec, space, earlier, scores, unscored, searcher or Sampling(space, spec.search)))
        if batch and earlier and over is not None:
            return [Decision(proposal=_end(earlier, over, unscored), trials=())]
        if batch:
            return batch
    if live:
        return []
    if promoted := list(promotions(spec.search, earlier, scores)):
        return list(_continued(spec, promoted, earlier, unscored))
    if earlier and earlier[-1].purpose != "confirm":
        return list(_confirm(spec, space, earlier, scores, unscored))
    return []


def live_limit(spec: Spec) -> int:
    """Return how many trials wait or run at most: a decision is made when there are fewer."""
    assert spec.search is not None
    return spec.search.batch * len(space_of(spec).seeds) if spec.search.is_asynchronous else 1


def trials_of(spec: Spec, proposal: Proposal) -> tuple[Expanded, ...]:
    """Return the trials of a proposal, one for each seed; none if it was refused.

    Raises:
        ConfigError: the settings cannot be combined.
    """
    of, candidate = proposal.confirms, proposal.candidate
    trials = [expand_one(spec, candidate.variant, {**candidate.values, "seed": seed}) for seed in proposal.seeds]
    # An arm is one setting: the trials that confirm it must not be mixed with those of another.
    label = "" if of is None else f", proposal {of}"
    return tuple(replace(trial, label=trial.label + label) for trial in trials if trial is not None)


def _search(
    spec: Spec,
    space: Space,
    earlier: Sequence[Proposal],
    scores: Mapping[ScoreKey, Score],
    unscored: tuple[str, ...],
    searcher: Searcher,
) -> Iterator[Decision]:
    """The next batch; empty when enough settings were tried, or too many were refused."""
    assert spec.search is not None
    size, rung = sum(space.sizes), 0 if spec.search.halving else None
    most = min(spec.search.trials or size, size)
    searched = [proposal for proposal in earlier if proposal.purpose == "search"]
    left = most - sum(proposal.refusal is None for proposal in searched)
    batch = earlier[-1].batch + 1 if earlier else 0
    told = [result_of(proposal, scores, spec.search.cost) for proposal in searched]
    wanted = min(left, spec.search.batch) if spec.search.reads_scores else left
    if spec.search.is_asynchronous:
        wanted = min(left, 1 if earlier else spec.search.batch)
        # No row says whether a trial without a score has failed: samplers keep away from its setting.
        lacking = (result.score is None and bool(one.trial_ids) for one, result in zip(searched, told, strict=True))
        told = [replace(result, is_pending=unknown) for result, unknown in zip(told, lacking, strict=True)]
    known = {proposal.candidate.key for proposal in searched}
    trial_ids = {key for proposal in searched for key in proposal.trial_ids}
    number, refused = len(earlier), 0
    while wanted > 0 and refused < MOST_REFUSED and len(known) < size:
        drawn = searcher.propose(len(told), batch, told)
        candidate, drawn_by, seed = drawn.candidate, spec.search.sampler, drawn.seed
        if candidate.key in known:
            seed = stream(spec.search.seed, "untried", number)
            candidate, drawn_by = _untried(space, known, seed), "random"
        reads = drawn.read and tuple(searched[place].number for place in drawn.read if place < len(searched))
        known.add(candidate.key)
        told.append(Told(candidate=candidate, batch=batch, score=None, cost=None, is_pending=True))
        proposal = Proposal(
            number=number, batch=batch, purpose="search", candidate=candidate, seeds=space.seeds, drawn_by=drawn_by,
            unscored=unscored, rung=rung, sampler_seed=seed, reads=reads,
        )  # fmt: skip
        decision = with_trials(spec, proposal, trial_ids)
        yield decision
        number += 1
        refused += decision.proposal.refusal is not None
        wanted -= decision.proposal.refusal is None
        trial_ids |= {*decision.proposal.trial_ids}


def _end(earlier: Sequence[Proposal], why: str, unscored: tuple[str, ...]) -> Proposal:
    """The decision that no more settings are proposed; those that were are promoted and confirmed."""
    number, batch = len(earlier), earlier[-1].batch + 1
    return Proposal(
        number=number, batch=batch, purpose="end", candidate=SearchCandidate(variant=0, values={}), seeds=(),
        drawn_by="limit", refusal=why, unscored=unscored,
    )  # fmt: skip


def planned_trials(spec: Spec, proposal: Proposal) -> tuple[PlannedTrial, ...]:
    """Plan the trials of a proposal, up to its rung.

    Raises:
        ConfigError: the settings cannot be combined, or have no such rung.
    """
    assert spec.search is not None
    rung = None if proposal.rung is None else ladder(spec.search)[proposal.rung]
    return tuple(plan_trial(trial, rung) for trial in trials_of(spec, proposal))


def _continued(
    spec: Spec, promoted: Iterable[Proposal], earlier: Sequence[Proposal], unscored: tuple[str, ...]
) -> Iterator[Decision]:
    for one in promoted:
        proposal = replace(one, batch=earlier[-1].batch + 1, unscored=unscored)
        yield Decision(proposal=proposal, trials=planned_trials(spec, proposal))


def with_trials(spec: Spec, proposal: Proposal, others: Collection[str]) -> Decision:
    """Return a proposal with its trials, or with the reason why it has none; `others`: ids that it may not have."""
    try:
        trials = planned_trials(spec, proposal)
    except ConfigError as error:
        return Decision(proposal=replace(proposal, refusal=str(error)), trials=())
    if len(trials) < len(proposal.seeds):
        return Decision(proposal=replace(proposal, refusal="[[exclude]] leaves it out"), trials=())
    ids = tuple(trial.trial_id for trial in trials)
    if not {*ids}.isdisjoint(others):
        return Decision(proposal=replace(proposal, refusal="it is the same trial as another setting"), trials=())
    return Decision(proposal=replace(proposal, trial_ids=ids), trials=trials)


def _untried(space: Space, known: set[str], draw: int) -> SearchCandidate:
    """A setting that was not proposed yet, all with equal chances; `draw` is a random number of 63 bits."""
    size = sum(space.sizes)
    for number in range(DRAWS):
        candidate = space.at(stream(draw, "setting", number) % size)
        if candidate.key not in known:
            return candidate
    left = [candidate for candidate in map(space.at, range(size)) if candidate.key not in known]
    return left[draw % len(left)]


def _confirm(
    spec: Spec, space: Space, earlier: Sequence[Proposal], scores: Mapping[ScoreKey, Score], unscored: tuple[str, ...]
) -> Iterator[Decision]:
    """The best settings again, with seeds above those of the search."""
    if spec.confirm is None:
        return
    batch = earlier[-1].batch + 1
    for number, best in enumerate(best_of(earlier, scores, spec.confirm), start=len(earlier)):
        first = max(space.seeds) + 1
        proposal = Proposal(
            number=number, batch=batch, purpose="confirm", candidate=best.candidate, confirms=best.origin,
            seeds=tuple(range(first, first + spec.confirm.seeds)), drawn_by="best", unscored=unscored,
        )  # fmt: skip
        yield with_trials(spec, proposal, set())


def best_of(earlier: Sequence[Proposal], scores: Mapping[ScoreKey, Score], confirm: ConfirmSettings) -> list[Proposal]:
    """Return those with the highest mean validation scores at the end, the best first; of equal ones the earlier.

    Settings that were confirmed already are left out.
    """
    confirmed = {one.confirms for one in earlier}
    results = [(result_of(one, scores).score, one) for one in earlier if one.rung is None and one.purpose != "confirm"]
    ranked = sorted((-score, one.origin, one.number) for score, one in results if score is not None)
    return [earlier[number] for _, origin, number in ranked[: confirm.top] if origin not in confirmed]
