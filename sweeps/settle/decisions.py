"""What a look decides: a pure function of the spec, the earlier looks and the test scores."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace

from results.arms.looks import Comparison, RecordedLook
from results.statistics.sequential import Design, has_collapse, look_at, unbiased_mean
from sweeps.settle.family import PlannedComparison, TrialsBySeed
from sweeps.settle.look_scores import LookScores, ScoreAt
from sweeps.spec.settle_settings import SettleSettings


def open_comparisons(
    comparisons: Sequence[PlannedComparison], looks: Iterable[RecordedLook]
) -> list[PlannedComparison]:
    """Return the comparisons that are open after these looks; before the first one, all."""
    last = {look.comparison: look for look in looks}
    return [planned for planned in comparisons if planned.comparison not in last or last[planned.comparison].is_open]


def decide(
    comparisons: Sequence[PlannedComparison],
    settle: SettleSettings,
    number: int,
    earlier: Sequence[RecordedLook],
    scores: LookScores,
    ended: str | None = None,
) -> list[RecordedLook]:
    """Look at all comparisons that are open.

    The family is sealed at the first look: those that are complete then share alpha, whatever becomes of them.

    Args:
        number: of the look, from 0.
        earlier: the looks before it.
        ended: why no more seeds are added after this look; None: they are.

    Returns:
        the new looks, in the order of the comparisons; none if no comparison is open.
    """
    seeds = settle.looks[number]
    looked_at = open_comparisons(comparisons, earlier)
    failed = {planned.comparison: _unscored(planned, seeds, scores.by_point) for planned in looked_at}
    sealed = sum(not trials for trials in failed.values()) if number == 0 else earlier[0].family
    design = Design(settle.looks, settle.alpha, settle.matters, max(1, sealed))
    seeds_read = _seeds_read(looked_at, failed, earlier, seeds)
    scores_read: dict[Comparison, tuple[list[float], list[float]]] = {}
    differences: dict[Comparison, list[float]] = {}
    for planned in comparisons:
        comparison = planned.comparison
        count = seeds_read.get(comparison, 0)
        if count:
            own = _means(planned.trials, count, comparison.asked, scores.by_point)
            control = _means(planned.control_trials, count, comparison.against_asked, scores.by_point)
            scores_read[comparison] = own, control
            differences[comparison] = [own[seed] - control[seed] for seed in range(count)]
    looks = look_at(differences, design, scores.image)
    recorded = []
    for planned in looked_at:
        comparison = planned.comparison
        facts = RecordedLook(
            comparison=comparison,
            number=comparisons.index(planned),
            look=number,
            metric=scores.metric,
            seeds=seeds,
            verdict="incomplete",
            failed=failed[comparison],
            family=sealed,
            alpha=settle.alpha,
            matters=settle.matters,
            seeds_at_most=settle.most_seeds,
        )
        if not failed[comparison]:
            look = looks[comparison][-1]
            own, control = scores_read[comparison]
            numbers = {name: value for name, value in asdict(look).items() if name != "seeds"}
            facts = replace(facts, **numbers, scores=tuple(own), against_scores=tuple(control))
            facts = replace(facts, has_collapse=has_collapse(differences[comparison], scores.image))
            if look.verdict == "open":
                facts = replace(facts, ended=ended)
            else:
                facts = replace(facts, unbiased=unbiased_mean(looks[comparison], design))
        recorded.append(facts)
    return recorded


def _unscored(planned: PlannedComparison, seeds: int, scores: Mapping[ScoreAt, float]) -> tuple[str, ...]:
    """Return the trials of both arms that have no score at their point, in the order of the seeds."""
    comparison = planned.comparison
    unscored = []
    for seed in range(seeds):
        unscored += [trial for trial in planned.trials[seed] if (trial, comparison.asked) not in scores]
        unscored += [trial for trial in planned.control_trials[seed] if (trial, comparison.against_asked) not in scores]
    return tuple(unscored)


def _seeds_read(
    looked_at: Iterable[PlannedComparison],
    failed: Mapping[Comparison, tuple[str, ...]],
    earlier: Sequence[RecordedLook],
    seeds: int,
) -> dict[Comparison, int]:
    """Return how many seeds of each comparison of the family have been read: those that are settled keep theirs."""
    seeds_read: dict[Comparison, int] = {}
    for look in earlier:
        if look.verdict != "incomplete":
            seeds_read[look.comparison] = look.seeds
    for planned in looked_at:
        if not failed[planned.comparison]:
            seeds_read[planned.comparison] = seeds
    return seeds_read


def _means(
    trials_by_seed: TrialsBySeed, seeds: int, asked: float | None, scores: Mapping[ScoreAt, float]
) -> list[float]:
    """Return the score at each of the first seeds: the mean over its trials."""
    means = []
    for seed in range(seeds):
        scores_of_seed = [scores[trial, asked] for trial in trials_by_seed[seed]]
        means.append(sum(scores_of_seed) / len(scores_of_seed))
    return means
