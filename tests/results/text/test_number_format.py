"""How numbers are written: per cent or not, signs, and what is missing."""

import math

import pytest

from results.statistics.means import Mean
from results.store.schema import TABLES
from results.text.number_format import SCALES, number, percent


def test_every_metric_has_a_scale() -> None:
    (metrics,) = {column.one_of for table in TABLES.values() for column in table.columns if column.name == "metric"}
    assert set(SCALES) == set(metrics)


@pytest.mark.parametrize(
    ("metric", "value", "difference", "interval"),
    [("accuracy", "91.25", "+1.50", "90.00 … 92.50"), ("r_squared", "0.9125", "+0.0150", "0.9000 … 0.9250")],
)
def test_accuracies_are_in_per_cent_and_r_squared_is_not(
    metric: str, value: str, difference: str, interval: str
) -> None:
    scale = SCALES[metric]
    assert scale.value(0.9125) == value
    assert scale.difference(0.015) == difference
    assert scale.difference(-0.015) == difference.replace("+", "-")
    assert scale.interval(Mean(3, 0.9125, 0.1, 0.9, 0.925)) == interval
    assert scale.interval(Mean(1, 0.9125, None, None, None)) == "–"
    assert scale.value(None) == "–"


def test_numbers_for_people() -> None:
    assert (number(1234.5678, 1), number(None), number(math.nan)) == ("1,234.6", "–", "not a number")
    assert (number(-0.001), number(-1e-17, signed=True), number(-0.01, signed=True)) == ("0.00", "+0.00", "-0.01")
    assert (percent(0.125, 1), percent(None)) == ("12.5", "–")
