"""Stop rules and interpolation on recorded paths, by hand and against NumPy."""

import math

import numpy as np
import pytest

from results.statistics.paths import best_stop_rule, patience_rule, score_at, stop_rule


def test_small_steps_down_add_up_for_the_printed_rule_alone() -> None:
    falling = [0.9, 0.898, 0.896, 0.894]
    assert stop_rule(falling, 0.003) == 3
    assert best_stop_rule(falling, 0.003) == 1  # 0.896 is 0.004 below the best
    assert best_stop_rule([0.9, 0.95, 0.948, 0.94, 0.99], 0.003) == 2
    assert best_stop_rule([0.9, 0.897], 0.003) == 1  # exactly the tolerance does not stop
    assert best_stop_rule([0.9, math.nan, 0.95], 0.003) == 0


def test_patience_returns_the_best_when_it_is_over() -> None:
    scores = [0.8, 0.85, 0.84, 0.83, 0.99]
    assert patience_rule(scores, 1) == 1
    assert patience_rule(scores, 2) == 1  # two below it: over, before the 0.99
    assert patience_rule(scores, 3) == 4
    assert patience_rule([0.8, 0.8, 0.8], 2) == 0  # equal is not above
    assert patience_rule([math.nan, 0.7, math.nan, 0.6], 2) == 1


@pytest.mark.parametrize("rule", [lambda points: best_stop_rule(points, 0.0), lambda points: patience_rule(points, 1)])
def test_no_point_is_refused(rule: object) -> None:
    assert callable(rule)
    with pytest.raises(ValueError, match="at least one"):
        rule([])


def test_between_two_points_lies_a_straight_line() -> None:
    assert score_at([0.1, 0.3], [0.9, 0.7], 0.15) == pytest.approx(0.85)
    costs, scores = [0.3, 0.0, 0.2], [0.6, 0.9, 0.8]  # in any order
    for cost in np.linspace(0, 0.3, 13):
        assert score_at(costs, scores, cost) == pytest.approx(np.interp(cost, [0.0, 0.2, 0.3], [0.9, 0.8, 0.6]))


def test_nothing_is_extrapolated_and_nothing_made_of_nan() -> None:
    assert score_at([0.1, 0.3], [0.9, 0.7], 0.09) is None
    assert score_at([0.1, 0.3], [0.9, 0.7], 0.31) is None
    assert score_at([0.1, 0.3], [0.9, 0.7], 0.1 + 1e-15) == 0.9
    for lost in (math.nan, math.inf):  # between its neighbours, not outside the path
        for cost in (0.15, 0.2):
            assert math.isnan(score_at([0.1, 0.2, 0.3], [0.9, lost, 0.7], cost) or 0.0)
    assert score_at([0.1, 0.2, 0.3], [0.9, math.nan, 0.7], 0.3) == 0.7  # a point that is there needs no neighbour
    assert score_at([0.1, 0.1], [0.9, 0.7], 0.1) == 0.7  # the last of equal costs
    assert score_at([], [], 0.1) is None
