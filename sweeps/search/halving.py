"""Successive halving: of the settings that rest at a rung, the best share continues to the next.

Synchronous as in Jamieson and Talwalkar, AISTATS 2016, one bracket; asynchronous as in Li et al., MLSys 2020. A
continued trial is the same trial: its id and stages stay.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from sweeps.search.records import Proposal, Score, ScoreKey, result_of
from sweeps.spec.search_settings import SearchSettings
from tailor.execution.dry_run import Rung

BY_ORDER = "asynchronous: which settings continue depends on the order in which trials end, so runs and sites differ"


def ladder(settings: SearchSettings) -> tuple[Rung, ...]:
    """Return the rungs before the end; none without halving.

    >>> [str(rung) for rung in ladder(SearchSettings(trials=9, halving={"epochs": (2, 6)}))]
    ['2 epochs', '6 epochs']
    """
    if settings.halving is None:
        return ()
    of_epochs = [Rung(number=number, epochs=epochs) for number, epochs in enumerate(settings.halving.epochs)]
    return tuple(of_epochs or (Rung(number=number, point=p) for number, p in enumerate(settings.halving.points)))


def rung_above(number: int, settings: SearchSettings) -> int | None:
    """Return the number of the next rung; None: the end."""
    return number + 1 if number + 1 < len(ladder(settings)) else None


def promotions(
    settings: SearchSettings, earlier: Sequence[Proposal], scores: Mapping[ScoreKey, Score]
) -> Iterator[Proposal]:
    """Yield the promotions from the lowest rung that has some; none when all are made.

    The best of a rung by validation are promoted, one of `eta`, rounded up; of equal ones the earlier.
    """
    for rung in ladder(settings):
        at = _at(rung, settings, earlier, scores)
        assert settings.halving is not None
        left = -(-at.there // settings.halving.eta) - len(at.promoted)
        ranked = [one for one in at.ranked if one.origin not in at.promoted]
        for number, one in enumerate(ranked[: max(0, left)], start=len(earlier)):
            yield _promoted(one, number, at.above, settings)
        if left > 0 and ranked:
            return


def promotion_so_far(
    settings: SearchSettings, earlier: Sequence[Proposal], scores: Mapping[ScoreKey, Score]
) -> Iterator[Proposal]:
    """Yield the promotion from the highest rung that has one, if any: of those that have reached it, the best share.

    The share is rounded down, so that the first ones that reach a rung do not continue because they are first.
    """
    for rung in reversed(ladder(settings)):
        at = _at(rung, settings, earlier, scores)
        assert settings.halving is not None
        for one in at.ranked[: len(at.ranked) // settings.halving.eta]:
            if one.origin not in at.promoted:
                yield _promoted(one, len(earlier), at.above, settings)
                return


@dataclass(frozen=True, kw_only=True)
class _At:
    """The proposals at a rung."""

    above: int | None  # number of the next rung
    there: int  # how many run to the rung, or have reached it
    promoted: set[int | None]  # origins
    ranked: list[Proposal]  # those with a score, the best first


def _at(rung: Rung, settings: SearchSettings, earlier: Sequence[Proposal], scores: Mapping[ScoreKey, Score]) -> _At:
    above = rung_above(rung.number, settings)
    there = [one for one in earlier if one.rung == rung.number and one.refusal is None]
    results = [(result_of(one, scores).score, one) for one in there]
    ranked = sorted([(-score, one.origin, one) for score, one in results if score is not None], key=lambda o: o[:2])
    promoted = {one.promotes for one in earlier if one.purpose == "promote" and one.rung == above}
    return _At(above=above, there=len(there), promoted=promoted, ranked=[one for _, _, one in ranked])


def _promoted(one: Proposal, number: int, above: int | None, settings: SearchSettings) -> Proposal:
    assert settings.halving is not None
    continued = replace(one, number=number, purpose="promote", promotes=one.origin, rung=above)
    return replace(continued, eta=settings.halving.eta, drawn_by="best", sampler_seed=None, reads=None)


def is_longer(settings: SearchSettings, kept: SearchSettings) -> bool:
    """Whether a search differs from that of a run only in its eta, which is smaller: more settings continue."""
    if settings.halving is None or kept.halving is None or settings.halving.eta >= kept.halving.eta:
        return False
    return with_eta(settings, kept.halving.eta) == kept


def with_eta(settings: SearchSettings, eta: int | None) -> SearchSettings:
    """Return the same search with another eta; None: as it is."""
    if settings.halving is None or eta is None:
        return settings
    return settings.model_copy(update={"halving": settings.halving.model_copy(update={"eta": eta})})


def stopped_trials(settings: SearchSettings, proposals: Sequence[Proposal], *, is_over: bool) -> set[str]:
    """Return the trials that rest at a rung from which others were promoted; asynchronously, when the search is over.

    Until then each of them may become one of the best.
    """
    found: set[str] = set()
    if settings.is_asynchronous and not is_over:
        return found
    for rung in ladder(settings):
        above = rung_above(rung.number, settings)
        promoted = {one.promotes for one in proposals if one.purpose == "promote" and one.rung == above}
        if promoted:
            stay = (one for one in proposals if one.rung == rung.number and one.origin not in promoted)
            found |= {key for one in stay for key in one.trial_ids}
    return found
