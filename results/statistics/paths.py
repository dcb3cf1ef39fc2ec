"""Recorded paths: the point that a stop rule chooses, and the score at a cost between two points."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PathPoint:
    """One operating point on a trial's path, and its score on the validation split."""

    point: int
    validation_score: float


def stop_rule(points: Sequence[PathPoint], tolerance: float) -> PathPoint:
    """Choose the point of TransTailor's Algorithm 1 on a recorded path.

    The rule walks the points in order and stops at the first whose score is more than the tolerance below the point
    before; it chooses that one. A slightly worse point is accepted, so small drops can add up: the paper's rule is
    printed like this. A score that is NaN ends the walk.

    Args:
        points: the path in order, at least one point.
        tolerance: a drop of exactly this much does not stop; the paper's 0.3 percentage points are 0.003.

    Raises:
        ValueError: no points.

    Example:
        >>> stop_rule([PathPoint(0, 0.90), PathPoint(1, 0.899), PathPoint(2, 0.89)], tolerance=0.003)
        PathPoint(point=1, validation_score=0.899)
    """
    best = _first(points)
    for point in points[1:]:
        score = point.validation_score
        if math.isnan(score):
            break
        if _falls(best, point, tolerance):
            break
        best = point
    return best


def best_stop_rule(points: Sequence[PathPoint], tolerance: float) -> PathPoint:
    """Choose the last point before the first that is more than the tolerance below the best one so far.

    Unlike in the printed rule, small drops do not add up: each is measured from the best. Raises as `stop_rule`.
    """
    best = held = _first(points)
    for point in points[1:]:
        if math.isnan(point.validation_score) or _falls(best, point, tolerance):
            break
        held = point
        if point.validation_score > best.validation_score:
            best = point
    return held


def patience_rule(points: Sequence[PathPoint], patience: int) -> PathPoint:
    """Choose the best point once `patience` points in a row are not above it (Prechelt 1998, class UP).

    A score that is NaN is not above any other. Raises as `stop_rule`.
    """
    best, waited = _first(points), 0
    for point in points[1:]:
        if point.validation_score > best.validation_score or math.isnan(best.validation_score):
            best, waited = point, 0
            continue
        waited += 1
        if waited >= patience:
            break
    return best


def score_at(costs: Sequence[float], scores: Sequence[float], cost: float) -> float | None:
    """Interpolate the score at a cost linearly between the neighbouring points of a path.

    Nothing is extrapolated: None if the cost is outside the path, or a neighbouring score is not finite. Of points at
    one cost the last counts.

    Args:
        costs: what each point costs, in any order; the same unit as `cost`.
        scores: the score of each point.

    Example:
        >>> score_at([0.0, 0.2, 0.4], [0.9, 0.875, 0.625], 0.3)
        0.75
    """
    last = dict(zip(costs, scores, strict=True))
    known = sorted(last)
    at = int(np.searchsorted(known, cost))
    for near in (at, at - 1):  # at a point, up to rounding, no neighbour is needed
        if 0 <= near < len(known) and math.isclose(known[near], cost, rel_tol=1e-9, abs_tol=1e-12):
            return last[known[near]] if math.isfinite(last[known[near]]) else None
    if at in (0, len(known)):
        return None
    before, after = known[at - 1], known[at]
    share = (cost - before) / (after - before)
    score = last[before] + share * (last[after] - last[before])
    return score if math.isfinite(score) else None


def _first(points: Sequence[PathPoint]) -> PathPoint:
    if not points:
        raise ValueError("expected at least one operating point, given none")
    return points[0]


def _falls(held: PathPoint, point: PathPoint, tolerance: float) -> bool:
    # Rounded: 0.9 - 0.897 is 0.0030000000000000027 in floating point and must count as 0.003.
    return round(held.validation_score - point.validation_score, 9) > tolerance
