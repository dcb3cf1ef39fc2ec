"""Means and their t intervals, by hand and against SciPy."""

import math

import numpy as np
import pytest
from scipy import stats

from results.statistics.means import mean_interval


def test_the_interval_is_scipys() -> None:
    values = np.random.default_rng(4).exponential(1, 20)
    found = mean_interval(list(values))
    theirs = stats.t.interval(0.95, 19, loc=values.mean(), scale=stats.sem(values))
    assert (found.low, found.high) == pytest.approx(theirs)


def test_equal_values_have_an_interval_of_no_width_and_a_single_one_has_none() -> None:
    equal, single, rounded = (
        mean_interval(values) for values in ([0.5] * 4, [0.7], [11 / 12 - 8 / 12, 7 / 12 - 4 / 12, 5 / 12 - 2 / 12])
    )
    assert (equal.mean, equal.low, equal.high) == (0.5, 0.5, 0.5)
    assert (single.mean, single.low) == (0.7, None) and mean_interval([]).mean is None
    assert (rounded.deviation, rounded.low == rounded.high) == (0.0, True)


def test_what_cannot_be_averaged_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        mean_interval([0.5, math.nan])
