"""Recorded paths: the point that a stop rule chooses, and the score at a cost between two points."""

import math
from collections.abc import Sequence


def stop_rule(scores: Sequence[float], tolerance: float) -> int:
    """Choose the point of TransTailor's Algorithm 1 on a recorded path; return its index.

    The rule walks the points in order and stops at the first whose score is more than the tolerance below the point
    before; it chooses that one. A slightly worse point is accepted, so small drops can add up: the paper's rule is
    printed like this. A score that is NaN ends the walk.

    Args:
        scores: of the points on the validation split, in the order of the path, at least one.
        tolerance: a drop of exactly this much does not stop; the paper's 0.3 percentage points are 0.003.

    Example:
        >>> stop_rule([0.90, 0.899, 0.89], tolerance=0.003)
        1
    """
    for index in range(1, len(scores)):
        if math.isnan(scores[index]) or _falls(scores[index - 1], scores[index], tolerance):
            return index - 1
    return len(scores) - 1


def best_stop_rule(scores: Sequence[float], tolerance: float) -> int:
    """Choose the last point before the first that is more than the tolerance below the best one so far.

    Unlike in the printed rule, small drops do not add up: each is measured from the best.
    """
    best = scores[0]
    for index in range(1, len(scores)):
        if math.isnan(scores[index]) or _falls(best, scores[index], tolerance):
            return index - 1
        best = max(best, scores[index])
    return len(scores) - 1


def patience_rule(scores: Sequence[float], patience: int) -> int:
    """Choose the best point once `patience` points in a row are not above it (Prechelt 1998, class UP).

    A score that is NaN is not above any other.
    """
    best = 0
    for index in range(1, len(scores)):
        if scores[index] > scores[best] or math.isnan(scores[best]):
            best = index
        elif index - best >= patience:
            break
    return best


def _falls(held: float, score: float, tolerance: float) -> bool:
    # Rounded: 0.9 - 0.897 is 0.0030000000000000027 in floating point and must count as 0.003.
    return round(held - score, 9) > tolerance
