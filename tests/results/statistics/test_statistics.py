"""Statistics against numbers worked out by hand and against scipy, which goes another way."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from results.sign_flip import DRAWS, EXACT_UP_TO, pairs_needed, smallest_p
from results.statistics.means import mean_interval
from results.statistics.pairs import compare_pairs, doubts, sign_flip_p, signed_sums
from results.statistics.paths import stop_rule


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_mean_and_interval_of_three_values_by_hand() -> None:
    found = mean_interval([1.0, 2.0, 3.0])
    half = 4.302652729911275 / math.sqrt(3)  # t(0.975, 2 degrees) from a printed table, deviation 1
    assert (found.n, found.mean, found.deviation) == (3, 2.0, 1.0)
    assert found.low == pytest.approx(2 - half)
    assert found.high == pytest.approx(2 + half)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        mean_interval([0.5, bad])
    with pytest.raises(ValueError, match="finite"):
        compare_pairs({0: 0.5, 1: bad}, {0: 0.5, 1: 0.5})


def test_pairs_are_formed_by_block_and_counted_by_hand() -> None:
    first = {0: 0.9, 1: 0.8, 2: 0.7, 3: 0.5, 9: 0.1}
    second = {3: 0.5, 2: 0.75, 1: 0.7, 0: 0.8, 8: 0.2}
    found = compare_pairs(first, second)
    assert found.difference.n == 4
    assert found.difference.mean == pytest.approx((0.1 + 0.1 - 0.05 + 0.0) / 4)
    assert (found.wins, found.losses, found.ties, found.unpaired) == (2, 1, 1, 2)
    # |sum| of (±10 ±10 ±5 ±0) is at least 15 for: ++-, +++ and their opposites, each twice for the zero: 8 of 16.
    assert found.p == 8 / 16
    assert found.smallest_p == 2 / 16


def test_differences_that_only_rounding_tells_from_0_are_ties() -> None:
    found = compare_pairs({0: 0.1 + 0.2}, {0: 0.3})
    assert (found.wins, found.losses, found.ties) == (0, 0, 1)


def test_no_common_block_gives_no_numbers() -> None:
    found = compare_pairs({0: 0.5}, {1: 0.5})
    assert (found.difference.n, found.p, found.smallest_p, found.unpaired) == (0, None, None, 2)
    assert doubts(found) == ["no seed has both arms"]


@pytest.mark.parametrize("n", [1, 2, 5, 9, 12])
def test_sign_flips_equal_all_patterns_written_out_and_scipy(n: int) -> None:
    differences = rng(n).normal(0.3, 1, n)
    patterns = itertools.product((1, -1), repeat=n)
    sums = [abs(sum(sign * value for sign, value in zip(pattern, differences, strict=True))) for pattern in patterns]
    slow = sum(value >= abs(sum(differences)) - 1e-12 for value in sums) / 2**n
    assert sign_flip_p(differences) == slow
    if n > 1:
        scipys = stats.permutation_test(
            (differences,), np.mean, permutation_type="samples", alternative="two-sided", n_resamples=math.inf
        )
        assert sign_flip_p(differences) == pytest.approx(scipys.pvalue)


@pytest.mark.parametrize("n", [1, 3, 5, 6, 10, 12])
def test_equal_signs_reach_the_smallest_p(n: int) -> None:
    assert sign_flip_p([0.1] * n) == smallest_p(n) == min(1.0, 2 / 2**n)


@pytest.mark.parametrize("n", [1, 4, 12])
def test_signed_sums_have_every_pattern_or_its_mirror_image_once(n: int) -> None:
    signs = signed_sums(np.eye(n), rng(0)).T
    patterns = {tuple(row) for row in signs} | {tuple(-row) for row in signs}
    assert patterns == set(itertools.product((1, -1), repeat=n))
    assert len(signs) == 2 ** (n - 1)


@pytest.mark.parametrize("n", [13, 16, 17])
def test_drawn_signs_are_the_bits_of_the_drawn_bytes(n: int) -> None:
    drawn = np.frombuffer(rng(5).bytes(DRAWS * -(-n // 8)), np.uint8).reshape(DRAWS, -1)
    bits = np.unpackbits(drawn, axis=1, count=n)
    assert (signed_sums(np.eye(n), rng(5)).T[1:] == 1.0 - 2.0 * bits).all()


def test_above_the_exact_limit_the_same_patterns_are_drawn_for_all() -> None:
    differences = rng(3).normal(0.2, 1, EXACT_UP_TO + 4)
    signs = signed_sums(np.eye(len(differences)), rng(0)).T
    assert len(signs) == DRAWS + 1
    assert (signs[0] == 1).all()
    sums = [abs(sum(differences * row)) for row in signs]
    slow = sum(value >= abs(sum(differences)) - 1e-12 for value in sums) / len(sums)
    np.random.seed(1)  # noqa: NPY002  # the global generator is not read
    assert sign_flip_p(differences) == sign_flip_p(differences) == slow
    exact = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", alternative="two-sided", n_resamples=math.inf
    ).pvalue
    assert sign_flip_p(differences) == pytest.approx(exact, abs=0.02)
    assert sign_flip_p([1.0] * 40) == 1 / (DRAWS + 1) == smallest_p(40)


def test_six_pairs_are_the_fewest_that_can_settle_anything() -> None:
    assert pairs_needed() == 6
    assert smallest_p(5) > 0.05 >= smallest_p(6)


def test_interval_and_test_must_agree() -> None:
    differences = [0.3] * 5 + [-0.05] * 2 + [0.01] * 1
    found = compare_pairs(dict(enumerate(differences)), dict.fromkeys(range(8), 0.0))
    assert found.difference.low is not None
    assert found.difference.low > 0
    assert found.p is not None
    assert found.p > 0.05
    assert doubts(found) == [f"the sign-flip test gives p = {found.p:.3g}"]


@pytest.mark.parametrize(
    ("accuracies", "tolerance", "chosen"),
    [
        ((0.9,), 0.003, 0),
        ((0.9, 0.897), 0.003, 1),  # exactly the tolerance does not stop, though 0.9 - 0.897 > 0.003 in floating point
        ((0.9, 0.896999), 0.003, 0),  # a little more does
        ((0.1, 0.097), 0.003, 1),
        ((0.9, 0.9), 0.0, 1),  # equal is no drop
        ((0.9, 0.8999), 0.0, 0),
        ((0.9, 0.898, 0.896, 0.894), 0.003, 3),  # each step is within: it replaces although slightly lower
        ((0.9, 0.898, 0.8949), 0.003, 1),  # measured from the point held, not from the best ever
        ((0.8, 0.9, 0.85, 0.95), 0.003, 1),  # what comes after the stop is never seen
        ((0.837, 0.858, 0.853, 0.847), 0.003, 1),  # the paper's figure 3, Caltech256-30: 10%
        ((0.645, 0.791, 0.795, 0.807, 0.801, 0.794), 0.003, 3),  # CUB-200: 30%, as its table 1
        ((0.894, 0.907, 0.910, 0.899), 0.003, 2),  # Stanford Dogs: 20%
        ((0.9, math.nan, 0.9), 0.003, 0),
        ((math.nan, 0.5), 0.003, 1),
    ],
)
def test_the_stop_rule_by_hand(accuracies: tuple[float, ...], tolerance: float, chosen: int) -> None:
    assert stop_rule(accuracies, tolerance) == chosen
