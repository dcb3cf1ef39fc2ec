"""Successive halving: of the settings that rest at a rung, the best share continues to the next.

Synchronous as in Jamieson and Talwalkar, AISTATS 2016, one bracket; asynchronous as in Li et al., MLSys 2020. A
continued trial is the same trial: its id and stages stay.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sweeps.run.trial_producer import ScoreKey
from sweeps.search.records import Proposal, what_was_read
from sweeps.spec.search_settings import SearchSettings
from tailor.execution.dry_run import Rung


def ladder(settings: SearchSettings) -> tuple[Rung, ...]:
    """Return the rungs before the end; none without halving.

    >>> [str(rung) for rung in ladder(SearchSettings(trials=9, halving={"epochs": (2, 6)}))]
    ['2 epochs', '6 epochs']
    """
    if settings.halving is None:
        return ()
    if settings.halving.epochs:
        return tuple(Rung(number=number, epochs=epochs) for number, epochs in enumerate(settings.halving.epochs))
    return tuple(Rung(number=number, point=point) for number, point in enumerate(settings.halving.points))


def rung_above(number: int, settings: SearchSettings) -> int | None:
    """Return the number of the next rung; None: the end."""
    return number + 1 if number + 1 < len(ladder(settings)) else None


def promotions(
    settings: SearchSettings, earlier: Sequence[Proposal], scores: Mapping[ScoreKey, float]
) -> Iterator[Proposal]:
    """Yield the promotions from the lowest rung that has some; none when all are made.

    The best of a rung by validation are promoted, one of `eta`, rounded up; of equal ones the earlier.
    """
    for rung in ladder(settings):
        standing = _standing_at(rung, settings, earlier, scores)
        assert settings.halving is not None
        left = math.ceil(standing.reaching / settings.halving.eta) - len(standing.promoted)
        ranked = [proposal for proposal in standing.ranked if proposal.origin not in standing.promoted]
        for number, proposal in enumerate(ranked[: max(0, left)], start=len(earlier)):
            yield _promoted(proposal, number, standing, settings)
        if left > 0 and ranked:
            return


def promotion_so_far(
    settings: SearchSettings, earlier: Sequence[Proposal], scores: Mapping[ScoreKey, float]
) -> Iterator[Proposal]:
    """Yield the promotion from the highest rung that has one, if any: of those that have reached it, the best share.

    The share is rounded down, so that the first ones that reach a rung do not continue because they are first.
    """
    for rung in reversed(ladder(settings)):
        standing = _standing_at(rung, settings, earlier, scores)
        assert settings.halving is not None
        best_share = standing.ranked[: len(standing.ranked) // settings.halving.eta]
        for proposal in best_share:
            if proposal.origin not in standing.promoted:
                yield _promoted(proposal, len(earlier), standing, settings)
                return


@dataclass(frozen=True, kw_only=True)
class _Standing:
    """The proposals at a rung."""

    above: int | None  # number of the next rung; None: the end
    reaching: int  # how many run to the rung, or have reached it
    promoted: set[int | None]  # origins of those that were promoted to the next rung
    ranked: list[Proposal]  # those with a score, the best first; of equal ones the earlier
    read: dict[str, Any]  # the scores by which they are ranked, as `what_was_read` gives them


def _standing_at(
    rung: Rung, settings: SearchSettings, earlier: Sequence[Proposal], scores: Mapping[ScoreKey, float]
) -> _Standing:
    above = rung_above(rung.number, settings)
    reaching = [proposal for proposal in earlier if proposal.rung == rung.number and proposal.refusal is None]
    read = what_was_read(reaching, scores)
    scored = []
    for proposal, score in zip(reaching, read["read_scores"], strict=True):
        if score is not None:
            scored.append((-score, proposal.origin, proposal))
    scored.sort(key=lambda entry: entry[:2])
    ranked = [proposal for _score, _origin, proposal in scored]
    promoted = _promoted_to(above, earlier)
    return _Standing(above=above, reaching=len(reaching), promoted=promoted, ranked=ranked, read=read)


def _promoted_to(rung: int | None, proposals: Iterable[Proposal]) -> set[int | None]:
    """Return the origins of the proposals that were promoted to a rung; None: to the end."""
    return {proposal.promotes for proposal in proposals if proposal.purpose == "promote" and proposal.rung == rung}


def _promoted(proposal: Proposal, number: int, standing: _Standing, settings: SearchSettings) -> Proposal:
    """Return the promotion of a proposal to the next rung."""
    assert settings.halving is not None
    return replace(
        proposal,
        number=number,
        purpose="promote",
        promotes=proposal.origin,
        rung=standing.above,
        eta=settings.halving.eta,
        drawn_by="best",
        sampler_seed=None,
        **standing.read,
    )


def is_longer(settings: SearchSettings, kept: SearchSettings) -> bool:
    """Whether a search differs from that of a run only in its eta, which is smaller: more settings continue."""
    if settings.halving is None or kept.halving is None or settings.halving.eta >= kept.halving.eta:
        return False
    halving_with_same_eta = settings.halving.model_copy(update={"eta": kept.halving.eta})
    return settings.model_copy(update={"halving": halving_with_same_eta}) == kept


def stopped_trials(settings: SearchSettings, proposals: Sequence[Proposal], *, is_over: bool) -> set[str]:
    """Return the trials that rest at a rung from which others were promoted; asynchronously, when the search is over.

    Until then each of them may become one of the best.
    """
    stopped: set[str] = set()
    if settings.is_asynchronous and not is_over:
        return stopped
    for rung in ladder(settings):
        promoted = _promoted_to(rung_above(rung.number, settings), proposals)
        if not promoted:
            continue
        for proposal in proposals:
            if proposal.rung == rung.number and proposal.origin not in promoted:
                stopped.update(proposal.trial_ids)
    return stopped
