"""Pareto fronts and how sure they are, by hand, against plain loops and against all resamples written out."""

import itertools

import numpy as np
import pytest

from results.statistics.fronts import front_shares, on_front, resamples


def slow_front(costs: list[float], scores: list[float]) -> list[bool]:
    """One point after the other."""
    found = []
    for cost, score in zip(costs, scores, strict=True):
        others = zip(costs, scores, strict=True)
        found.append(not any(c <= cost and s >= score and (c < cost or s > score) for c, s in others))
    return found


def test_the_front_by_hand() -> None:
    costs = np.array([1.0, 2.0, 3.0, 3.0, 2.0])
    scores = np.array([0.5, 0.7, 0.7, 0.9, 0.7])
    assert on_front(costs, scores).tolist() == [True, True, False, True, True]  # equal points stand together


@pytest.mark.parametrize("seed", range(4))
def test_the_front_is_that_of_a_plain_loop(seed: int) -> None:
    generator = np.random.default_rng(seed)
    costs, scores = generator.integers(0, 6, 30).astype(float), generator.integers(0, 6, 30).astype(float)
    assert on_front(costs, scores).tolist() == slow_front(list(costs), list(scores))


def test_a_point_that_is_not_a_number_is_on_no_front_and_beats_nothing() -> None:
    assert on_front(np.array([1.0, 2.0, np.nan]), np.array([np.nan, 0.5, 0.9])).tolist() == [False, True, False]


def test_shares_are_those_of_all_resamples() -> None:
    generator = np.random.default_rng(0)
    costs, scores = generator.normal(10, 2, (4, 3)), generator.normal(0.8, 0.1, (4, 3))
    exact = np.zeros(4)
    for drawn in itertools.product(range(3), repeat=3):
        exact += slow_front(list(costs[:, drawn].mean(axis=1)), list(scores[:, drawn].mean(axis=1)))
    found = front_shares(costs, scores, resamples(3, np.random.default_rng(1), draws=20_000))
    assert found == pytest.approx(exact / 27, abs=0.015)
    assert 0 < min(exact) < 27  # some point is neither always nor never on it


def test_seeds_stay_together_and_a_missing_one_is_left_out() -> None:
    """The second is always 0.1 better at the same seed and equal cost, though the seeds differ by far more."""
    base = np.array([[0.1, 0.5, 0.9]])
    scores, costs = np.concatenate([base, base + 0.1]), np.ones((2, 3))
    weights = resamples(3, np.random.default_rng(0))
    assert front_shares(costs, scores, weights).tolist() == [0.0, 1.0]
    scores[0, 1] = np.nan
    share = front_shares(costs, scores, weights)
    assert share[0] < 1 and share[1] > 0.5


def test_what_is_no_table_is_refused() -> None:
    with pytest.raises(ValueError, match="arms x seeds"):
        front_shares(np.zeros(3), np.zeros(3), resamples(3, np.random.default_rng(0)))
