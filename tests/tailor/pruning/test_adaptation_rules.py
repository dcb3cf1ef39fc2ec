"""The rules of target-aware adaptation by hand: cumulative sum, priority, what goes at once, which point is kept."""

import math
from pathlib import Path

import duckdb
import pytest

from tailor.pruning.adaptation_rules import Layer, best_point, cut_layers, kept_count
from tailor.stages import CumulativeSum

PAGE = Path(__file__).parents[3] / "docs" / "methods" / "target_aware_adaptation.md"


# --- the cumulative sum: k* = min{k : S_k >= c} ---


@pytest.mark.parametrize(
    ("statistics", "fraction", "expected"),
    [
        ([1.0] * 10, 0.99, 10),  # all equal: S_k = k / 10
        ([1.0] * 10, 0.9, 9),  # S_9 == c exactly
        ([0.1] * 10, 0.3, 3),  # exactly, though three are above 0.3 in binary fractions
        ([0.1] * 10, 0.8, 8),  # exactly, though eight are below 0.8
        ([0.7, 0.1, 0.1], 7 / 9, 1),
        ([1e-4, 1.0, 1e-4], 0.99, 1),  # one dominant, wherever it stands
        ([0.0, 0.0, 0.0], 0.99, 1),  # a dead layer keeps one
        ([0.0, 0.0, 0.0], 1.0, 1),
        ([3.0, 0.0, 1.0, 0.0], 1.0, 2),  # c = 1: only what adds nothing goes
        ([3.0, 2.0, 1.0], 1.0, 3),
        ([3.0, 2.0, 1.0], 1e-6, 1),  # c so small that one filter is enough
        ([3.0, 2.0, 1.0], 0.5, 1),  # 3 / 6 == c
        ([1.0, 2.0, 3.0], 0.51, 2),  # sorted from the largest on
        ([5.0], 0.99, 1),
        ([0.0], 0.5, 1),
    ],
)
def test_kept_count_by_hand(statistics: list[float], fraction: float, expected: int) -> None:
    assert kept_count(statistics, fraction) == expected


@pytest.mark.parametrize("statistics", [[], [1.0, -0.1], [1.0, math.nan], [math.inf]])
def test_a_cumulative_sum_needs_statistics_from_zero_on(statistics: list[float]) -> None:
    with pytest.raises(ValueError, match="finite statistics >= 0"):
        kept_count(statistics, 0.99)


# --- priorities, and how much goes at once ---


def cut(**changes: object) -> CumulativeSum:
    usual = {
        "kept_cumulative_fraction": 0.5,
        "priority": "removable",
        "layers_per_iteration": 2,
        "most_filters_fraction": 1.0,
    }
    return CumulativeSum(**(usual | changes))  # type: ignore[arg-type]


def layer(name: str, useful: int, idle: int, macs_fraction: float = 0.25, minimum: int = 1) -> Layer:
    """A layer of which `useful` filters hold all of the sum; with c = 1, k* = useful."""
    return Layer(name=name, statistics=[1.0] * useful + [0.0] * idle, macs_fraction=macs_fraction, minimum=minimum)


def removed(layers: list[Layer], how: CumulativeSum) -> dict[str, int]:
    return {judged.name: judged.removed for judged in cut_layers(layers, how)}


def test_what_the_rule_says_of_a_layer_by_hand() -> None:
    (judged,) = cut_layers([layer("a", 3, 5, macs_fraction=0.4)], cut(kept_cumulative_fraction=1.0))
    assert (judged.filters, judged.kept_by_rule, judged.removed) == (8, 3, 5)
    assert judged.removable_fraction == judged.priority == 5 / 8
    (judged,) = cut_layers(
        [layer("a", 3, 5, macs_fraction=0.4)], cut(kept_cumulative_fraction=1.0, priority="removable_x_macs")
    )
    assert judged.priority == 5 / 8 * 0.4


