"""Pareto fronts: which points no other beats in both cost and score, and how certain that is."""

import math

import numpy as np

FRONT_DRAWS = 1_000
_HELD_AT_ONCE = 2_000_000
"""This many means of arms, over several resamples, are held in memory."""


def on_front(costs: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Find the points for which no other is at least as cheap and at least as good, and better in one of the two.

    Args:
        costs: (..., points) the smaller the better; each leading index is a set of points with its own front.
        scores: (..., points) the larger the better; a point with NaN in either is not on the front.

    Returns:
        (..., points) of bool. Equal points are on the front together.

    Example:
        >>> on_front(np.array([1.0, 2.0, 3.0]), np.array([0.7, 0.9, 0.8]))
        array([ True,  True, False])
    """
    known = np.isfinite(costs) & np.isfinite(scores)
    costs = np.where(known, costs, np.inf)
    scores = np.where(known, scores, -np.inf)
    order = np.lexsort((-scores, costs), axis=-1)  # the cheapest first; of equal costs, the best
    costs = np.take_along_axis(costs, order, axis=-1)
    scores = np.take_along_axis(scores, order, axis=-1)
    leads = np.ones(order.shape, dtype=bool)  # better than all that are cheaper
    leads[..., 1:] = scores[..., 1:] > np.maximum.accumulate(scores, axis=-1)[..., :-1]
    is_new = np.ones(order.shape, dtype=bool)  # not equal to the one before
    is_new[..., 1:] = (costs[..., 1:] != costs[..., :-1]) | (scores[..., 1:] != scores[..., :-1])
    first = np.maximum.accumulate(np.where(is_new, np.arange(order.shape[-1]), 0), axis=-1)
    front = np.empty(order.shape, dtype=bool)
    np.put_along_axis(front, order, np.take_along_axis(leads, first, axis=-1), axis=-1)
    front &= known
    return front


def resamples(seeds: int, generator: np.random.Generator, draws: int = FRONT_DRAWS) -> np.ndarray:
    """Draw (draws, seeds): how often each bootstrap resample of the seeds has each of them."""
    return generator.multinomial(seeds, np.full(seeds, 1 / seeds), draws)


def front_shares(costs: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Compute the share of bootstrap resamples of the seeds in which each arm is on the front of the means.

    All arms are resampled together, seed by seed, which keeps the correlation within a seed. An arm without a seed in a
    resample is not on that front.

    Args:
        costs: (arms, seeds); NaN if an arm has no such seed.
        scores: (arms, seeds), likewise.
        weights: from `resamples`.

    Returns:
        (arms,) of shares in [0, 1].

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> costs, scores = np.array([[1.0] * 3, [2.0] * 3]), np.array([[0.8, 0.7, 0.9], [0.9, 0.8, 1.0]])
        >>> front_shares(costs, scores, resamples(3, np.random.default_rng(0)))
        array([1., 1.])
    """
    if costs.shape != scores.shape or costs.ndim != 2:
        raise ValueError(f"expected arms x seeds twice, given {costs.shape} and {scores.shape}")
    known = np.isfinite(costs) & np.isfinite(scores)
    known_costs = np.where(known, costs, 0.0)
    known_scores = np.where(known, scores, 0.0)
    times_on_front = np.zeros(len(costs))
    for weights_held in np.array_split(weights, math.ceil(len(weights) * len(costs) / _HELD_AT_ONCE)):
        total = _sums(known, weights_held)
        with np.errstate(invalid="ignore"):  # 0 / 0, where a resample has no seed of an arm, is NaN
            mean_costs = _sums(known_costs, weights_held) / total
            mean_scores = _sums(known_scores, weights_held) / total
        times_on_front += on_front(mean_costs, mean_scores).sum(axis=0)
    return times_on_front / len(weights)


def _sums(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Compute (draws, arms): sums over seeds of (arms, seeds) with weights (draws, seeds).

    A matrix product would not do: its sums of equal rows may differ in the last digit, so that equal arms do not tie.
    """
    sums: np.ndarray = np.einsum("ds,as->da", weights.astype(float), values.astype(float))
    return sums
