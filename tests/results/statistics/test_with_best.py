"""Comparisons with the best: beside a slow reference, beside the test of two arms, and how often it errs."""

import itertools

import numpy as np
import pytest

from results.statistics.pairs import sign_flip_p
from results.statistics.with_best import with_best_p


def drawn(blocks: int, arms: int, seed: int = 0) -> np.ndarray:
    """Scores in steps, so that there are ties, of arms that differ somewhat."""
    generator = np.random.default_rng(seed)
    return np.round(generator.normal(0, 1, (blocks, arms)) + generator.normal(0, 1, (blocks, 1)) + np.arange(arms), 1)


def reference(scores: np.ndarray, best: int) -> dict[int, float]:
    """The same from its definition: every sign pattern, every pair, arms left out one by one."""
    blocks, arms = scores.shape

    def stands_out(values: np.ndarray, one: int, two: int) -> float:
        differences = values[:, one] - values[:, two]
        size = np.sqrt(np.mean(differences**2))
        return float(abs(differences.mean()) / size) if size > 1e-9 else 0.0

    centred = scores - scores.mean(axis=1, keepdims=True)
    left = set(range(arms))
    p: dict[int, float] = {}
    largest_p = 0.0
    for arm in sorted(left - {best}, key=lambda one: -stands_out(scores, one, best)):
        seen = stands_out(scores, arm, best)
        patterns = itertools.product([1, -1], repeat=blocks)
        as_large = sum(
            max(stands_out(np.array(signs)[:, None] * centred, *pair) for pair in itertools.combinations(left, 2))
            >= seen - 1e-9
            for signs in patterns
        )
        largest_p = max(largest_p, as_large / 2**blocks)
        p[arm] = largest_p
        left.remove(arm)
    return p


@pytest.mark.parametrize("seed", range(3))
def test_it_is_what_its_definition_says(seed: int) -> None:
    scores = drawn(6, 4, seed)
    best = int(scores.mean(0).argmax())
    found = with_best_p(scores, best, np.random.default_rng(0))
    assert {arm: found[arm] for arm in range(4) if arm != best} == pytest.approx(reference(scores, best))
    assert found[best] == 1


def test_with_two_arms_it_is_the_sign_flip_test() -> None:
    for seed, blocks in enumerate((1, 5, 9, 12)):
        scores = drawn(blocks, 2, seed)
        found = with_best_p(scores, 1, np.random.default_rng(0))
        assert found[0] == pytest.approx(sign_flip_p(scores[:, 1] - scores[:, 0]))


def test_drawn_patterns_come_near_all_of_them() -> None:
    scores = drawn(13, 3, 1)
    first, second = (with_best_p(scores, 2, np.random.default_rng(seed)) for seed in (0, 1))
    assert first == pytest.approx(second, abs=0.02)
    assert min(first) >= 1 / 10_000


def test_of_equal_arms_few_are_told_from_the_best() -> None:
    """Turned by any signs the data are as likely; of all these tables at most 5% may tell an arm from the best."""
    centred = drawn(7, 5) - np.arange(5)
    erred = 0
    for signs in itertools.product([1, -1], repeat=7):
        scores = np.array(signs)[:, None] * (centred - centred.mean(1, keepdims=True))
        erred += bool((with_best_p(scores, int(scores.mean(0).argmax()), np.random.default_rng(0)) <= 0.05).any())
    assert 0 < erred <= 0.05 * 2**7


def test_an_arm_far_behind_does_not_hide_another() -> None:
    scores = np.array([[0.0, -1.0, -50.0]]) + 0.1 * np.random.default_rng(0).normal(size=(9, 3))
    assert (with_best_p(scores, 0, np.random.default_rng(0))[1:] <= 0.05).all()


def test_arms_that_are_equal_in_every_block_are_not_told_apart() -> None:
    scores = drawn(8, 2)
    found = with_best_p(np.concatenate([scores, scores[:, 1:]], axis=1), 1, np.random.default_rng(0))
    assert found[2] == 1


@pytest.mark.parametrize("scores", [np.zeros((0, 2)), np.array([[0.0, np.nan]])])
def test_nothing_to_compare_is_refused(scores: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected finite scores in at least one block"):
        with_best_p(scores, 0, np.random.default_rng(0))
