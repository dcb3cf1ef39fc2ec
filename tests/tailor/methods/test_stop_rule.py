"""The paper's stop rule: as a query on the recorded path and as `stop_early`, it chooses the same model."""

import math
from collections.abc import Callable

import pytest

from results.statistics.paths import stop_rule
from tailor.execution.cache import Cache
from tailor.execution.runner import StageEvent
from tailor.methods.path import exceeds_tolerance
from tests.tailor.trials import short_trial

TOLERANCE = 0.003


def chosen_by_stopping(accuracies: list[float], tolerance: float) -> int:
    """The point that Algorithm 1 returns when it walks these accuracies: the last before the fall."""
    for point in range(1, len(accuracies)):
        if exceeds_tolerance(accuracies[point - 1], accuracies[point], tolerance):
            return point - 1
    return len(accuracies) - 1


@pytest.mark.parametrize(
    ("accuracies", "expected"),
    [
        ([0.8], 0),
        ([0.8, 0.9, 0.95], 2),
        ([0.9, 0.8], 0),
        ([0.9, 0.897], 1),  # a fall of exactly the tolerance goes on
        ([0.9, 0.8969], 0),
        ([0.9, 0.898, 0.896, 0.894], 3),  # slightly lower models replace better ones: small falls add up
        ([0.7, 0.9, 0.85, 0.99], 1),  # what comes after the fall is never seen
    ],
)
def test_boundary_cases(accuracies: list[float], expected: int) -> None:
    assert chosen_by_stopping(accuracies, TOLERANCE) == expected
    assert chosen_by_query(accuracies, TOLERANCE) == expected


def chosen_by_query(accuracies: list[float], tolerance: float) -> int:
    return stop_rule(accuracies, tolerance)


def test_an_unknown_accuracy_never_stops() -> None:
    assert not exceeds_tolerance(math.nan, 0.5, TOLERANCE)
    assert not exceeds_tolerance(0.5, math.nan, TOLERANCE)


@pytest.mark.parametrize(("tolerance", "beta", "stops"), [(0.003, "raw", True), (0.9, "off", False)])
def test_stop_early_ends_where_the_query_says(
    tolerance: float,
    beta: str,
    stops: bool,
    run: Callable[..., list[StageEvent]],
    shared_cache: Cache,
) -> None:
    """Raw beta shrinks every feature map some hundredfold; next to untrained, the accuracy falls and the rule stops."""
    path = {"name": "transtailor", "steps": 4, "alpha_epochs": 1, "step_removed_macs_fraction": 0.2, "beta": beta}
    rates = {"epochs": 1, "head_epochs": 40, "learning_rate": 1e-7, "head_learning_rate": 0.005}
    early = path | {"stop_early": True, "tolerance_fraction": tolerance}
    whole, stopped = (
        [
            event.result
            for event in run(short_trial(method, network="digits_resnet", optimisation=rates), shared_cache)
            if event.point is not None
        ]
        for method in (path, early)
    )
    assert [result.key for result in stopped] == [result.key for result in whole[: len(stopped)]]
    accuracies = [result.deciding_score for result in stopped]
    fell = exceeds_tolerance(accuracies[-2], accuracies[-1], tolerance)
    assert fell == stops
    assert fell or len(stopped) == len(whole)
    chosen = chosen_by_query([result.deciding_score for result in whole], tolerance)
    assert chosen == len(stopped) - 1 - fell
