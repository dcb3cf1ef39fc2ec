"""Paired differences over seeds or blocks: interval, sign-flip test, Holm's correction, and what they can settle.

The unit of everything here is the seed (or a block that holds one): how well a method does again, not how sure one
model is of its test images; `images` has both.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy import special

from results.statistics.means import LEVEL, Mean, finite, mean_interval

Block = TypeVar("Block", bound=Hashable)

SIGNIFICANCE = 0.05
EXACT_UP_TO = 12
"""Up to so many pairs all 2^n sign patterns are counted; above, patterns are drawn."""
DRAWS = 9_999
_ROUNDING = 1e-12
"""Differences of scores this close are equal: they only differ by the order of additions."""


@dataclass(frozen=True)
class Share:
    """A share of n with its 95% Wilson interval; all None where n = 0."""

    n: int
    share: float | None
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

    @property
    def improvement(self) -> Share:
        """Probability of improvement: how often the first is ahead on a block of its own kind; a tie counts half."""
        return wilson(self.wins + self.ties / 2, self.wins + self.losses + self.ties)


def compare_pairs(
    first: Mapping[Block, float], second: Mapping[Block, float], generator: np.random.Generator
) -> Paired:
    """How the first differs from the second, block by block.

    Args:
        first: one value per block; a block is a seed, or a network with a seed.
        second: the same of what it is compared with.
        generator: draws sign patterns above `EXACT_UP_TO` pairs, and is not touched up to there.

    Raises:
        ValueError: a value is not finite.
    """
    blocks = [block for block in first if block in second]
    differences = finite([first[block] - second[block] for block in blocks])
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
    negated = np.arange(2**n)[:, None] >> np.arange(n) & 1 if n <= EXACT_UP_TO else drawn_bits(n, generator)
    sums: np.ndarray = np.abs(data.sum() - 2 * (negated @ data))
    as_large = int(np.count_nonzero(sums >= abs(data.sum()) - _ROUNDING * max(n, 1)))
    return as_large / (1 << n) if n <= EXACT_UP_TO else (as_large + 1) / (DRAWS + 1)


def drawn_bits(n: int, generator: np.random.Generator) -> np.ndarray:
    """(DRAWS, n) of 0 and 1, equally likely: eight from each byte, for large reports draw thousands of these."""
    drawn = np.frombuffer(generator.bytes(DRAWS * -(-n // 8)), np.uint8)
    return np.unpackbits(drawn.reshape(DRAWS, -1), axis=1, count=n)


def smallest_p(n: int) -> float:
    """The smallest two-sided p that a sign-flip test of n pairs can reach: all signs equal, and that twice."""
    reachable = min(1.0, 2 / (1 << n))
    return reachable if n <= EXACT_UP_TO else max(reachable, 1 / (DRAWS + 1))


def pairs_needed(significance: float = SIGNIFICANCE) -> int:
    """The fewest pairs with which a sign-flip test can reach that p: 6 at 0.05."""
    return math.ceil(round(math.log2(2 / significance), 9))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """The p values corrected for being a family (Holm, Scandinavian Journal of Statistics 6, 1979).

    Comparing each with a level keeps the chance of any wrong rejection in the family below it, whatever the tests have
    to do with each other. None, a comparison without a p, is not one of the family.
    """
    known = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, place) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        corrected[place] = largest
    return corrected


def wilson(successes: float, n: int) -> Share:
    """A share with its 95% score interval (Wilson, Journal of the American Statistical Association 22, 1927)."""
    if not n:
        return Share(0, None, None, None)
    share, z2 = successes / n, float(special.ndtri((1 + LEVEL) / 2)) ** 2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n**2))) / (1 + z2 / n)
    return Share(n, share, max(0.0, centre - half), min(1.0, centre + half))


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
            f"{pairs_text(centre.n)} cannot reach a p below {result.smallest_p:.3g}, whatever they show"
            f" ({pairs_needed()} or more could)"
        )
    elif result.p > SIGNIFICANCE:
        reasons.append(f"the sign-flip test gives p = {result.p:.3g}")
    return reasons


def pairs_text(n: int) -> str:
    """So many pairs, such as "1 pair" and "6 pairs"."""
    return f"{n} pair{'' if n == 1 else 's'}"
