"""Axes: whole numbers once each, and scores within what a score can be."""

import pytest

from results.render.style import score_channel, score_domain, whole_axis
from results.text.number_format import SCALES


@pytest.mark.parametrize(
    ("numbers", "ticks"),
    [
        ([3], [3]),
        ([1, 2], [1, 2]),
        ([1, 2, 3, 3], [1, 2, 3]),
        (range(1, 13), [2, 4, 6, 8, 10, 12]),
        (range(1, 71), [10, 20, 30, 40, 50, 60, 70]),
        (range(401), [0, 50, 100, 150, 200, 250, 300, 350, 400]),
    ],
)
def test_ticks_are_whole_numbers_each_once(numbers: list[int], ticks: list[int]) -> None:
    assert whole_axis(numbers)["values"] == ticks


def test_an_axis_of_accuracies_stays_between_nothing_and_all() -> None:
    accuracy = SCALES["accuracy"]
    assert score_domain(accuracy, 0.5, 0.75) == [49.0, 76.0]
    assert score_domain(accuracy, -0.1, 1.2) == [0.0, 100.0]
    assert score_domain(accuracy, 1.0, 1.0) == [99.0, 100.0]
    assert score_domain(SCALES["r_squared"], -0.1, 0.9) == [-0.14, 0.94]


def test_an_axis_of_scores_leaves_out_what_is_no_number() -> None:
    channel = score_channel("x", "accuracy", SCALES["accuracy"], [None, float("nan"), 0.5, 0.75])
    assert channel["scale"] == {"zero": False, "domain": [49.0, 76.0]}
    assert "domain" not in score_channel("x", "accuracy", SCALES["accuracy"], [None])["scale"]
