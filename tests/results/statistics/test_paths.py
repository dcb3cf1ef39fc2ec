"""Stop rules and interpolation on recorded paths, by hand and against NumPy."""

import math

from results.statistics.paths import best_stop_rule, patience_rule, stop_rule


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
