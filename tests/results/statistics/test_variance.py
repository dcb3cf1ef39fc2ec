"""Analysis of variance, by hand and against statsmodels."""

import itertools

import numpy as np
import pandas as pd
import pytest
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from results.statistics.variance import anova


def test_two_by_two_by_hand() -> None:
    """Cell means 1, 2, 3, 6 with two values each, half above and below."""
    means = {("a", "c"): 1.0, ("a", "d"): 2.0, ("b", "c"): 3.0, ("b", "d"): 6.0}
    cells = [cell for cell in means for _ in range(2)]
    values = [means[cell] + sign / 2 for cell in means for sign in (-1, 1)]
    found = anova(values, {"A": [cell[0] for cell in cells], "B": [cell[1] for cell in cells]})
    squares = {effect.name: effect.sum_of_squares for effect in found.effects}
    assert found.residual_sum_of_squares == pytest.approx(4 * 2 * 0.25)
    assert found.residual_degrees == 4
    # Grand mean 3; A: means 1.5 and 4.5, so 4 values x 1.5^2 x 2; B: means 2 and 4, so 8 x 1; A x B: 8 x 0.5^2.
    assert squares == pytest.approx({"A": 18.0, "B": 8.0, "A x B": 2.0})
    by_name = {effect.name: effect for effect in found.effects}
    assert by_name["A"].f == pytest.approx(18 / 0.5)
    assert by_name["A"].eta_squared == pytest.approx(18 / 30)
    assert by_name["A"].partial_eta_squared == pytest.approx(18 / 20)
    assert by_name["A"].omega_squared == pytest.approx((18 - 0.5) / (30 + 0.5))
    assert found.is_balanced
    shares = sum(effect.eta_squared or 0 for effect in found.effects)
    assert shares + found.residual_sum_of_squares / found.sum_of_squares == pytest.approx(1)


@pytest.mark.parametrize("drop", [0, 3, 7])
def test_effects_with_a_block_agree_with_statsmodels_balanced_or_not(drop: int) -> None:
    generator = np.random.default_rng(drop)
    rows = list(itertools.product("abc", "xy", range(4)))
    kept = sorted(generator.permutation(len(rows))[: len(rows) - drop])
    frame = pd.DataFrame([rows[place] for place in kept], columns=["one", "two", "seed"])
    frame["y"] = generator.normal(0, 1, len(frame)) + frame["one"].map({"a": 0, "b": 1, "c": 3}) + 0.3 * frame["seed"]
    table = anova_lm(ols("y ~ C(seed) + C(one) * C(two)", frame).fit(), typ=2)
    levels = {name: [str(level) for level in frame[name]] for name in ("one", "two", "seed")}
    found = anova(list(frame["y"]), {"one": levels["one"], "two": levels["two"]}, ("seed", levels["seed"]))
    names = {"seed": "C(seed)", "one": "C(one)", "two": "C(two)", "one x two": "C(one):C(two)"}
    assert [effect.name for effect in found.effects] == list(names)
    for effect in found.effects:
        theirs = table.loc[names[effect.name]]
        assert effect.degrees == theirs["df"]
        assert effect.sum_of_squares == pytest.approx(theirs["sum_sq"])
        assert (effect.f, effect.p) == pytest.approx((theirs["F"], theirs["PR(>F)"]))
    assert found.residual_sum_of_squares == pytest.approx(table.loc["Residual", "sum_sq"])
    assert found.is_balanced == (drop == 0)


def test_what_an_empty_cell_leaves_undecided_has_no_degrees_of_freedom() -> None:
    rows = [("a", "x"), ("a", "x"), ("a", "y"), ("a", "y"), ("b", "x"), ("b", "x")]
    found = anova([1.0, 2.0, 3.0, 4.0, 5.0, 7.0], {"A": [a for a, _ in rows], "B": [b for _, b in rows]})
    by_name = {effect.name: effect for effect in found.effects}
    assert (by_name["A"].degrees, by_name["B"].degrees, by_name["A x B"].degrees) == (1, 1, 0)
    assert by_name["A x B"].f is None
    assert (found.cells, found.fewest, found.is_balanced) == ((3, 4), 0, False)


def test_without_noise_left_there_is_no_f() -> None:
    found = anova([1.0, 2.0, 3.0, 5.0], {"A": list("aabb"), "B": list("xyxy")})
    assert found.residual_degrees == 0
    assert all(effect.f is None and effect.omega_squared is None for effect in found.effects)


@pytest.mark.parametrize("seed", range(5))
def test_a_setting_that_changes_nothing_has_no_f_of_rounding(seed: int) -> None:
    """All scores of a seed are equal, as where a setting is not read: sums of squares are 0, not 1e-31."""
    of_seeds = np.random.default_rng(seed).integers(700, 950, 7) / 1000
    rows = list(itertools.product(range(7), "abc", "xy"))
    factors = {"A": [a for _, a, _ in rows], "B": [b for _, _, b in rows]}
    block = ("seed", [str(s) for s, _, _ in rows])
    found = anova([float(of_seeds[s]) for s, _, _ in rows], factors, block)
    assert found.residual_sum_of_squares == 0
    assert all(effect.f is None and effect.p is None for effect in found.effects)
    assert [effect.sum_of_squares for effect in found.effects[1:]] == [0, 0, 0]
    equal = anova([0.1] * len(rows), factors, block)
    assert equal.sum_of_squares == 0
    assert all((one.f, one.eta_squared, one.partial_eta_squared) == (None, None, None) for one in equal.effects)


@pytest.mark.parametrize("seed", range(5))
def test_only_an_interaction_leaves_its_factors_nothing(seed: int) -> None:
    """With seed 3 the two sums, whose difference a factor explains, differ in their last digit."""
    of_seeds = np.random.default_rng(seed).integers(700, 950, 5) / 1000
    rows = list(itertools.product(range(5), "ab", "xy"))
    values = [float(of_seeds[s]) + (0.02 if (a == "a") == (b == "x") else 0.0) for s, a, b in rows]
    factors = {"A": [a for _, a, _ in rows], "B": [b for _, _, b in rows]}
    by_name = {effect.name: effect for effect in anova(values, factors, ("seed", [str(s) for s, *_ in rows])).effects}
    assert [by_name[name].sum_of_squares for name in "AB"] == [0, 0]
    assert by_name["A"].partial_eta_squared is None
    assert by_name["A x B"].sum_of_squares == pytest.approx(20 * 0.01**2)


def test_bad_columns_are_refused() -> None:
    with pytest.raises(ValueError, match="factors of 2 levels"):
        anova([1.0, 2.0], {"A": ["a"]})
    with pytest.raises(ValueError, match="finite"):
        anova([1.0, float("nan")], {"A": ["a", "b"]})
