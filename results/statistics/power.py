"""How many pairs would settle a comparison, and which differences a number of pairs can detect."""

import math
from bisect import bisect_left
from functools import cache

from scipy import special

from results.sign_flip import SIGNIFICANCE, pairs_needed
from results.statistics.means import t_quantile

POWER = 0.8
MOST_PAIRS = 100_000


def power_of_pairs(n: int, effect: float) -> float:
    """Compute the power of a two-sided paired t test of n pairs for an effect (Cohen 1988).

    The square of a noncentral t is a noncentral F, whose distribution function in scipy also works for huge effects.

    Args:
        n: number of pairs, at least 2.
        effect: true mean difference over its standard deviation.
    """
    reach = t_quantile(n - 1, 1 - SIGNIFICANCE)
    missed = float(special.ncfdtr(1, n - 1, n * effect**2, reach**2))
    return 1.0 if math.isnan(missed) else 1 - missed  # scipy gives NaN if the chance to miss it underflows


def pairs_for(effect: float) -> int | None:
    """Return the fewest pairs that have the power `POWER` in the t test, and can reach the level in a sign-flip test.

    None if more than `MOST_PAIRS` would be needed, as for an effect of 0.

    Example:
        >>> pairs_for(1.0), pairs_for(0.5), pairs_for(0.0)
        (10, 34, None)
    """
    fewest = max(2, pairs_needed())
    if not effect or power_of_pairs(MOST_PAIRS, effect) < POWER:
        return None
    numbers = range(MOST_PAIRS + 1)
    return bisect_left(numbers, True, fewest, key=lambda n: power_of_pairs(n, effect) >= POWER)


@cache
def detectable_effect(n: int) -> float:
    """Return the smallest true difference, in standard deviations, that a t test of n >= 2 pairs detects."""
    low, high = 0.0, 1.0
    while power_of_pairs(n, high) < POWER:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if power_of_pairs(n, middle) >= POWER else (middle, high)
    return high


def largest_deviation(deviation: float, n: int) -> float:
    """Return the one-sided upper 80% limit of a standard deviation measured on n >= 2 values, from chi squared.

    Planning with it instead of the deviation reaches the wanted power with probability 0.8 (Browne, Statistics in
    Medicine 14, 1995).
    """
    return deviation * math.sqrt((n - 1) / float(special.chdtri(n - 1, 0.8)))
