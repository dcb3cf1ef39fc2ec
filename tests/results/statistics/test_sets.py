"""Differences over data sets: against scipy, and how often intervals and families err."""

import numpy as np
import pytest
from scipy import stats

from results.statistics.means import mean_interval
from results.statistics.pairs import holm
from results.statistics.sets import over_sets

TABLES = 1_500
CELLS = [
    (sets, seeds, spread) for sets in (4, 6, 8) for seeds in (3, 6, 12) for spread in (0.0, 1.0, 3.0)
]  # spread between sets, in deviations of a pair's difference


def drawn(sets: int, seeds: int, spread: float, tables: int = TABLES) -> tuple[np.ndarray, np.ndarray]:
    """Paired differences (tables, sets, seeds) around 0.3, and the true difference of one more set of each table."""
    numbers = np.random.default_rng([sets, seeds, int(spread)])
    of_set = 0.3 + spread * numbers.standard_normal((tables, sets + 1))
    return of_set[:, :-1, None] + numbers.standard_normal((tables, sets, seeds)), of_set[:, -1]


def test_it_is_the_t_test_of_the_sets_means() -> None:
    values = [0.02, 0.03, -0.01, 0.04, 0.0]
    found = over_sets(values)
    reference = stats.ttest_1samp(values, 0.0)
    interval = reference.confidence_interval()
    assert found.p == pytest.approx(reference.pvalue)
    assert (found.mean.low, found.mean.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    half = stats.t.ppf(0.975, 4) * np.std(values, ddof=1) * np.sqrt(1 + 1 / 5)
    assert (found.new_low, found.new_high) == (
        pytest.approx(np.mean(values) - half),
        pytest.approx(np.mean(values) + half),
    )
    assert over_sets([0.1]).p is None and over_sets([0.0, 0.0]).p == 1.0 and over_sets([0.1, 0.1]).p == 0.0


@pytest.mark.check
@pytest.mark.parametrize(("sets", "seeds", "spread"), CELLS)
def test_both_intervals_cover(sets: int, seeds: int, spread: float) -> None:
    """In each cell, in 93 of 100 tables: the mean's the truth, and that of a new set its measured difference."""
    differences, new = drawn(sets, seeds, spread)
    numbers = np.random.default_rng(7)
    measured = new + numbers.standard_normal(len(new)) / np.sqrt(seeds)  # of one more set with as many seeds
    found = [over_sets(list(table.mean(axis=1))) for table in differences]
    covered = np.mean([one.mean.low <= 0.3 <= one.mean.high for one in found])  # type: ignore[operator]
    new_covered = np.mean([one.new_low <= value <= one.new_high for one, value in zip(found, measured, strict=True)])  # type: ignore[operator]
    assert min(covered, new_covered) > 0.93


def test_pairs_of_all_sets_are_no_independent_observations() -> None:
    """Planted: the interval of all pairs together, where the difference depends on the set."""
    differences, _ = drawn(4, 12, 3.0, tables=300)
    pooled = [mean_interval(list(table.ravel())) for table in differences]
    assert np.mean([one.low <= 0.3 <= one.high for one in pooled]) < 0.6  # type: ignore[operator]


@pytest.mark.check
@pytest.mark.parametrize("spread", [0.0, 3.0])
def test_a_family_errs_in_one_table_of_twenty(spread: float) -> None:
    """Five arms without a difference on 4 sets: how often one of them is called better or worse, after Holm."""
    numbers = np.random.default_rng(3)
    wrong = 0
    for _ in range(4_000):
        shared = numbers.standard_normal((4, 6))  # the control's noise, which all rows share
        means = [(numbers.standard_normal((4, 6)) - shared).mean(axis=1) for _ in range(5)]
        means = [mean + spread * numbers.standard_normal(4) for mean in means]
        wrong += min(p for p in holm([over_sets(list(mean)).p for mean in means]) if p is not None) <= 0.05
    assert wrong / 4_000 <= 0.055
