"""Whether a measured mean agrees with a printed number, or bears out a printed claim; numbers in, numbers out.

Agreement is tested in both directions: by two one-sided t tests that the difference is within a margin (Schuirmann,
Journal of Pharmacokinetics and Biopharmaceutics 15, 1987), and by a t test that it is beyond it. Values are taken for
normal, as by all t tests.

Of each number, exactly one of "within the margin" and "beyond it" is true. So the chance of any false verdict in a
table of so many numbers is at most alpha if each is tested at alpha over their number (Bonferroni). Holm's steps would
not hold it: they take a number whose verdict is right out of the family, and its other verdict could still be false.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from scipy import special

from results.statistics.means import mean_interval
from results.statistics.power import POWER, largest_deviation

ALPHA = 0.05
MARGIN = 0.01  # of an accuracy, as a fraction
MOST_SEEDS = 10_000

Agreement = Literal["within", "not within", "cannot say yet"]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What measured values say of a printed number, or of the claim that a difference is above 0."""

    seeds: int
    difference: float | None  # mean of the measured values less the printed one; None without values
    low: float | None  # ends of the interval that the verdict reads; None below two values
    high: float | None
    verdict: Agreement
    seeds_needed: int | None  # if it cannot be said yet: for a verdict in 80% of the cases; None: no number is enough


@dataclass(frozen=True, kw_only=True)
class Printed:
    """A printed number: how many runs it is the mean of, and their standard deviation; None: not printed."""

    value: float
    n: int | None = None
    deviation: float | None = None


def agree(
    values: Sequence[float],
    printed: Printed,
    *,
    margin: float = MARGIN,
    tests: int = 1,
    alpha: float = ALPHA,
    least_deviation: float = 0.0,
) -> Judged:
    """Test whether the mean that values are drawn from is within a margin of a printed number.

    A printed number of n runs has an error of its own: with the printed deviation, or the measured one if none is
    printed. Without n it is taken as it is.

    Args:
        values: one for each seed.
        margin: more than 0.
        tests: numbers in the table.
        alpha: chance of any false verdict in the table.
        least_deviation: a smaller one was measured by chance, such as a single test image's.

    Example:
        >>> agree([0.851, 0.853, 0.852, 0.850, 0.854], Printed(value=0.85)).verdict
        'within'
        >>> agree([0.80, 0.81, 0.80, 0.81, 0.80], Printed(value=0.85)).verdict
        'not within'
    """
    level = alpha / tests
    mean = mean_interval(values)
    if mean.mean is None or mean.deviation is None:
        difference = None if mean.mean is None else mean.mean - printed.value
        return _judged(mean.n, difference, needed=2)
    deviation = max(mean.deviation, least_deviation)
    difference = mean.mean - printed.value
    error = _error(deviation, mean.n, printed)
    half = _quantile(error.degrees, level) * error.size
    outer = _quantile(error.degrees, level / 2) * error.size
    if abs(difference) + half < margin or (half == 0.0 and abs(difference) <= margin):
        return _judged(mean.n, difference, half, "within")
    if abs(difference) - outer > margin:
        return _judged(mean.n, difference, outer, "not within")

    def power(n: int) -> float:
        then = _error(largest_deviation(deviation, mean.n), n, printed)
        if abs(difference) < margin:
            shift = _quantile(then.degrees, level)
            above = (margin - difference) / then.size - shift
            below = (margin + difference) / then.size - shift
            return float(special.ndtr(above) + special.ndtr(below) - 1)
        return float(special.ndtr((abs(difference) - margin) / then.size - _quantile(then.degrees, level / 2)))

    return _judged(mean.n, difference, half, needed=_fewest(power, mean.n + 1))


def ahead(
    differences: Sequence[float], *, tests: int = 1, alpha: float = ALPHA, least_deviation: float = 0.0
) -> Judged:
    """Test the claim that the mean that differences are drawn from is above 0.

    `within` then says that it holds, `not within` that the mean is below 0: the two-sided t test at alpha over `tests`.

    Args:
        differences: one for each seed.
        tests: claims in the table.
        alpha: chance of any false verdict about them.
        least_deviation: as of `agree`.
    """
    level = alpha / tests
    mean = mean_interval(differences)
    if mean.mean is None or mean.deviation is None:
        return _judged(mean.n, mean.mean, needed=2)
    difference = mean.mean
    deviation = max(mean.deviation, least_deviation)
    half = _quantile(mean.n - 1, level / 2) * deviation / math.sqrt(mean.n)
    if abs(difference) > half:
        return _judged(mean.n, difference, half, "within" if difference > 0 else "not within")
    planned = largest_deviation(deviation, mean.n)

    def power(n: int) -> float:
        return float(special.ndtr(abs(difference) / (planned / math.sqrt(n)) - _quantile(n - 1, level / 2)))

    return _judged(mean.n, difference, half, needed=_fewest(power, mean.n + 1))


@dataclass(frozen=True)
class _Error:
    size: float  # standard error of the difference
    degrees: float  # of freedom


def _error(deviation: float, n: int, printed: Printed) -> _Error:
    """Return the error of a difference between n values and a printed number, as of Welch's test."""
    own = deviation**2 / n
    if printed.n is None:
        return _Error(math.sqrt(own), n - 1)
    if printed.deviation is None:
        return _Error(deviation * math.sqrt(1 / n + 1 / printed.n), n - 1)
    theirs = printed.deviation**2 / printed.n
    size = math.sqrt(own + theirs)
    if printed.n == 1 or size == 0.0:
        return _Error(size, n - 1)
    degrees = (own + theirs) ** 2 / (own**2 / (n - 1) + theirs**2 / (printed.n - 1))
    return _Error(size, degrees)


def _quantile(degrees: float, tail: float) -> float:
    """Return what Student's t exceeds with this chance."""
    return float(-special.stdtrit(degrees, tail))


def _fewest(power: Callable[[int], float], first: int) -> int | None:
    """Return the fewest seeds from `first` on that have the power; None if `MOST_SEEDS` have not."""
    if power(MOST_SEEDS) < POWER:
        return None
    return bisect_left(range(MOST_SEEDS + 1), True, first, key=lambda seeds: power(seeds) >= POWER)


def _judged(
    seeds: int,
    difference: float | None,
    half: float | None = None,
    verdict: Agreement = "cannot say yet",
    needed: int | None = None,
) -> Judged:
    low, high = (None, None) if difference is None or half is None else (difference - half, difference + half)
    return Judged(seeds=seeds, difference=difference, low=low, high=high, verdict=verdict, seeds_needed=needed)