def test_layers_of_the_highest_priority_go_first_and_equal_ones_in_order() -> None:
    layers = [
        layer("small", 9, 1, macs_fraction=0.9),  # r = 0.1, r x macs = 0.09
        layer("half", 5, 5, macs_fraction=0.02),  # r = 0.5, r x macs = 0.01
        layer("third", 6, 4, macs_fraction=0.05),  # r = 0.4, r x macs = 0.02
        layer("same", 6, 4, macs_fraction=0.03),
        layer("none", 10, 0),
    ]
    whole = {"kept_cumulative_fraction": 1.0}
    assert removed(layers, cut(**whole)) == {"small": 0, "half": 5, "third": 4, "same": 0, "none": 0}
    by_macs = cut(**whole, priority="removable_x_macs")
    assert removed(layers, by_macs) == {"small": 1, "half": 0, "third": 4, "same": 0, "none": 0}
    assert removed(layers, cut(**whole, layers_per_iteration=9)) == {
        "small": 1, "half": 5, "third": 4, "same": 4, "none": 0
    }  # fmt: skip


def test_a_layer_that_cannot_lose_takes_no_place_of_one_that_can() -> None:
    layers = [layer("at its minimum", 1, 9, minimum=10), layer("a", 9, 1), layer("b", 8, 2)]
    found = removed(layers, cut(kept_cumulative_fraction=1.0))
    assert found == {"at its minimum": 0, "a": 1, "b": 2}


@pytest.mark.parametrize(
    ("filters", "idle", "most", "minimum", "expected"),
    [
        (100, 50, 0.1, 1, 10),
        (100, 50, 0.29, 1, 29),  # 0.29 x 100 is below 29 in binary fractions
        (19, 9, 0.1, 1, 1),  # rounded down
        (5, 3, 0.1, 1, 1),  # but at least one
        (100, 3, 0.1, 1, 3),  # no more than the rule finds
        (100, 50, 0.1, 95, 5),  # no more than the minimum allows
        (100, 50, 0.1, 100, 0),
        (100, 50, 0.1, 120, 0),  # a minimum of the original filters, more than are left
        (1, 0, 1.0, 1, 0),
    ],
)
def test_how_many_go_at_once(filters: int, idle: int, most: float, minimum: int, expected: int) -> None:
    given = layer("a", filters - idle, idle, minimum=minimum)
    how = cut(kept_cumulative_fraction=1.0, most_filters_fraction=most)
    assert removed([given], how) == {"a": expected}


# --- which point is kept ---


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ([(0.8, 0.0)], 0),
        ([(0.8, 0.0), (0.9, 0.1), (0.85, 0.2)], 1),
        ([(0.9, 0.0), (0.9, 0.1), (0.9, 0.2), (0.8, 0.3)], 2),  # equal scores: the smallest network
        ([(math.nan, 0.9), (0.1, 0.1)], 1),
        ([(math.nan, 0.1), (math.nan, 0.2)], 1),
    ],
)
def test_the_best_point_by_hand(path: list[tuple[float, float]], expected: int) -> None:
    assert best_point(path) == expected


@pytest.mark.parametrize(
    "path",
    [
        [(0.8, 1.0), (0.9, 0.9), (0.85, 0.8)],
        [(0.9, 1.0), (0.9, 0.9), (0.9, 0.8), (0.8, 0.7)],
        [(math.nan, 1.0), (0.2, 0.9), (0.1, 0.8)],
    ],
)
def test_the_query_of_the_page_finds_the_best_point(path: list[tuple[float, float]]) -> None:
    """(score, MACs that are left) of each point."""
    query = PAGE.read_text().split("```sql\n")[1].split("```")[0]
    tables = duckdb.connect()
    tables.execute(
        "CREATE TABLE measured_points (trial_id TEXT, method TEXT, arm TEXT, network TEXT, seed INT, point INT, "
        "validation_score DOUBLE, test_score DOUBLE, macs DOUBLE, removed_macs_fraction DOUBLE)"
    )
    for trial in ("one", "other"):
        for point, (score, macs) in enumerate(path):
            row = (trial, "target_aware_adaptation", "arm", "net", 0, point, score, 0.5, macs, 1.0 - macs)
            tables.execute("INSERT INTO measured_points VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
    found = tables.sql(query).fetchdf()
    assert found["point"].tolist() == [best_point([(score, 1.0 - macs) for score, macs in path])] * 2
