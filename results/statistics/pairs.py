"""Paired differences over seeds or blocks: interval, sign-flip test, Holm's correction, and what they can settle.

The unit is the seed (or a block with one seed): the results hold for other seeds on the same test images.
"""

import math
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from results.sign_flip import DRAWS, EXACT_UP_TO, SIGNIFICANCE, pairs_needed, smallest_p
from results.statistics.means import ROUNDING, Mean, finite, mean_interval
from transtailor.plural import counted

Block = TypeVar("Block", bound=Hashable)

MOST_LOST = 0.2
"""Share of all blocks that may be lost where pairs settle something (C)."""
_SIGNS_OF_BYTES = 1.0 - 2.0 * np.unpackbits(np.arange(256, dtype=np.uint8)[None], axis=0)
"""(8, 256): one sign for each bit."""


@dataclass(frozen=True)
class Paired:
    """Differences first - second over the blocks that both have."""

    difference: Mean  # mean of the differences with its t interval
    p: float | None  # two-sided p of the sign-flip test; None without pairs
    smallest_p: float | None  # the smallest p that this number of pairs can reach, 2 / 2^n; None without pairs
    wins: int
    losses: int
    ties: int
    unpaired: int  # blocks that only one of the two has
    lost: int = 0  # blocks in which a trial of either failed
    with_lost: "Paired | None" = None  # the same, with each lost block counted against the difference

    @property
    def improvement(self) -> float | None:
        """Probability of improvement: the share of blocks on which the first is ahead; a tie counts half."""
        blocks = self.wins + self.losses + self.ties
        return (self.wins + self.ties / 2) / blocks if blocks else None

    @property
    def largest_p(self) -> float | None:
        """p, or that with lost blocks if it is larger; it enters a correction."""
        if self.p is None or self.with_lost is None or self.with_lost.p is None:
            return self.p
        return max(self.p, self.with_lost.p)

    def can_reach(self, p: float) -> bool:
        """Whether there are enough pairs for a sign-flip test to give this p."""
        return self.smallest_p is not None and self.smallest_p <= p


def compare_pairs(first: Mapping[Block, float], second: Mapping[Block, float], lost: Collection[Block] = ()) -> Paired:
    """Compare the first with the second, block by block.

    Args:
        first: one value per block; a block is a seed, or a network with a seed.
        second: likewise.
        lost: blocks in which a trial of either failed by itself, perhaps where its score would have been bad. In
            `with_lost` each has the largest absolute difference of all, against the mean; one with neither value is
            left out.

    Raises:
        ValueError: a value is not finite.

    Example:
        >>> ours = {seed: score for seed, score in enumerate([0.91, 0.88, 0.93, 0.90, 0.89, 0.92])}
        >>> theirs = {seed: score - 0.02 for seed, score in ours.items()}
        >>> result = compare_pairs(ours, theirs)
        >>> result.wins, round(result.difference.mean, 3), result.p, doubts(result)
        (6, 0.02, 0.03125, [])
    """
    blocks = [block for block in first if block in second]
    differences = finite([first[block] - second[block] for block in blocks])
    result = _paired(differences, len(set(first) ^ set(second)))
    if not lost or not blocks:
        return replace(result, lost=len(lost))
    worst = -math.copysign(np.abs(differences).max(), differences.mean())
    values = [difference for block, difference in zip(blocks, differences, strict=True) if block not in lost]
    values += [worst for block in lost if block in first or block in second]
    return replace(result, lost=len(lost), with_lost=_paired(np.array(values), 0))


def _paired(differences: np.ndarray, unpaired: int) -> Paired:
    differences[np.abs(differences) < ROUNDING] = 0.0
    n = len(differences)
    return Paired(
        difference=mean_interval(list(differences)),
        p=sign_flip_p(differences) if n else None,
        smallest_p=smallest_p(n) if n else None,
        wins=int((differences > 0).sum()),
        losses=int((differences < 0).sum()),
        ties=int((differences == 0).sum()),
        unpaired=unpaired,
    )


