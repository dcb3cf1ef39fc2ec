"""McNemar's test, and differences over seeds and images, by hand and against statsmodels."""

import math
import operator

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar

from results.statistics.images import crossed_difference, mcnemar
from results.statistics.means import mean_interval


def models(both: int, first_only: int, second_only: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    first = [True] * (both + first_only) + [False] * (second_only + neither)
    second = [True] * both + [False] * first_only + [True] * second_only + [False] * neither
    return np.array(first), np.array(second)


def test_mcnemar_by_hand() -> None:
    found = mcnemar(*models(20, 1, 5, 4))
    assert (found.images, found.first_only, found.second_only) == (30, 1, 5)
    assert found.p == pytest.approx(2 * (1 + 6) / 64)
    assert found.mid_p == pytest.approx((2 + 6) / 64)
    assert found.smallest_p == 2 / 64


@pytest.mark.parametrize(("b", "c"), [(0, 0), (3, 3), (0, 8), (12, 30), (700, 800), (3000, 2500)])
def test_the_exact_p_is_statsmodels(b: int, c: int) -> None:
    found = mcnemar(*models(10, b, c, 5))
    if b + c:
        assert found.p == pytest.approx(statsmodels_mcnemar([[10, b], [c, 5]], exact=True).pvalue, rel=1e-9)
    assert found.mid_p <= found.p <= 1
    assert found.smallest_p <= found.p


@pytest.mark.parametrize(("b", "c"), [(1, 1), (4, 4), (0, 1), (2, 7), (9, 3)])
def test_the_mid_p_is_that_of_all_outcomes(b: int, c: int) -> None:
    """What is further from equal, and half of what is as far: Fagerland, Lydersen and Laake, 2013."""
    ways = {one: math.comb(b + c, one) / 2 ** (b + c) for one in range(b + c + 1)}
    beyond, as_far = (
        sum(chance for one, chance in ways.items() if compared(abs(2 * one - b - c), abs(b - c)))
        for compared in (operator.gt, operator.eq)
    )
    assert mcnemar(*models(2, b, c, 2)).mid_p == pytest.approx(beyond + as_far / 2)


def test_no_discordant_image_says_nothing() -> None:
    found = mcnemar(*models(5, 0, 0, 5))
    assert (found.p, found.mid_p, found.smallest_p) == (1, 1, 1)


def test_other_images_are_refused() -> None:
    with pytest.raises(ValueError, match="same images"):
        mcnemar(np.array([True]), np.array([True, False]))
    with pytest.raises(ValueError, match="seeds and images"):
        crossed_difference(np.zeros(3))


def test_the_variance_is_that_of_a_two_way_table() -> None:
    generator = np.random.default_rng(0)
    data = generator.normal(0, 1, (4, 6)) + generator.normal(0, 1, (1, 6)) + generator.normal(0, 0.5, (4, 1))
    seeds, images = np.indices(data.shape)
    frame = pd.DataFrame({"y": data.ravel(), "seed": seeds.ravel(), "image": images.ravel()})
    table = anova_lm(ols("y ~ C(seed) + C(image)", frame).fit())
    ms = table["mean_sq"]
    variance = (ms["C(seed)"] + max(ms["C(image)"] - ms["Residual"], 0)) / data.size
    found = crossed_difference(data)
    assert found.low is not None and found.high is not None and found.degrees is not None
    degrees = (variance * data.size) ** 2 / (ms["C(seed)"] ** 2 / 3)
    half = stats.t.ppf(0.975, degrees) * np.sqrt(variance)
    assert found.degrees == pytest.approx(degrees)
    assert (found.low, found.high) == pytest.approx((data.mean() - half, data.mean() + half))
    assert found.p == pytest.approx(2 * stats.t.sf(abs(data.mean()) / np.sqrt(variance), degrees))


def drawn_splits(generator: np.random.Generator, of_seed: float, of_image: float) -> np.ndarray:
    """Differences without effect of eight seeds, each tested on 60 of 150 images; NaN on the others."""
    data = (
        generator.normal(0, of_seed, (8, 1))
        + generator.normal(0, of_image, (1, 150))
        + generator.normal(0, 1, (8, 150))
    )
    for row in data:
        row[generator.permutation(150)[:90]] = np.nan
    return data


def test_seeds_with_their_own_images_beside_the_sums_written_out() -> None:
    data = drawn_splits(np.random.default_rng(1), 0.1, 1.0)
    means = [float(np.mean([value for value in row if not np.isnan(value)])) for row in data]
    products = expected = shares = 0.0
    for one in range(8):
        for two in range(8):
            common = [place for place in range(150) if not np.isnan(data[one, place] + data[two, place])]
            if one != two:
                products += sum((data[one, p] - means[one]) * (data[two, p] - means[two]) for p in common)
                expected += len(common) * (1 - 2 / 60 + len(common) / 3600)
                shares += len(common) / 3600 / 56
    variance = float(np.var(means, ddof=1)) / 8
    total = variance + products / expected * shares
    found = crossed_difference(data)
    assert found.low is not None and found.degrees is not None
    assert found.difference == pytest.approx(np.mean(means))
    assert found.degrees == pytest.approx(total**2 / (variance**2 / 7))
    assert found.difference - found.low == pytest.approx(stats.t.ppf(0.975, found.degrees) * np.sqrt(total))


@pytest.mark.parametrize(("of_seed", "of_image"), [(0.0, 1.0), (0.3, 0.5)])
def test_the_interval_covers_the_truth_where_each_seed_drew_its_images(of_seed: float, of_image: float) -> None:
    """Of 2,000 draws 0.95 has a standard error of 0.005; the t interval over seeds alone covers less."""
    generator, hits, hits_of_seeds = np.random.default_rng(0), 0, 0
    for _ in range(2_000):
        data = drawn_splits(generator, of_seed, of_image)
        found, alone = crossed_difference(data), mean_interval(list(np.nanmean(data, axis=1)))
        assert found.low is not None and found.high is not None and alone.low is not None and alone.high is not None
        hits += found.low <= 0 <= found.high
        hits_of_seeds += alone.low <= 0 <= alone.high
    assert 0.93 <= hits / 2_000 <= 0.98
    assert hits_of_seeds < hits


def test_images_that_do_not_differ_leave_the_t_interval_over_seeds() -> None:
    of_seed = np.array([0.1, 0.3, 0.2, 0.25])
    found, mean = crossed_difference(np.tile(of_seed[:, None], 9)), mean_interval(list(of_seed))
    assert (found.low, found.high) == pytest.approx((mean.low, mean.high))
    assert found.degrees == pytest.approx(3)


def test_seeds_that_do_not_differ_leave_the_interval_over_images() -> None:
    of_image = np.array([0.0, 1.0, 0.0, -1.0, 1.0])
    found, mean = crossed_difference(np.tile(of_image, (3, 1))), mean_interval(list(of_image))
    assert (found.low, found.high) == pytest.approx((mean.low, mean.high))


def test_one_seed_has_no_interval_and_no_difference_no_p() -> None:
    one = crossed_difference(np.ones((1, 5)))
    assert (one.difference, one.low, one.p) == (1.0, None, None)
    equal = crossed_difference(np.zeros((3, 5)))
    assert (equal.difference, equal.low, equal.high, equal.p) == (0, 0, 0, None)


def test_equal_seeds_whose_images_do_not_agree_have_no_p() -> None:
    """Both gain five of 25 images, of which they share one, as chance has it: rounding alone is left to vary."""
    gained = np.zeros((2, 25))
    gained[[0] * 5, range(5)] = gained[[1] * 5, [0, 5, 6, 7, 8]] = 1.0
    found = crossed_difference(gained)
    assert (found.low, found.high, found.p) == (found.difference, found.difference, None)
