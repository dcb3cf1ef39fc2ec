"""Differences over data sets: each data set is one observation, however many seeds it has.

Pooling the pairs of all data sets as if they were independent gives intervals that are too narrow as soon as the
difference depends on the data set: tests/results/statistics/test_sets.py has both.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import special

from results.statistics.means import Mean, mean_interval, t_quantile


@dataclass(frozen=True)
class OverSets:
    """The mean over data sets, each the mean of its paired differences, and what a new data set may show.

    Attributes:
        mean: of the sets' means, with the t interval for the mean over all such data sets; None for one set.
        new_low, new_high: 95% prediction interval for the difference on a new data set; None for one set.
        p: two-sided, of a mean of 0 (t test with one degree of freedom less than there are sets); None for one set.
    """

    mean: Mean
    new_low: float | None
    new_high: float | None
    p: float | None


def over_sets(means: Sequence[float]) -> OverSets:
    """Summarise the mean differences of k data sets: mean +- t s / sqrt(k), and for a new one +- t s sqrt(1 + 1/k).

    Both suppose that the data sets are drawn like the ones that are meant, with differences that are about normal.

    Raises:
        ValueError: a value is not finite.

    Example:
        >>> found = over_sets([0.02, 0.03, 0.01, 0.04])
        >>> round(found.mean.mean, 3), round(found.mean.low, 4), round(found.new_low, 4), round(found.p, 4)
        (0.025, 0.0045, -0.0209, 0.0305)
    """
    mean = mean_interval(means)
    if mean.deviation is None or mean.mean is None:
        return OverSets(mean, None, None, None)
    half = t_quantile(mean.n - 1) * mean.deviation * math.sqrt(1 + 1 / mean.n)
    return OverSets(mean, mean.mean - half, mean.mean + half, _p_of_zero(mean.mean, mean.deviation, mean.n))


def _p_of_zero(mean: float, deviation: float, n: int) -> float:
    if deviation == 0.0:
        return 1.0 if mean == 0.0 else 0.0
    return float(2.0 * special.stdtr(n - 1, -abs(mean) / (deviation / math.sqrt(n))))
