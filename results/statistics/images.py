"""Two methods on the same test images: McNemar's test for one pair of models, and an interval for seeds and images.

McNemar's test compares one pair of models on these images. A claim about methods must also hold for other seeds and
other images: `over_seeds_and_images` takes both as random samples.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from results.statistics.means import t_quantile


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
    images: int
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
    first, second = np.asarray(first_right, dtype=bool), np.asarray(second_right, dtype=bool)
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"expected the same images of both, given {first.shape} and {second.shape}")
    b, c = int((first & ~second).sum()), int((second & ~first).sum())
    return McNemar(len(first), b, c, *_binomial_p(b, c), smallest_p=min(1.0, 2 * 0.5 ** (b + c)))


def over_seeds_and_images(differences: np.ndarray) -> Crossed:
    """Compute the mean difference with an interval that is valid for other seeds and other images.

    The variance is that of a random model with seeds and images crossed, (MS_s + max(MS_i - MS_si, 0)) / (S I); the
    degrees of freedom are Hillis' (Statistics in Medicine 26, 2007). Radiology calls this design, of readers and cases,
    multi-reader multi-case.

    Args:
        differences: (seeds, images) first right - second right of one seed's models on one image: -1, 0 or 1.

    Raises:
        ValueError: it has another shape, or is empty.

    Example:
        >>> result = over_seeds_and_images(np.array([[1, 0, 0, 1], [1, 0, -1, 1]]))
        >>> result.seeds, result.images, result.difference, round(result.low, 2), round(result.high, 2)
        (2, 4, 0.375, -0.37, 1.12)
    """
    data = np.asarray(differences, dtype=float)
    if data.ndim != 2 or not data.size:
        raise ValueError(f"expected a table of seeds and images, given the shape {data.shape}")
    seeds, images = data.shape
    centre = float(data.mean())
    if min(seeds, images) < 2:
        return Crossed(seeds, images, centre, None, None, None, None)
    of_seed, of_image = data.mean(axis=1), data.mean(axis=0)
    rest = data - of_seed[:, None] - of_image[None, :] + centre
    ms_seed = images * float(((of_seed - centre) ** 2).sum()) / (seeds - 1)
    ms_image = seeds * float(((of_image - centre) ** 2).sum()) / (images - 1)
    ms_rest = float((rest**2).sum()) / ((seeds - 1) * (images - 1))
    total = ms_seed + max(ms_image - ms_rest, 0.0)
    if total <= 0 or ms_seed <= 0:
        return _without_spread_of_seeds(data, total)
    degrees = total**2 / (ms_seed**2 / (seeds - 1))
    error = math.sqrt(total / (seeds * images))
    half = t_quantile(degrees) * error
    p = float(2 * special.stdtr(degrees, -abs(centre) / error))
    return Crossed(seeds, images, centre, centre - half, centre + half, degrees, p)


def _without_spread_of_seeds(data: np.ndarray, total: float) -> Crossed:
    """Handle the case that all seeds have the same mean, so that only the images vary (or nothing does)."""
    seeds, images = data.shape
    centre = float(data.mean())
    if total <= 0:
        return Crossed(seeds, images, centre, centre, centre, None, None)
    error = math.sqrt(total / (seeds * images))
    half = t_quantile(images - 1) * error
    p = float(2 * special.stdtr(images - 1, -abs(centre) / error))
    return Crossed(seeds, images, centre, centre - half, centre + half, images - 1, p)


def _binomial_p(b: int, c: int) -> tuple[float, float]:
    """Compute exact p and mid-p of b against c: min(1, 2 P(X <= min)), and the same minus P(X = min)."""
    fewer = min(b, c)
    below = float(special.bdtr(fewer, b + c, 0.5))
    ways = math.lgamma(b + c + 1) - math.lgamma(fewer + 1) - math.lgamma(b + c - fewer + 1)
    there = math.exp(ways - (b + c) * math.log(2))
    return min(1.0, 2 * below), min(1.0, 2 * below - there)
