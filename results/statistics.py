"""Means, paired differences and what they can settle; numbers in, numbers and words out.

The unit of everything here is the seed (or a block that holds one): how well a method does again, not how sure one
model is of its test images. Intervals are Student's t, because a bootstrap of a mean covers too little at few seeds.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy import special

Block = TypeVar("Block", bound=Hashable)

LEVEL = 0.95
SIGNIFICANCE = 0.05
EXACT_UP_TO = 12
"""Up to so many pairs all 2^n sign patterns are counted; above, patterns are drawn."""
DRAWS = 9_999
_ROUNDING = 1e-12
"""Differences of scores this close are equal: they only differ by the order of additions."""


@dataclass(frozen=True)
class Mean:
    """A mean of n values with its 95% t interval; low, high and deviation are None where n = 1, all None at n = 0."""

    n: int
    mean: float | None
    deviation: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Paired:
    """Differences first - second over the blocks that both have.

    Attributes:
        difference: mean of the differences with its t interval.
        p: two-sided p of the sign-flip test; None without pairs.
        smallest_p: the smallest p that so many pairs can reach, 2 / 2^n; None without pairs.
        exact: whether all sign patterns were counted (else `DRAWS` of them were drawn).
        unpaired: blocks that only one of the two has.
    """

    difference: Mean
    p: float | None
    smallest_p: float | None
    exact: bool
    wins: int
    losses: int
    ties: int
    unpaired: int


@dataclass(frozen=True)
class PathPoint:
    """One operating point on a trial's path, and its score on the validation split."""

    point: int
    validation_score: float


def mean_interval(values: Sequence[float]) -> Mean:
    """The mean of independent values with its 95% t interval.

    Raises:
        ValueError: a value is not finite; leave such runs out and say how many they are.
    """
    data = _finite(values)
    n = len(data)
    if n == 0:
        return Mean(0, None, None, None, None)
    centre = math.fsum(data) / n
    if n == 1:
        return Mean(1, centre, None, None, None)
    deviation = math.sqrt(math.fsum((data - centre) ** 2) / (n - 1))
    half = float(special.stdtrit(n - 1, (1 + LEVEL) / 2)) * deviation / math.sqrt(n)
    return Mean(n, centre, deviation, centre - half, centre + half)


def paired(first: Mapping[Block, float], second: Mapping[Block, float], generator: np.random.Generator) -> Paired:
    """How the first differs from the second, block by block.

    Args:
        first: one value per block; a block is a seed, or a network with a seed.
        second: the same of what it is compared with.
        generator: draws sign patterns above `EXACT_UP_TO` pairs, and is not touched up to there.

    Raises:
        ValueError: a value is not finite.
    """
    blocks = [block for block in first if block in second]
    differences = _finite([first[block] - second[block] for block in blocks])
    differences[np.abs(differences) < _ROUNDING] = 0.0
    n = len(blocks)
    return Paired(
        difference=mean_interval(list(differences)),
        p=sign_flip_p(differences, generator) if n else None,
        smallest_p=smallest_p(n) if n else None,
        exact=n <= EXACT_UP_TO,
        wins=int((differences > 0).sum()),
        losses=int((differences < 0).sum()),
        ties=int((differences == 0).sum()),
        unpaired=len(set(first) ^ set(second)),
    )


def sign_flip_p(differences: Sequence[float] | np.ndarray, generator: np.random.Generator) -> float:
    """Two-sided p that the differences lie around 0: how often random signs give as large a mean.

    Exact up to `EXACT_UP_TO` differences. Above, `DRAWS` patterns are drawn and the observed one counts as one more,
    so p is never 0.
    """
    data = np.asarray(differences, dtype=float)
    n = len(data)
    bits = np.arange(2**n)[:, None] >> np.arange(n) & 1 if n <= EXACT_UP_TO else generator.integers(0, 2, (DRAWS, n))
    sums: np.ndarray = np.abs((1 - 2 * bits) @ data)
    as_large = int(np.count_nonzero(sums >= abs(data.sum()) - _ROUNDING * max(n, 1)))
    return as_large / (1 << n) if n <= EXACT_UP_TO else (as_large + 1) / (DRAWS + 1)


def smallest_p(n: int) -> float:
    """The smallest two-sided p that a sign-flip test of n pairs can reach: all signs equal, and that twice."""
    reachable = min(1.0, 2 / (1 << n))
    return reachable if n <= EXACT_UP_TO else max(reachable, 1 / (DRAWS + 1))


def pairs_needed(significance: float = SIGNIFICANCE) -> int:
    """The fewest pairs with which a sign-flip test can reach that p: 6 at 0.05."""
    return math.ceil(round(math.log2(2 / significance), 9))


def doubts(result: Paired) -> list[str]:
    """Why these pairs cannot settle which is better, in words; empty where they can.

    The interval and the exact test must agree: with few pairs the one trusts the bell curve too much, and the other
    has too few sign patterns to say anything.
    """
    centre = result.difference
    if result.p is None or result.smallest_p is None:
        return ["no seed has both"]
    reasons = []
    if centre.low is None or centre.high is None:
        reasons.append("one pair has no interval")
    elif centre.low <= 0 <= centre.high:
        reasons.append("the 95% interval of the difference contains 0")
    if result.smallest_p > SIGNIFICANCE:
        reasons.append(
            f"{pairs_in_words(centre.n)} cannot reach a p below {result.smallest_p:.3g}, whatever they show"
            f" ({pairs_needed()} or more could)"
        )
    elif result.p > SIGNIFICANCE:
        reasons.append(f"the sign-flip test gives p = {result.p:.3g}")
    return reasons


def pairs_in_words(n: int) -> str:
    """So many pairs, such as "1 pair" and "6 pairs"."""
    return f"{n} pair{'' if n == 1 else 's'}"


def stop_rule(points: Sequence[PathPoint], tolerance: float) -> PathPoint:
    """The point that TransTailor's Algorithm 1 ends with on a recorded path.

    It walks the points in order and stops at the first that lies more than the tolerance below the one held so far.
    Else the new point is held, also when it is slightly worse, so small steps down add up unnoticed: that is how the
    paper's rule is printed. A point whose score is not a number ends the walk.

    Args:
        points: the path in order, at least one point.
        tolerance: a drop of exactly so much does not stop; the paper's 0.3 percentage points are 0.003.

    Raises:
        ValueError: there is no point.
    """
    if not points:
        raise ValueError("the stop rule needs at least one operating point, given none")
    best = points[0]
    for point in points[1:]:
        score = point.validation_score
        if math.isnan(score):
            break
        # Rounded, for 0.9 - 0.897 is 0.0030000000000000027 in floating point and is no more than 0.003.
        if round(best.validation_score - score, 9) > tolerance:
            break
        best = point
    return best


def _finite(values: Sequence[float]) -> np.ndarray:
    data = np.asarray(values, dtype=float)
    if not np.isfinite(data).all():
        raise ValueError(f"expected finite numbers, given {list(values)}: leave those runs out and say so")
    return data
