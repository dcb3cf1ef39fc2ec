"""Comparisons with the best of several arms, all at once: which of them the same blocks tell from the highest."""

import numpy as np

from results.statistics.pairs import EXACT_UP_TO, drawn_bits

_ROUNDING = 1e-9


def with_best_p(values: np.ndarray, best: int, generator: np.random.Generator) -> np.ndarray:
    """How surely each arm differs from the one that came out highest, which the same data chose.

    A test of the best against each other one, corrected for k - 1 comparisons, forgets that the best was chosen among
    k: of equal arms, the luckiest is compared with the unluckiest. Here a difference has to stand out among those of
    all pairs: the largest studentised difference (max-T; Westfall and Young, Resampling-Based Multiple Testing, 1993)
    when random signs turn the blocks. A block keeps all its arms together, so nothing is assumed of how arms depend on
    each other or how much each scatters; only that a block's differences are as likely the other way round, if arms
    are equal. Arms that are told from the best are left out of the reference for those nearer to it (step down).

    The chance that any arm is wrongly told from the best is then at most the level, whatever the number of arms. With
    two arms it is the sign-flip test of `paired`.

    Args:
        values: (blocks, arms) finite scores; every arm has every block.
        best: the column that the others are compared with.
        generator: draws sign patterns above `EXACT_UP_TO` blocks, and is not touched up to there.

    Returns:
        (arms,) corrected two-sided p values, at least 2 / 2^blocks; 1 for the best itself.

    Raises:
        ValueError: there is no block, or a value is not finite.

    Example:
        >>> scores = np.array([[0.9, 0.5, 0.8], [0.8, 0.4, 0.9], [0.9, 0.6, 0.7], [0.7, 0.3, 0.6], [0.9, 0.4, 0.8],
        ...                    [0.8, 0.5, 0.8]])
        >>> with_best_p(scores, 0, np.random.default_rng(0))
        array([1.     , 0.03125, 0.3125 ])
    """
    blocks, arms = values.shape
    if not blocks or not np.isfinite(values).all():
        raise ValueError(f"expected finite scores in at least one block, given {values.tolist()}")
    means = np.ascontiguousarray(_turned(values, generator).T)  # (arms, patterns), the first is what was observed
    spread = np.sqrt(((values[:, :, None] - values[:, None, :]) ** 2).mean(0))
    spread[spread < _ROUNDING] = np.inf  # equal in all blocks: no difference at all
    observed = np.abs(means[:, 0] - means[best, 0]) / spread[best]
    nearest_first = sorted((arm for arm in range(arms) if arm != best), key=lambda arm: float(observed[arm]))
    compared, largest = [best], np.zeros(means.shape[1])
    p = np.ones(arms)
    for arm in nearest_first:
        for other in compared:
            np.maximum(largest, np.abs(means[arm] - means[other]) / spread[arm, other], out=largest)
        compared.append(arm)
        p[arm] = np.mean(largest >= observed[arm] - _ROUNDING)
    farthest_first = [best, *reversed(nearest_first)]
    p[farthest_first[1:]] = np.maximum.accumulate(p[farthest_first[1:]])
    return p


def _turned(values: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """(patterns, arms) each arm's mean when the blocks' signs are turned; first as they are.

    Of all patterns one half is enough, the other is its mirror image.
    """
    blocks = len(values)
    if blocks <= EXACT_UP_TO:
        negated = np.arange(2 ** (blocks - 1))[:, None] >> np.arange(blocks) & 1
    else:
        negated = np.concatenate([np.zeros((1, blocks), np.uint8), drawn_bits(blocks, generator)])
    centred = values - values.mean(1, keepdims=True)
    turned: np.ndarray = (1.0 - 2.0 * negated) @ centred / blocks
    return turned
