"""How many pairs would settle a comparison, and what so many pairs can find."""

import math

from scipy import special

from results.statistics.means import t_quantile
from results.statistics.pairs import SIGNIFICANCE, pairs_needed

POWER = 0.8
MOST_PAIRS = 100_000


def power_of_pairs(n: int, effect: float, significance: float = SIGNIFICANCE) -> float:
    """The chance that a two-sided paired t test of n pairs finds an effect (Cohen 1988).

    The square of a noncentral t is a noncentral F, of which scipy's distribution function also holds for huge effects.

    Args:
        n: pairs, at least 2.
        effect: true mean difference over its standard deviation.
        significance: the level, in (0, 1).
    """
    reach = t_quantile(n - 1, 1 - significance)
    missed = float(special.ncfdtr(1, n - 1, n * effect**2, reach**2))
    return 1.0 if math.isnan(missed) else 1 - missed  # scipy has no number where the chance to miss it underflows


def pairs_for(effect: float, power: float = POWER, significance: float = SIGNIFICANCE) -> int | None:
    """The fewest pairs with that power, by the t test and with a sign-flip test that can reach the level at all.

    None where more than `MOST_PAIRS` would be needed, as for no effect.
    """
    fewest = max(2, pairs_needed(significance))
    if not effect or power_of_pairs(MOST_PAIRS, effect, significance) < power:
        return None
    low, high = fewest - 1, MOST_PAIRS  # high has the power
    while high - low > 1:
        middle = (low + high) // 2
        if power_of_pairs(middle, effect, significance) >= power:
            high = middle
        else:
            low = middle
    return high


def detectable_effect(n: int, power: float = POWER, significance: float = SIGNIFICANCE) -> float:
    """The smallest true difference, in standard deviations, that n >= 2 pairs find with that power by the t test."""
    low, high = 0.0, 1.0
    while power_of_pairs(n, high, significance) < power:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if power_of_pairs(n, middle, significance) >= power else (middle, high)
    return high


def largest_deviation(deviation: float, n: int, level: float = 0.8) -> float:
    """The one-sided upper limit of a standard deviation that n >= 2 values gave, from chi squared.

    Planning with it instead of the deviation itself reaches the wanted power with that chance (Browne, Statistics in
    Medicine 14, 1995).
    """
    return deviation * math.sqrt((n - 1) / float(special.chdtri(n - 1, level)))
