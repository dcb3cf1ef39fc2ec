"""Two methods on the same test images: McNemar's test for one pair of models, and an interval for seeds and images.

McNemar's test compares one pair of models on these images. A claim about methods must also hold for other seeds and
other images: `crossed_difference` takes both as random samples.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from results.statistics.means import t_quantile

_ROUNDING = 1e-24  # a variance of differences of at most 1 that comes from rounding alone
_ROUNDING_OF_PRODUCTS = 1e-13  # the same of a sum of products, as a share of their squares


@dataclass(frozen=True)
class McNemar:
    """Two models on the same images.

    Attributes:
        mid_p: the mid-p variant, less conservative (Fagerland, Lydersen and Laake, BMC Medical Research Methodology
            13, 2013).
    """

    images: int
    first_only: int  # images that only the first model predicts correctly
    second_only: int  # images that only the second model predicts correctly
    p: float  # exact two-sided p (binomial); 1 without a discordant image
    mid_p: float
    smallest_p: float  # the smallest exact p that this number of discordant images can reach


@dataclass(frozen=True)
class Crossed:
    """A mean difference over seeds and images with its 95% interval; no interval, no p with one seed or one image."""

    seeds: int
    images: int  # of all seeds together
    difference: float  # mean of first - second, a fraction of images
    low: float | None
    high: float | None
    degrees: float | None  # degrees of freedom of the t distribution; None if nothing varies
    p: float | None  # two-sided; None without an interval


def mcnemar(first_right: np.ndarray, second_right: np.ndarray) -> McNemar:
    """Apply McNemar's test to two models on the same images (Psychometrika 12, 1947).

    Args:
        first_right: (images,) of bool: whether the first model predicts the image correctly.
        second_right: (images,) of bool, likewise, in the same order.

    Raises:
        ValueError: the two have different numbers of images.

    Example:
        >>> result = mcnemar(np.array([1, 1, 1, 0], bool), np.array([1, 0, 0, 0], bool))
        >>> result.first_only, result.second_only, result.p
        (2, 0, 0.5)
    """
    first = np.asarray(first_right, dtype=bool)
    second = np.asarray(second_right, dtype=bool)
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"expected the same images of both, given {first.shape} and {second.shape}")
    first_only = int((first & ~second).sum())
    second_only = int((second & ~first).sum())
    p, mid_p = _binomial_p(first_only, second_only)
    return McNemar(
        images=len(first),
        first_only=first_only,
        second_only=second_only,
        p=p,
        mid_p=mid_p,
        smallest_p=min(1.0, 2 * 0.5 ** (first_only + second_only)),
    )


def crossed_difference(differences: np.ndarray) -> Crossed:
    """Compute the mean difference with an interval that is valid for other seeds and other images.

    The variance is that of a random model with seeds and images crossed: the variance of the seeds' means over the
    number of seeds, and, as seeds share images, the covariance of two seeds' means. If all seeds have all images this
    is (MS_s + max(MS_i - MS_si, 0)) / (S I). The degrees of freedom are Hillis' (Statistics in Medicine 26, 2007).
    Radiology calls this design, of readers and cases, multi-reader multi-case.

    Args:
        differences: (seeds, images) first right - second right of one seed's models on one image: -1, 0 or 1; NaN for
            images that the seed was not tested on, because it drew another test split.

    Raises:
        ValueError: it has another shape, or a seed has no image.

    Example:
        >>> result = crossed_difference(np.array([[1, 0, 0, 1], [1, 0, -1, 1]]))
        >>> result.seeds, result.images, result.difference, round(result.low, 2), round(result.high, 2)
        (2, 4, 0.375, -0.37, 1.12)
    """
    data = np.asarray(differences, dtype=float)
    is_tested = ~np.isnan(data)
    if data.ndim != 2 or not data.size or not is_tested.any(axis=1).all():
        raise ValueError(f"expected a table of seeds and images, given the shape {data.shape}")
    seeds, images = data.shape
    of_seed = np.nanmean(data, axis=1)
    centre = float(of_seed.mean())
    if min(seeds, images) < 2:
        return Crossed(seeds, images, centre, None, None, None, None)
    of_seeds = float(of_seed.var(ddof=1)) / seeds
    total = of_seeds + max(_covariance_of_means(data - of_seed[:, None], is_tested), 0.0)
    if total <= _ROUNDING:
        return Crossed(seeds, images, centre, centre, centre, None, None)
    # If all seeds have the same mean, only the images vary.
    degrees = total**2 / (of_seeds**2 / (seeds - 1)) if of_seeds > _ROUNDING else images - 1
    error = math.sqrt(total)
    half = t_quantile(degrees) * error
    p = float(2 * special.stdtr(degrees, -abs(centre) / error))
    return Crossed(seeds, images, centre, centre - half, centre + half, degrees, p)


def _covariance_of_means(centred: np.ndarray, is_tested: np.ndarray) -> float:
    """Estimate the covariance of two seeds' means, on average over all pairs of seeds, from their common images."""
    counts = is_tested.sum(axis=1).astype(float)
    common = is_tested.astype(float) @ is_tested.T
    filled = np.where(is_tested, centred, 0.0)
    products = filled @ filled.T
    pairs = ~np.eye(len(counts), dtype=bool)
    inverse = 1.0 / counts
    # The expected product of a pair, in units of the images' variance: both rows were centred at their own means.
    expected = common * (1.0 - inverse[:, None] - inverse[None, :] + common * np.outer(inverse, inverse))
    if expected[pairs].sum() <= 0 or abs(products[pairs].sum()) <= _ROUNDING_OF_PRODUCTS * products.trace():
        return 0.0
    of_images = products[pairs].sum() / expected[pairs].sum()
    return float(of_images * (common * np.outer(inverse, inverse))[pairs].mean())


def _binomial_p(b: int, c: int) -> tuple[float, float]:
    """Compute exact p and mid-p of b against c: both tails, and the same with half of what is as likely as b and c."""
    fewer = min(b, c)
    below = float(special.bdtr(fewer, b + c, 0.5))
    ways = math.lgamma(b + c + 1) - math.lgamma(fewer + 1) - math.lgamma(b + c - fewer + 1)
    as_likely = math.exp(ways - (b + c) * math.log(2))
    p = min(1.0, 2 * below)
    if b == c > 0:  # what is as likely is then one outcome, not two
        return p, 1 - as_likely / 2
    return p, min(1.0, 2 * below - as_likely)
