"""Recorded paths: the point that the paper's stop rule chooses."""

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
        # Rounded: 0.9 - 0.897 is 0.0030000000000000027 in floating point and must count as 0.003.
        if math.isnan(scores[index]) or round(scores[index - 1] - scores[index], 9) > tolerance:
            return index - 1
    return len(scores) - 1
