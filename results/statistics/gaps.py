"""Which of the lowest values are far from all others, so that a figure need not show the empty space between."""

from collections.abc import Sequence

_LEAST_SHARE = 1 / 3
_LOWEST = 1 / 4


def above_widest_gap(values: Sequence[float]) -> float:
    """Return the least value that is not far below the others.

    Looks at the gaps below each of the lowest quarter of the values. Where the widest is over a third of the whole
    range, what is below it is far away; else nothing is, and the least value is returned. With no value: 0.

    Example: of 71, 93, 94, 95, 95 the first is far away, and the answer is 93.
    """
    ordered = sorted(values)
    if len(ordered) < 3:
        return ordered[0] if ordered else 0.0
    above_a_gap = range(1, max(2, int(len(ordered) * _LOWEST) + 1))  # indices in `ordered`
    gaps = {index: ordered[index] - ordered[index - 1] for index in above_a_gap}
    widest = max(above_a_gap, key=lambda index: gaps[index])
    is_far = gaps[widest] > _LEAST_SHARE * (ordered[-1] - ordered[0])
    return ordered[widest] if is_far else ordered[0]
