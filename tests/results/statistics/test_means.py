"""Means, interquartile means and their intervals, by hand and against SciPy."""

import math

import numpy as np
import pytest
from scipy import stats

from results.statistics.means import BOOTSTRAP_FROM, iqm, iqm_interval, mean_interval, statistic_of, summary


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_the_iqm_of_eight_values_by_hand() -> None:
    assert iqm(np.array([8.0, 100.0, 3.0, 4.0, -50.0, 5.0, 6.0, 2.0])) == (3 + 4 + 5 + 6) / 4


@pytest.mark.parametrize("n", [1, 3, 4, 15, 21, 100])
def test_the_iqm_is_scipys_trimmed_mean(n: int) -> None:
    values = rng(n).normal(0, 1, n)
    assert float(iqm(values)) == pytest.approx(stats.trim_mean(values, 0.25))


def test_equal_values_have_an_interval_of_no_width_and_a_single_one_has_none() -> None:
    for statistic in ("mean", "IQM"):
        equal = summary([0.5] * 4, rng(), statistic)
        assert (equal.value, equal.low, equal.high) == (0.5, 0.5, 0.5)
        assert (summary([0.7], rng(), statistic).value, summary([0.7], rng(), statistic).low) == (0.7, None)
    assert summary([], rng(), "mean").value is None
    rounded = mean_interval([11 / 12 - 8 / 12, 7 / 12 - 4 / 12, 5 / 12 - 2 / 12])
    assert (rounded.deviation, rounded.low == rounded.high) == (0.0, True)


def test_the_statistic_changes_at_fifteen_values() -> None:
    values = list(rng(3).normal(0.8, 0.1, BOOTSTRAP_FROM))
    assert (BOOTSTRAP_FROM, statistic_of(14), statistic_of(15)) == (15, "mean", "IQM")
    below, above = summary(values[:14], rng(), statistic_of(14)), summary(values, rng(), statistic_of(15))
    mean = mean_interval(values[:14])
    assert (below.statistic, below.value, below.low, below.high) == ("mean", mean.mean, mean.low, mean.high)
    assert (above.statistic, above.n, above.value) == ("IQM", 15, pytest.approx(stats.trim_mean(values, 0.25)))


def test_many_values_agree_with_scipys_bootstrap() -> None:
    values = rng(4).exponential(1, 400)
    found = iqm_interval(values, rng(5))
    scipys = stats.bootstrap(
        (values,), lambda data, axis: stats.trim_mean(data, 0.25, axis=axis), method="percentile", rng=rng(6)
    ).confidence_interval
    assert found.low == pytest.approx(scipys.low, abs=0.01)
    assert found.high == pytest.approx(scipys.high, abs=0.01)


def test_the_interval_is_wider_than_the_percentiles_of_few_values() -> None:
    values = rng(3).normal(0, 1, 15)
    found = iqm_interval(values, rng(7))
    low, high = np.quantile(iqm(values[rng(8).integers(0, 15, (4000, 15))]), [0.025, 0.975])
    assert found.low is not None and found.high is not None
    assert 1.05 < (found.high - found.low) / (high - low) < 1.4


def test_what_cannot_be_averaged_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        summary([0.5, math.nan], rng(), "mean")
    with pytest.raises(ValueError, match="at least one value"):
        iqm_interval([], rng())