def sign_flip_p(differences: Sequence[float] | np.ndarray) -> float:
    """Compute the two-sided p of no difference: how often random signs give a mean at least as large.

    Exact up to `EXACT_UP_TO` differences. Above, `DRAWS` patterns are drawn, the same for as many differences, so that
    equal rows give an equal p; the observed one is added, so p is never 0.

    Args:
        differences: at least one.
    """
    data = np.asarray(differences, dtype=float)
    sums = np.abs(signed_sums(data, np.random.default_rng(0)))
    return float(np.mean(sums >= sums[0] - ROUNDING * len(data)))


def signed_sums(values: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Add up values under patterns of signs, of which the first turns none.

    Args:
        values: (..., n) with n of at least one; a sign applies to all leading indices.
        generator: draws signs above `EXACT_UP_TO` values; not used up to there.

    Returns:
        (..., patterns): up to `EXACT_UP_TO` values half of all patterns, since the other half is its mirror image;
        above, `DRAWS` drawn ones after the first.
    """
    n = values.shape[-1]
    if n <= EXACT_UP_TO:
        sums = values[..., :1]
        for index in range(1, n):
            value = values[..., index : index + 1]
            sums = np.concatenate([sums + value, sums - value], axis=-1)
        return sums
    # A byte has the signs of eight values: looking up one of their 256 sums is faster than multiplying and adding.
    eights = -(-n // 8)
    drawn = np.frombuffer(generator.bytes(DRAWS * eights), np.uint8).reshape(DRAWS, eights)
    padded = np.zeros((*values.shape[:-1], 8 * eights))
    padded[..., :n] = values
    of_eight = padded.reshape(*values.shape[:-1], eights, 8) @ _SIGNS_OF_BYTES
    indices = np.ascontiguousarray(drawn.T) + 256 * np.arange(eights)[:, None]
    sums = of_eight.reshape(*values.shape[:-1], -1).take(indices, axis=-1).sum(axis=-2)
    return np.concatenate([values.sum(axis=-1, keepdims=True), sums], axis=-1)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Correct the p values of a family of tests (Holm, Scandinavian Journal of Statistics 6, 1979).

    Comparing each result with a level keeps the chance of any false rejection in the family below it, for any
    dependence of the tests. None (a comparison without p) does not count as part of the family.

    Example:
        >>> holm([0.01, 0.04, 0.03, None])
        [0.03, 0.06, 0.06, None]
    """
    family = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(family):
        largest = max(largest, min(1.0, (len(family) - rank) * p))
        corrected[index] = largest
    return corrected


def doubts(result: Paired) -> list[str]:
    """List the reasons why these pairs do not settle which is better; empty if they do.

    The interval and the exact test must agree: with few pairs the interval relies too much on normality, and the test
    has too few sign patterns.
    """
    centre = result.difference
    if result.p is None or result.smallest_p is None:
        return ["no seed has both arms"]
    reasons = []
    if centre.low is None or centre.high is None:
        reasons.append("one pair gives no interval")
    elif centre.low <= 0 <= centre.high:
        reasons.append("the 95% interval of the difference contains 0")
    if not result.can_reach(SIGNIFICANCE):
        reasons.append(
            f"{counted(centre.n, 'pair')} cannot reach a p below {result.smallest_p:.3g}, whatever they show"
            f" ({pairs_needed()} or more could)"
        )
    elif result.p > SIGNIFICANCE:
        reasons.append(f"the sign-flip test gives p = {result.p:.3g}")
    if result.lost and not reasons:
        pairs = counted(result.lost, "pair")
        if result.lost > MOST_LOST * (centre.n + result.lost):
            reasons.append(f"{pairs} lost to failed trials, more than one in five")
        elif result.with_lost is None or doubts(result.with_lost) or not _agree(centre, result.with_lost.difference):
            reasons.append(f"it does not hold with {pairs} lost to failed trials counted against it")
    return reasons


def _agree(one: Mean, other: Mean) -> bool:
    """Whether two means have the same sign."""
    return one.mean is not None and other.mean is not None and one.mean * other.mean > 0.0
