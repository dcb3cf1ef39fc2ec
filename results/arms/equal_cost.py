"""Arms at exactly equal cost: scores interpolated along each seed's path at one share of removed MACs.

Widths are whole numbers, so two methods with the same asked budget miss it by different amounts. Between two operating
points of a path the score is interpolated linearly; nothing is extrapolated.
"""

from collections.abc import Iterable
from dataclasses import replace

from results.arms.comparison import Point, Problem, Setting
from results.statistics.paths import score_at

Path = tuple[Problem, str, str, int, Setting | None]
_SAME_COST = 1e-9
"""Shares that differ by less are one, as in `score_at`."""


def points_at_equal_cost(points: Iterable[Point], removed: float) -> tuple[list[Point], list[Path]]:
    """Return one point per path at that cost, and the paths that do not reach it.

    A path has all points of one arm, seed and setting: those of one trial, or of several if every budget is a trial
    of its own. A path that removes nothing is returned as it is. The model of an interpolated point has the keys of
    both neighbours.

    Args:
        removed: share of the MACs that is removed, in [0, 1).
    """
    paths: dict[Path, list[Point]] = {}
    for point in points:
        paths.setdefault((point.problem, point.arm, point.method, point.seed, point.setting), []).append(point)
    found: list[Point] = []
    unreached: list[Path] = []
    for path, several in paths.items():
        ordered = sorted(several, key=lambda point: (point.removed, point.point))
        if not any(point.removed for point in ordered):
            found.append(replace(ordered[-1], asked=None))
        elif (between := _interpolate(ordered, removed)) is not None:
            found.append(between)
        else:
            unreached.append(path)
    return found, unreached


def _interpolate(path: list[Point], removed: float) -> Point | None:
    """Interpolate the point at that cost; None outside the path. A score next to one that is not finite is NaN."""
    costs = [point.removed for point in path]
    validation = score_at(costs, [point.validation for point in path], removed)
    if validation is None:
        return None
    tested = [point for point in path if point.test is not None]
    test = score_at([point.removed for point in tested], [point.test or 0.0 for point in tested], removed)
    low = max((point for point in path if point.removed <= removed + _SAME_COST), key=lambda point: point.removed)
    high = min((point for point in path if point.removed >= removed - _SAME_COST), key=lambda point: point.removed)
    keys = "/".join(dict.fromkeys((low.model_key, high.model_key)))
    return replace(low, asked=removed, removed=removed, model_key=keys, validation=validation, test=test)
