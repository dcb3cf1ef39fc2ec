"""Holm's correction and the probability of improvement, by hand and against statsmodels; what lost pairs settle."""

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from results.statistics.pairs import compare_pairs, doubts, holm


def test_holm_by_hand() -> None:
    # Sorted: 0.01 x 4, 0.02 x 3, 0.03 x 2, 0.9 x 1; none may be below the one before it.
    assert holm([0.9, 0.01, 0.03, 0.02]) == pytest.approx([0.9, 0.04, 0.06, 0.06])


@pytest.mark.parametrize("seed", range(5))
def test_holm_agrees_with_statsmodels(seed: int) -> None:
    p_values = np.random.default_rng(seed).random(12) ** 3
    assert holm(list(p_values)) == pytest.approx(list(multipletests(p_values, method="holm")[1]))


def test_what_has_no_p_is_not_of_the_family() -> None:
    assert holm([0.02, None, 0.03]) == pytest.approx([0.04, None, 0.04])
    assert holm([]) == []


def test_the_probability_of_improvement_counts_ties_for_half() -> None:
    first = {0: 0.9, 1: 0.8, 2: 0.7, 3: 0.6}
    second = {0: 0.8, 1: 0.8, 2: 0.6, 3: 0.7}
    assert compare_pairs(first, second).improvement == (2 + 0.5) / 4
    assert compare_pairs(first, {}).improvement is None


@pytest.mark.parametrize("seeds", [6, 10, 20])
@pytest.mark.parametrize("share", [0.05, 0.1, 0.2])
@pytest.mark.parametrize("lowest", [False, True])
def test_arms_that_lose_seeds_are_not_told_apart_by_chance(seeds: int, share: float, lowest: bool) -> None:
    """Two equal arms, of which one loses seeds, its lowest scores or any: at most one verdict in twenty."""
    numbers = np.random.default_rng(seeds)
    verdicts = 0
    for _ in range(400):
        scores, control = (dict(enumerate(numbers.normal(size=seeds).tolist())) for _ in range(2))
        count = int(share * seeds + numbers.random())
        order = sorted(scores, key=scores.__getitem__) if lowest else numbers.permutation(seeds).tolist()
        lost = set(order[:count])
        kept = {seed: score for seed, score in scores.items() if seed not in lost}
        verdicts += not doubts(compare_pairs(kept, control, lost))
    assert verdicts <= 0.05 * 400


def test_a_block_that_neither_has_is_left_out() -> None:
    first, second = ({seed: seed + ahead for seed in range(9)} for ahead in (0.5, 0.0))
    both = compare_pairs(first, second, {9})
    assert both.with_lost == compare_pairs(first, second) and both.lost == 1 and not doubts(both)
    assert doubts(compare_pairs(first, second, {9, 10, 11}))
