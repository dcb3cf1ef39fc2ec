"""Means, interquartile means and their intervals, by hand and against SciPy."""

import math

import numpy as np
import pytest
from scipy import stats

from results.statistics.means import BOOTSTRAP_FROM, iqm, iqm_interval, mean_interval, stratified_mean, summary


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_the_iqm_of_eight_values_by_hand() -> None:
    assert iqm(np.array([8.0, 100.0, 3.0, 4.0, -50.0, 5.0, 6.0, 2.0])) == (3 + 4 + 5 + 6) / 4


@pytest.mark.parametrize("n", [1, 3, 4, 15, 21, 100])
def test_the_iqm_is_scipys_trimmed_mean(n: int) -> None:
    values = rng(n).normal(0, 1, n)
    assert float(iqm(values)) == pytest.approx(stats.trim_mean(values, 0.25))


def test_one_task_has_the_t_interval_and_two_have_welchs() -> None:
    first, second = rng(1).normal(0.8, 0.1, 5), rng(2).normal(0.6, 0.02, 9)
    one, mean = stratified_mean([first]), mean_interval(list(first))
    assert (one.value, one.low, one.high) == pytest.approx((mean.mean, mean.low, mean.high))
    two = stratified_mean([first, second])
    welch = stats.ttest_ind(first, -second, equal_var=False).confidence_interval(0.95)  # of the sum of the means
    assert two.value == pytest.approx((first.mean() + second.mean()) / 2)
    assert (two.low, two.high) == pytest.approx((welch.low / 2, welch.high / 2))
    assert (two.n, two.tasks, two.statistic) == (14, 2, "mean")


def test_equal_values_have_an_interval_of_no_width_and_a_single_one_has_none() -> None:
    equal = stratified_mean([[0.5, 0.5], [0.7, 0.7]])
    assert (equal.low, equal.high) == (equal.value, equal.value)
    assert equal.value == pytest.approx(0.6)
    single = stratified_mean([[0.5, 0.6], [0.7]])
    assert (single.value, single.low, single.high) == (pytest.approx(0.625), None, None)
    assert stratified_mean([]).value is None


def test_the_statistic_changes_at_fifteen_values_over_all_tasks() -> None:
    values = list(rng(3).normal(0.8, 0.1, BOOTSTRAP_FROM))
    assert (BOOTSTRAP_FROM, summary([values[:7], values[7:14]], rng()).statistic) == (15, "mean")
    above = summary([values[:7], values[7:]], rng())
    assert (above.statistic, above.n, above.tasks) == ("IQM", 15, 2)
    assert above.value == pytest.approx(stats.trim_mean(values, 0.25))


def test_many_values_agree_with_scipys_bootstrap() -> None:
    values = rng(4).exponential(1, 400)
    found = iqm_interval([values], rng(5))
    scipys = stats.bootstrap(
        (values,), lambda data, axis: stats.trim_mean(data, 0.25, axis=axis), method="percentile", rng=rng(6)
    ).confidence_interval
    assert found.low == pytest.approx(scipys.low, abs=0.01)
    assert found.high == pytest.approx(scipys.high, abs=0.01)


def test_resampling_stays_within_the_tasks() -> None:
    """Two tasks far apart: a bootstrap over all values would mix their shares; within tasks nothing varies."""
    found = iqm_interval([[0.0] * 8, [1.0] * 8], rng())
    assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)


def test_the_interval_is_wider_than_the_percentiles_where_tasks_are_small() -> None:
    values = [list(rng(seed).normal(0, 1, 5)) for seed in range(3)]
    found = iqm_interval(values, rng(7))
    drawn = [np.asarray(task)[rng(8).integers(0, 5, (4000, 5))] for task in values]
    low, high = np.quantile(iqm(np.concatenate(drawn, axis=1)), [0.025, 0.975])
    assert found.low is not None and found.high is not None
    assert 1.1 < (found.high - found.low) / (high - low) < 1.6


def test_draws_come_from_the_given_generator_alone() -> None:
    tasks = [list(rng(9).normal(0, 1, 20))]
    assert iqm_interval(tasks, rng(1)) == iqm_interval(tasks, rng(1))
    assert iqm_interval(tasks, rng(1)) != iqm_interval(tasks, rng(2))


def test_what_cannot_be_averaged_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        summary([[0.5, math.nan]], rng())
    with pytest.raises(ValueError, match="at least one value"):
        iqm_interval([], rng())
    assert iqm_interval([[0.5] * 20, [0.7]], rng()).low is None
