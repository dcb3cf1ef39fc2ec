"""The decisions of a search: a pure function of the spec, of the proposals before, and of their trials' scores."""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from sweeps.planning.plan import PlannedTrial, plan_trial
from sweeps.run.trial_producer import ScoreKey
from sweeps.search.halving import ladder, promotion_so_far, promotions
from sweeps.search.records import Proposal, SettingResult, result_of, what_was_read
from sweeps.search.samplers import propose
from sweeps.search.space import SearchCandidate, Space, space_of
from sweeps.spec.expand import Expanded, expand_one
from sweeps.spec.search_settings import ConfirmSettings, SearchSettings
from sweeps.spec.spec import Spec
from tailor.common.errors import ConfigError
from tailor.common.seeds import stream

MOST_REFUSED = 100  # proposals of one batch; then the search ends
DRAWS = 1_000  # of a setting that was not tried, before all are listed


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A proposal with its planned trials."""

    proposal: Proposal
    trials: tuple[PlannedTrial, ...]


def next_batch(
    spec: Spec,
    earlier: Sequence[Proposal],
    scores: Mapping[ScoreKey, float],
    over: str | None = None,
    live: Collection[str] = (),
) -> list[Decision]:
    """Decide what is tried next; with the synchronous rule, when no trial of the earlier proposals waits or runs.

    Args:
        spec: with [search].
        earlier: all proposals so far.
        scores: trial and rung -> its score; failed trials have none.
        over: why no more settings are proposed, if a limit of time was reached.
        live: trials of earlier proposals that wait or run; they have no scores at the rungs to which they run.

    Returns:
        the next batch of the search; then, rung by rung, the promotions; then the proposals that confirm; then none:
        the sweep is over. Asynchronously: a promotion, or else the next setting; none while nothing can be decided;
        when no trial is live, what the synchronous rule promotes in addition.

    Raises:
        SpecError: the library of a sampler is missing.
    """
    assert spec.search is not None
    space = space_of(spec)
    if spec.search.is_asynchronous:
        promoted = list(promotion_so_far(spec.search, earlier, scores))
        if promoted:
            return list(_continued(spec, promoted, earlier))
    purposes = {proposal.purpose for proposal in earlier}
    if spec.search.is_asynchronous:
        purposes.discard("promote")
    if purposes <= {"search"}:  # before the first promotion, or asynchronously before the confirmation
        over = _why_too_many_refused(earlier) or over
        batch = list(_search(spec, space, earlier, scores))
        if batch and earlier and over is not None:
            # No more settings are proposed; those that were are promoted and confirmed
            end = Proposal(
                number=len(earlier), batch=earlier[-1].batch + 1, purpose="end",
                candidate=SearchCandidate(variant=0, values={}), seeds=(), drawn_by="limit", refusal=over,
            )  # fmt: skip
            return [Decision(proposal=end, trials=())]
        if batch:
            return batch
    if live:
        return []
    promoted = list(promotions(spec.search, earlier, scores))
    if promoted:
        return list(_continued(spec, promoted, earlier))
    if earlier and earlier[-1].purpose != "confirm":
        return list(_confirm(spec, space, earlier, scores))
    return []


def _why_too_many_refused(earlier: Iterable[Proposal]) -> str | None:
    """Say that the last batch of settings had too many that were refused; None if it had not."""
    searched = [proposal for proposal in earlier if proposal.purpose == "search"]
    last_batch = [proposal for proposal in searched if proposal.batch == searched[-1].batch]
    refused = sum(proposal.refusal is not None for proposal in last_batch)
    if refused < MOST_REFUSED:
        return None
    return f"{refused} settings of a batch were refused, the last because: {last_batch[-1].refusal}"


def live_limit(spec: Spec) -> int:
    """Return how many trials wait or run at most: a decision is made when there are fewer."""
    assert spec.search is not None
    return spec.search.batch * len(space_of(spec).seeds) if spec.search.is_asynchronous else 1


def trials_of(spec: Spec, proposal: Proposal) -> tuple[Expanded, ...]:
    """Return the trials of a proposal, one for each seed; none if it was refused.

    Raises:
        ConfigError: the settings cannot be combined.
    """
    candidate = proposal.candidate
    # An arm is one setting: the trials that confirm it must not be mixed with those of another.
    label_end = "" if proposal.confirms is None else f", proposal {proposal.confirms}"
    trials = []
    for seed in proposal.seeds:
        trial = expand_one(spec, candidate.variant, {**candidate.values, "seed": seed})
        if trial is not None:
            trials.append(replace(trial, label=trial.label + label_end))
    return tuple(trials)


def _search(
    spec: Spec,
    space: Space,
    earlier: Sequence[Proposal],
    scores: Mapping[ScoreKey, float],
) -> Iterator[Decision]:
    """Yield the next batch; nothing when enough settings were tried, or too many were refused."""
    search = spec.search
    assert search is not None
    size = sum(space.sizes)
    searched = [proposal for proposal in earlier if proposal.purpose == "search"]
    results = _results_to_read(search, searched, scores)
    left = min(search.trials or size, size) - sum(proposal.refusal is None for proposal in searched)
    wanted = min(left, _most_in_batch(search, is_first=not earlier))
    batch = earlier[-1].batch + 1 if earlier else 0
    keys_tried = {proposal.candidate.key for proposal in searched}
    trial_ids = {trial_id for proposal in searched for trial_id in proposal.trial_ids}
    number = len(earlier)
    refused = 0
    while wanted > 0 and refused < MOST_REFUSED and len(keys_tried) < size:
        drawn = propose(space, search, len(results), results)
        candidate = drawn.candidate
        drawn_by = search.sampler
        seed = drawn.seed
        if candidate.key in keys_tried:
            seed = stream(search.seed, "untried", number)
            candidate = _untried(space, keys_tried, seed)
            drawn_by = "random"
        read = [index for index in drawn.read if index < len(searched)]  # the others are of this batch
        keys_tried.add(candidate.key)
        results.append(SettingResult(candidate=candidate, score=None, is_pending=True))
        proposal = Proposal(
            number=number, batch=batch, purpose="search", candidate=candidate, seeds=space.seeds, drawn_by=drawn_by,
            rung=0 if search.halving else None, sampler_seed=seed,
            reads=tuple(searched[index].number for index in read),
            read_scores=tuple(results[index].score for index in read),
        )  # fmt: skip
        decision = with_trials(spec, proposal, trial_ids)
        yield decision
        number += 1
        if decision.proposal.refusal is None:
            wanted -= 1
        else:
            refused += 1
        trial_ids.update(decision.proposal.trial_ids)


def _most_in_batch(search: SearchSettings, *, is_first: bool) -> float:
    """Return how many settings are proposed at once: all of a sampler that reads no scores."""
    if search.is_asynchronous:
        return search.batch if is_first else 1
    return search.batch if search.reads_scores else math.inf


def _results_to_read(
    search: SearchSettings, searched: Sequence[Proposal], scores: Mapping[ScoreKey, float]
) -> list[SettingResult]:
    """Return the result of each proposal of a setting; asynchronously, those without a score may still get one."""
    results = [result_of(proposal, scores) for proposal in searched]
    if search.is_asynchronous:
        # No row says whether a trial without a score has failed: samplers keep away from its setting.
        for index, proposal in enumerate(searched):
            has_no_score_yet = results[index].score is None and bool(proposal.trial_ids)
            if has_no_score_yet:
                results[index] = replace(results[index], is_pending=True)
    return results


def planned_trials(spec: Spec, proposal: Proposal) -> tuple[PlannedTrial, ...]:
    """Plan the trials of a proposal, up to its rung.

    Raises:
        ConfigError: the settings cannot be combined, or have no such rung.
    """
    assert spec.search is not None
    rung = None if proposal.rung is None else ladder(spec.search)[proposal.rung]
    return tuple(plan_trial(trial, rung) for trial in trials_of(spec, proposal))


def _continued(spec: Spec, promoted: Iterable[Proposal], earlier: Sequence[Proposal]) -> Iterator[Decision]:
    """Yield these promotions as the next batch, with their trials."""
    for promotion in promoted:
        proposal = replace(promotion, batch=earlier[-1].batch + 1)
        yield Decision(proposal=proposal, trials=planned_trials(spec, proposal))


def with_trials(spec: Spec, proposal: Proposal, ids_in_use: Collection[str]) -> Decision:
    """Return a proposal with its trials, or with the reason why it has none; it may not have one of `ids_in_use`."""
    try:
        trials = planned_trials(spec, proposal)
    except ConfigError as error:
        return Decision(proposal=replace(proposal, refusal=str(error)), trials=())
    if len(trials) < len(proposal.seeds):
        return Decision(proposal=replace(proposal, refusal="[[exclude]] leaves it out"), trials=())
    ids = tuple(trial.trial_id for trial in trials)
    if not set(ids).isdisjoint(ids_in_use):
        return Decision(proposal=replace(proposal, refusal="it is the same trial as another setting"), trials=())
    return Decision(proposal=replace(proposal, trial_ids=ids), trials=trials)


def _untried(space: Space, keys_tried: set[str], draw: int) -> SearchCandidate:
    """Return a setting that was not proposed yet, all with equal chances; `draw` is a random number of 63 bits."""
    size = sum(space.sizes)
    for number in range(DRAWS):
        candidate = space.at(stream(draw, "setting", number) % size)
        if candidate.key not in keys_tried:
            return candidate
    all_settings = (space.at(number) for number in range(size))
    untried = [candidate for candidate in all_settings if candidate.key not in keys_tried]
    return untried[draw % len(untried)]


def _confirm(
    spec: Spec, space: Space, earlier: Sequence[Proposal], scores: Mapping[ScoreKey, float]
) -> Iterator[Decision]:
    """Yield the best settings again, with seeds above those of the search."""
    if spec.confirm is None:
        return
    batch = earlier[-1].batch + 1
    first_seed = max(space.seeds) + 1
    new_seeds = tuple(range(first_seed, first_seed + spec.confirm.seeds))
    read = what_was_read(filter(_has_ended, earlier), scores)
    for number, best in enumerate(best_of(earlier, scores, spec.confirm), start=len(earlier)):
        proposal = Proposal(
            number=number, batch=batch, purpose="confirm", candidate=best.candidate, confirms=best.origin,
            seeds=new_seeds, drawn_by="best", **read,
        )  # fmt: skip
        yield with_trials(spec, proposal, set())


def best_of(earlier: Sequence[Proposal], scores: Mapping[ScoreKey, float], confirm: ConfirmSettings) -> list[Proposal]:
    """Return the proposals with the highest mean validation scores at the end, the best first.

    Of equal ones, the earlier is first. Settings that were confirmed already are left out.
    """
    confirmed = {proposal.confirms for proposal in earlier}
    ranked = []
    for proposal in earlier:
        if _has_ended(proposal):
            score = result_of(proposal, scores).score
            if score is not None:
                ranked.append((-score, proposal.origin, proposal.number))
    ranked.sort()
    return [earlier[number] for _score, origin, number in ranked[: confirm.top] if origin not in confirmed]


def _has_ended(proposal: Proposal) -> bool:
    """Whether a setting has run to its end; not of one that confirms another."""
    return proposal.rung is None and bool(proposal.trial_ids) and proposal.purpose != "confirm"
