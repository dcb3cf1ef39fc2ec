"""Means and interquartile means with their intervals; numbers in, numbers out.

Below `BOOTSTRAP_FROM` values intervals are Student's t, because a bootstrap of few values covers too little. From there
on they are those of the interquartile mean (Agarwal et al. 2021), with a bootstrap that is expanded for few values
(Hesterberg 2015).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special

LEVEL = 0.95
BOOTSTRAP_FROM = 15
"""From this many values the interquartile mean and its bootstrap are used."""
RESAMPLES = 4_999
ROUNDING = 1e-12
"""Scores that differ by less are equal: the difference comes from the order of additions."""

Statistic = Literal["mean", "IQM"]  # IQM is the mean of the middle half


@dataclass(frozen=True)
class Mean:
    """A mean of n values with its 95% t interval; low, high and deviation are None for n = 1, all None for n = 0."""

    n: int
    mean: float | None
    deviation: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Summary:
    """One number for n values with its 95% interval; low and high are None for a single value."""

    statistic: Statistic
    n: int
    value: float | None
    low: float | None
    high: float | None


def mean_interval(values: Sequence[float]) -> Mean:
    """Compute the mean of independent values with its 95% t interval.

    Raises:
        ValueError: a value is not finite; leave such values out and report their number.

    Example:
        >>> of_seeds = mean_interval([0.9, 0.8, 0.85])
        >>> of_seeds.n, round(of_seeds.mean, 3), round(of_seeds.low, 3), round(of_seeds.high, 3)
        (3, 0.85, 0.726, 0.974)
    """
    data = finite(values)
    n = len(data)
    if n == 0:
        return Mean(0, None, None, None, None)
    centre = math.fsum(data) / n
    if n == 1:
        return Mean(1, centre, None, None, None)
    are_equal = np.ptp(data) <= ROUNDING * max(1.0, np.abs(data).max())
    deviation = 0.0 if are_equal else math.sqrt(math.fsum((data - centre) ** 2) / (n - 1))
    half = t_quantile(n - 1) * deviation / math.sqrt(n)
    return Mean(n, centre, deviation, centre - half, centre + half)


def statistic_of(n: int) -> Statistic:
    """Return what n values are summarised by: their mean below `BOOTSTRAP_FROM`, their IQM from there on."""
    return "mean" if n < BOOTSTRAP_FROM else "IQM"


def centre(values: np.ndarray, statistic: Statistic) -> np.ndarray:
    """Return that number of the values, along the last axis."""
    centres: np.ndarray = iqm(values) if statistic == "IQM" else values.mean(axis=-1)
    return centres


def summary(values: Sequence[float], generator: np.random.Generator, statistic: Statistic) -> Summary:
    """Summarise independent values by their mean or their IQM, with its 95% interval.

    Args:
        generator: draws the bootstrap's resamples; not used for a mean.

    Raises:
        ValueError: a value is not finite, or there is none for an IQM.

    Example:
        >>> summed_up = summary([0.9, 0.8, 0.85], np.random.default_rng(0), statistic_of(3))
        >>> summed_up.statistic, round(summed_up.value, 3), round(summed_up.low, 3), round(summed_up.high, 3)
        ('mean', 0.85, 0.726, 0.974)
    """
    if statistic == "IQM":
        return iqm_interval(values, generator)
    mean = mean_interval(values)
    return Summary("mean", mean.n, mean.mean, mean.low, mean.high)


def iqm(values: np.ndarray) -> np.ndarray:
    """Average the middle half along the last axis; a quarter, rounded down, is cut at each end."""
    cut = values.shape[-1] // 4
    middle = np.sort(values, axis=-1)[..., cut : values.shape[-1] - cut]
    mean: np.ndarray = middle.mean(axis=-1)
    return mean


def iqm_interval(values: Sequence[float] | np.ndarray, generator: np.random.Generator) -> Summary:
    """Compute the IQM of independent values with its 95% bootstrap interval.

    The percentiles are those of Hesterberg's expanded interval (The American Statistician 69, 2015): wider, as t is
    wider than the normal, and by sqrt(n / (n - 1)).

    Raises:
        ValueError: a value is not finite, or there is none.
    """
    data = finite(values)
    n = len(data)
    if not n:
        raise ValueError("expected at least one value, given none")
    middle = float(iqm(data))
    if n < 2:
        return Summary("IQM", n, middle, None, None)
    drawn = data[generator.integers(0, n, (RESAMPLES, n))]
    tail = float(special.ndtr(-math.sqrt(n / (n - 1)) * t_quantile(n - 1)))
    low, high = np.quantile(iqm(drawn), [tail, 1 - tail])
    return Summary("IQM", n, middle, float(low), float(high))


def t_quantile(degrees: float, level: float = LEVEL) -> float:
    """Return how many standard errors a two-sided t interval of that level reaches."""
    return float(special.stdtrit(degrees, (1 + level) / 2))


def finite(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return the values as an array. Raises ValueError: a value is not finite."""
    data = np.array(values, dtype=float)
    if not np.isfinite(data).all():
        raise ValueError(f"expected finite numbers, given {list(values)}: leave out the others and report their number")
    return data
