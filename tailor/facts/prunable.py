"""What a network can lose, without torch, so that an impossible budget is refused before training."""

from collections.abc import Sequence
from dataclasses import dataclass

CLASSES = 5  # outputs of the networks' heads that are analysed

Width = tuple[int, int]
"""Groups that are equally wide: filters (heads, groups of a convolution), and the channels that each of them is; see
`Group.filters_each`."""
Term = tuple[int, int, int, int]
"""Whether it is of the head (1) or not (0), numbers of two widths i and j (-1: what stays), and MACs c: c k_i k_j are
left when groups keep the fractions k of their filters. The terms of the head are those of one output."""
STAYS = -1  # in place of a width: what no group has


@dataclass(frozen=True, kw_only=True)
class Prunable:
    """What a network can lose under one rule of groups, of images of one shape."""

    widths: Sequence[Width]
    terms: Sequence[Term]  # what is left as groups shrink
    kinds: Sequence[str]  # of groups that there are
    without_norm: str  # the first layer that can lose filters and has no norm with factors behind it; "": all have one
    without_activation: str  # the same for an activation module that no other layer uses, for factors

    def macs_left(self, classes: int, kept_fractions: Sequence[float]) -> float:
        """Return the MACs of one input that are left when groups keep these fractions of their filters.

        >>> terms = ((0, -1, -1, 10), (0, -1, 0, 20), (0, 0, 0, 4))  # 10 + 20 k + 4 k^2
        >>> known = Prunable(widths=((8, 1),), terms=terms, kinds=("filters",), without_norm="", without_activation="")
        >>> known.macs_left(5, [0.5])
        21.0

        Args:
            classes: outputs of the head.
            kept_fractions: in [0, 1], one for each of the `widths`.
        """
        fractions = [*kept_fractions, 1.0]  # the last one is that of STAYS
        return sum((classes if head else 1) * macs * fractions[i] * fractions[j] for head, i, j, macs in self.terms)
