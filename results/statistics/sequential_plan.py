"""How many seeds a comparison takes that is looked at while seeds are added, before it has run.

By simulation of normal differences: each path has its z and its interval at each look, and ends where it is settled. Of
the sign-flip test it is asked only whether so many seeds could reach the level.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from results.statistics.sequential import FEWEST_FOR_EQUAL, Design, signs_can_reach

PATHS = 4_000
SEED = 0  # fixed, so that the same plan says the same


@dataclass(frozen=True)
class ExpectedSeeds:
    """What a comparison takes.

    Attributes:
        mean: seeds on average.
        different: share of the comparisons that end as better or worse.
        equal: share that end as no difference that matters; the others stay open.
        open_before: share that is open before each look, and so needs its seeds; 1 before the first.
    """

    mean: float
    different: float
    equal: float
    open_before: tuple[float, ...]

    @property
    def settled(self) -> float:
        """Share that is settled."""
        return self.different + self.equal


def expected_seeds(difference: float, deviation: float, design: Design) -> ExpectedSeeds:
    """Return what a comparison takes, if no other one of its family hands alpha on.

    Args:
        difference: the true mean of the differences.
        deviation: their standard deviation, above 0.

    Example:
        >>> design = Design((10, 13, 18, 25, 35, 50), 0.05, 0.01, 1)
        >>> large, none = expected_seeds(0.03, 0.014, design), expected_seeds(0.0, 0.014, design)
        >>> large.mean < 11, large.different > 0.95, none.different < 0.06, none.equal > 0.9
        (True, True, True, True)
    """
    generator = np.random.default_rng(SEED)
    differences = generator.normal(difference, deviation, (PATHS, design.looks[-1]))
    seeds_used = np.full(PATHS, design.looks[-1], dtype=float)
    is_open = np.ones(PATHS, bool)
    different = 0
    equal = 0
    open_before: list[float] = []
    for seeds, limit in zip(design.looks, design.limits(), strict=True):
        open_before.append(float(is_open.mean()))
        values = differences[:, :seeds]
        means = values.mean(axis=1)
        half = float(special.stdtrit(seeds - 1, special.ndtr(limit))) * values.std(axis=1, ddof=1) / math.sqrt(seeds)
        is_different = is_open & (np.abs(means) > half) & signs_can_reach(limit, seeds)
        is_equal = is_open & ~is_different & (np.abs(means) + half < design.matters) & (seeds >= FEWEST_FOR_EQUAL)
        different += int(is_different.sum())
        equal += int(is_equal.sum())
        seeds_used[is_different | is_equal] = seeds
        is_open &= ~(is_different | is_equal)
    return ExpectedSeeds(float(seeds_used.mean()), different / PATHS, equal / PATHS, tuple(open_before))
