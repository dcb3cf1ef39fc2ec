"""Arms at exactly equal cost: scores interpolated along each seed's path at one share of removed MACs.

Widths are whole numbers, so two methods that were asked for the same budget miss it by different amounts. Between two
operating points of its path a method's score is taken from the straight line; nothing is extrapolated.
"""

from collections.abc import Iterable
from dataclasses import replace

from results.arms.comparison import Point, Problem, Setting
from results.statistics import score_at

Path = tuple[Problem, str, str, int, Setting | None]


def points_at_equal_cost(points: Iterable[Point], removed: float) -> tuple[list[Point], list[Path]]:
    """One point per path at that cost, and the paths that do not reach it.

    A path is what one label did with one seed and setting, be it one trial or, where every budget is a trial of its
    own, several. A path that removes nothing anywhere stands as it is. A point between two others has the keys of both
    as its model.

    Args:
        points: in any order.
        removed: share of the MACs that is gone, in [0, 1).
    """
    paths: dict[Path, list[Point]] = {}
    for point in points:
        paths.setdefault((point.problem, point.label, point.method, point.seed, point.setting), []).append(point)
    found: list[Point] = []
    unreached: list[Path] = []
    for path, several in paths.items():
        ordered = sorted(several, key=lambda point: (point.removed, point.point))
        if not any(point.removed for point in ordered):
            found.append(replace(ordered[-1], asked=None))
        elif (between := _between(ordered, removed)) is not None:
            found.append(between)
        else:
            unreached.append(path)
    return found, unreached


def _between(path: list[Point], removed: float) -> Point | None:
    """The point at that cost; None outside the path, or where the validation score there is not finite."""
    costs = [point.removed for point in path]
    validation = score_at(costs, [point.validation for point in path], removed)
    if validation is None:
        return None
    tested = [point for point in path if point.test is not None]
    test = score_at([point.removed for point in tested], [point.test or 0.0 for point in tested], removed)
    low = max((point for point in path if point.removed <= removed + 1e-12), key=lambda point: point.removed)
    high = min((point for point in path if point.removed >= removed - 1e-12), key=lambda point: point.removed)
    keys = "/".join(dict.fromkeys((low.model_key, high.model_key)))
    return replace(low, asked=removed, removed=removed, model_key=keys, validation=validation, test=test)
