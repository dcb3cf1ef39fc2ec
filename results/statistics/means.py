"""Means with their t intervals; numbers in, numbers out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

LEVEL = 0.95
ROUNDING = 1e-12
"""Scores that differ by less are equal: the difference comes from the order of additions."""


@dataclass(frozen=True)
class Mean:
    """A mean of n values with its 95% t interval; low, high and deviation are None for n = 1, all None for n = 0."""

    n: int
    mean: float | None
    deviation: float | None
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


def t_quantile(degrees: float, level: float = LEVEL) -> float:
    """Return how many standard errors a two-sided t interval of that level reaches."""
    return float(special.stdtrit(degrees, (1 + level) / 2))


def finite(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return the values as an array. Raises ValueError: a value is not finite."""
    data = np.array(values, dtype=float)
    if not np.isfinite(data).all():
        raise ValueError(f"expected finite numbers, given {list(values)}: leave out the others and report their number")
    return data
