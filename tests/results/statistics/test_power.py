"""How many pairs settle a comparison: against statsmodels, against an integral, and by simulation."""

import numpy as np
import pytest
from scipy import special, stats
from statsmodels.stats.power import TTestPower

from results.statistics.pairs import sign_flip_p
from results.statistics.power import detectable_effect, largest_deviation, pairs_for, power_of_pairs


@pytest.mark.parametrize("n", [2, 5, 10, 30, 60])
@pytest.mark.parametrize("effect", [0.05, 0.3, 1.0, 1.5])
def test_power_is_statsmodels(n: int, effect: float) -> None:
    theirs = TTestPower().power(effect, n, 0.05, alternative="two-sided")
    assert power_of_pairs(n, effect) == pytest.approx(theirs, abs=1e-6)
    assert power_of_pairs(n, -effect) == power_of_pairs(n, effect)


@pytest.mark.parametrize("n", [2, 6, 10, 50, 80, 1000, 50_000])
def test_power_is_the_integral_over_all_effects_however_large(n: int) -> None:
    """P(|T| > reach) as the mean over equally likely deviations."""
    levels = (np.arange(4000) + 0.5) / 4000
    deviations = np.sqrt(special.chdtri(n - 1, 1 - levels) / (n - 1))
    reach = stats.t.ppf(1 - 0.05 / 2, n - 1)
    for effect in np.geomspace(0.001, 800, 60):
        shift = effect * np.sqrt(n)
        slow = np.mean(special.ndtr(shift - reach * deviations) + special.ndtr(-reach * deviations - shift))
        assert power_of_pairs(n, effect) == pytest.approx(slow, abs=3e-4)


@pytest.mark.parametrize("effect", [0.1, 0.35, 0.8])
def test_the_fewest_pairs_have_the_power_and_one_less_does_not(effect: float) -> None:
    n = pairs_for(effect)
    assert n is not None
    assert power_of_pairs(n, effect) >= 0.8 > power_of_pairs(n - 1, effect)
    theirs = TTestPower().solve_power(effect, power=0.8, alpha=0.05, alternative="two-sided")
    assert n == int(np.ceil(theirs))


def test_a_sign_flip_test_must_be_able_to_reach_the_level() -> None:
    assert pairs_for(50.0) == 6
    assert pairs_for(0.0) is None
    assert pairs_for(1e-4) is None


def test_no_number_of_pairs_is_absurd_for_a_huge_effect() -> None:
    found = [pairs_for(effect) for effect in np.geomspace(0.5, 500, 200)]
    assert all(one is not None for one in found)
    assert found == sorted(found, key=lambda one: -(one or 0))


def test_the_detectable_effect_is_found_with_that_power() -> None:
    for n in (2, 3, 10, 40):
        assert power_of_pairs(n, detectable_effect(n)) == pytest.approx(0.8, abs=1e-6)


def test_the_upper_limit_of_a_deviation_by_chi_squared() -> None:
    assert largest_deviation(2.0, 10) == pytest.approx(2.0 * np.sqrt(9 / stats.chi2.ppf(0.2, 9)))


@pytest.mark.check
def test_the_sign_flip_test_has_about_the_power_that_was_planned_for_t() -> None:
    generator = np.random.default_rng(0)
    n = pairs_for(0.9)
    assert n == 12
    found = np.mean([sign_flip_p(generator.normal(0.9, 1, n)) <= 0.05 for _ in range(600)])
    assert found == pytest.approx(0.8, abs=0.06)
