"""The max-T test: which of several arms differ significantly from the best one, which the same data chose."""

import numpy as np

from results.statistics.pairs import signed_sums

_ROUNDING = 1e-9


def with_best_p(values: np.ndarray, best: int, generator: np.random.Generator) -> np.ndarray:
    """Test each arm against the best one, which the same data chose (max-T).

    A test of the best against each other arm, corrected for k - 1 comparisons, ignores that the best was chosen among
    k: of equal arms, the luckiest is compared with the unluckiest. Here a difference is compared with the largest
    studentised difference of all pairs (max-T; Westfall and Young, Resampling-Based Multiple Testing, 1993) under
    random signs of the blocks. A sign applies to all arms of a block, so arms may depend on each other and have
    different variances; the only assumption is that the differences of equal arms are symmetric. Arms that differ from
    the best are left out of the reference for those nearer to it (step down).

    The chance that any arm is wrongly found to differ from the best is at most the level, for any number of arms. With
    two arms it is the sign-flip test of `compare_pairs`.

    Args:
        values: (blocks, arms) finite scores; every arm has every block.
        best: the column that the others are compared with.
        generator: draws sign patterns above `EXACT_UP_TO` blocks; not used up to there.

    Returns:
        (arms,) corrected two-sided p values, at least 2 / 2^blocks; 1 for the best itself.

    Raises:
        ValueError: there are no blocks, or a value is not finite.

    Example:
        >>> scores = np.array([[0.9, 0.5, 0.8], [0.8, 0.4, 0.9], [0.9, 0.6, 0.7], [0.7, 0.3, 0.6], [0.9, 0.4, 0.8],
        ...                    [0.8, 0.5, 0.8]])
        >>> with_best_p(scores, 0, np.random.default_rng(0))
        array([1.     , 0.03125, 0.3125 ])
    """
    blocks, arms = values.shape
    if not blocks or not np.isfinite(values).all():
        raise ValueError(f"expected finite scores in at least one block, given {values.tolist()}")
    centred = (values - values.mean(axis=1, keepdims=True)).T
    means = signed_sums(centred, generator) / blocks  # (arms, patterns), the first is what was observed
    spread = np.sqrt(((values[:, :, None] - values[:, None, :]) ** 2).mean(0))
    spread[spread < _ROUNDING] = np.inf  # equal in all blocks: no difference
    observed = np.abs(means[:, 0] - means[best, 0]) / spread[best]
    nearest_first = sorted((arm for arm in range(arms) if arm != best), key=lambda arm: float(observed[arm]))
    compared = [best]
    largest = np.zeros(means.shape[1])
    p = np.ones(arms)
    for arm in nearest_first:
        for other in compared:
            np.maximum(largest, np.abs(means[arm] - means[other]) / spread[arm, other], out=largest)
        compared.append(arm)
        p[arm] = np.mean(largest >= observed[arm] - _ROUNDING)
    farthest_first = [best, *reversed(nearest_first)]
    p[farthest_first[1:]] = np.maximum.accumulate(p[farthest_first[1:]])
    return p
