"""Means and interquartile means with their intervals; numbers in, numbers out.

Below `BOOTSTRAP_FROM` values intervals are Student's t, because a bootstrap of few values covers too little. From there
on they are those of the interquartile mean, with a bootstrap stratified over tasks (Agarwal et al. 2021) and expanded
for small strata (Hesterberg 2015).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special

LEVEL = 0.95
BOOTSTRAP_FROM = 15
"""From this many values, over all tasks, the interquartile mean and its bootstrap are used."""
RESAMPLES = 4_999


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
    """One number for values of one task or several, with its 95% interval.

    Attributes:
        low, high: None if a task has a single value, so that no interval can be given.
    """

    statistic: Literal["mean", "IQM"]  # what the number is; IQM is the mean of the middle half of all values
    n: int  # number of values, over all tasks
    tasks: int  # number of tasks
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
    deviation = math.sqrt(math.fsum((data - centre) ** 2) / (n - 1))
    half = t_quantile(n - 1) * deviation / math.sqrt(n)
    return Mean(n, centre, deviation, centre - half, centre + half)


def summary(tasks: Sequence[Sequence[float]], generator: np.random.Generator) -> Summary:
    """Summarise values of several tasks: by their mean below `BOOTSTRAP_FROM` values, by their IQM from there on.

    Args:
        tasks: the values of each task; tasks without values are left out.
        generator: draws the bootstrap's resamples; not used without a bootstrap.

    Raises:
        ValueError: a value is not finite.
    """
    strata = [finite(values) for values in tasks if len(values)]
    if sum(map(len, strata)) < BOOTSTRAP_FROM:
        return stratified_mean(strata)
    return iqm_interval(strata, generator)


def stratified_mean(tasks: Sequence[Sequence[float] | np.ndarray]) -> Summary:
    """Average the tasks' means; the 95% interval is Welch's, with Satterthwaite's degrees of freedom (1946).

    The tasks are fixed, not a random sample; only the values in each vary. With one task it is `mean_interval`.

    Example:
        >>> summed_up = stratified_mean([[0.8, 0.9], [0.5, 0.7]])
        >>> summed_up.n, summed_up.tasks, round(summed_up.value, 3)
        (4, 2, 0.725)
    """
    strata = [finite(values) for values in tasks]
    n, count = sum(map(len, strata)), len(strata)
    if not count:
        return Summary("mean", 0, 0, None, None, None)
    centre = math.fsum(float(values.mean()) for values in strata) / count
    if min(map(len, strata)) < 2:
        return Summary("mean", n, count, centre, None, None)
    parts = [float(values.var(ddof=1)) / len(values) for values in strata]
    variance = math.fsum(parts)
    if variance == 0:
        return Summary("mean", n, count, centre, centre, centre)
    degrees = variance**2 / math.fsum(part**2 / (len(values) - 1) for part, values in zip(parts, strata, strict=True))
    half = t_quantile(degrees) * math.sqrt(variance) / count
    return Summary("mean", n, count, centre, centre - half, centre + half)


def iqm(values: np.ndarray) -> np.ndarray:
    """Average the middle half along the last axis; a quarter, rounded down, is cut at each end."""
    cut = values.shape[-1] // 4
    middle = np.sort(values, axis=-1)[..., cut : values.shape[-1] - cut]
    mean: np.ndarray = middle.mean(axis=-1)
    return mean


def iqm_interval(tasks: Sequence[Sequence[float] | np.ndarray], generator: np.random.Generator) -> Summary:
    """Compute the IQM of all values with its 95% bootstrap interval, resampled within each task.

    The percentiles are those of Hesterberg's expanded interval (The American Statistician 69, 2015): wider, as t is
    wider than the normal, and by sqrt(m / (m - 1)) for the m values of the smallest task. Tasks with more values weigh
    more.

    Raises:
        ValueError: a value is not finite, or a task has no value.
    """
    strata = [finite(values) for values in tasks]
    n, count, smallest = sum(map(len, strata)), len(strata), min(map(len, strata), default=0)
    if not smallest:
        raise ValueError("expected at least one value in every task, given none")
    centre = float(iqm(np.concatenate(strata)))
    if smallest < 2:
        return Summary("IQM", n, count, centre, None, None)
    drawn = [values[generator.integers(0, len(values), (RESAMPLES, len(values)))] for values in strata]
    tail = float(special.ndtr(-math.sqrt(smallest / (smallest - 1)) * t_quantile(n - count)))
    low, high = np.quantile(iqm(np.concatenate(drawn, axis=1)), [tail, 1 - tail])
    return Summary("IQM", n, count, centre, float(low), float(high))


def t_quantile(degrees: float, level: float = LEVEL) -> float:
    """Return how many standard errors a two-sided t interval of that level reaches."""
    return float(special.stdtrit(degrees, (1 + level) / 2))


def finite(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return the values as an array. Raises ValueError: a value is not finite."""
    data = np.array(values, dtype=float)
    if not np.isfinite(data).all():
        raise ValueError(f"expected finite numbers, given {list(values)}: leave out the others and report their number")
    return data
