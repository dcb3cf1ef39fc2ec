"""Which widths a layer may keep: hardware computes on several channels at once. Without torch."""

import math
from dataclasses import dataclass

WIDE_FILTERS = 64  # of a layer whose width is a multiple by default: one multiple of 8 is an eighth of it (C)


@dataclass(frozen=True, kw_only=True)
class WidthRule:
    """Layers that lose filters keep a multiple of a number, or all their filters.

    >>> rule = WidthRule(multiple=8, from_filters=64)
    >>> rule.rounded_up(19, original_units=64, filters_each=1), rule.rounded_up(19, original_units=32, filters_each=1)
    (24, 19)
    """

    multiple: int = 1
    from_filters: int = 1  # layers with fewer filters in the unpruned network keep any number of them

    def rounded_up(self, units: int, original_units: int, filters_each: int) -> int:
        """Return the fewest units, at least `units`, of which a group may keep; at most its original ones.

        Args:
            units: filters, heads, or groups of a convolution.
            original_units: those of the unpruned network.
            filters_each: of a unit. 0: heads, which are counted one by one, because their width stays.
        """
        if filters_each == 0 or original_units * filters_each < self.from_filters:
            return units
        multiple = self.multiple // math.gcd(self.multiple, filters_each)
        return min(original_units, multiple * math.ceil(units / multiple))

    def fewest(self, original_units: int, filters_each: int, minimum_fraction: float) -> int:
        """Return the fewest units that a group keeps: a share of its original ones, at least one, rounded up."""
        return self.rounded_up(least_units(original_units, minimum_fraction), original_units, filters_each)


def least_units(original_units: int, minimum_fraction: float) -> int:
    """Return the fewest units that stay of a group: a share of its original ones, rounded up, at least one.

    >>> least_units(32, 0.1), least_units(4, 0.0)
    (4, 1)
    """
    return max(1, math.ceil(minimum_fraction * original_units))


ANY_WIDTH = WidthRule()
