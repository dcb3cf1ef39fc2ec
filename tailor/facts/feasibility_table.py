"""What a network can lose, from a table and without torch, so that an impossible budget is refused before training."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

TABLE_FILE = Path(__file__).parent / "possible.json"  # made by `python -m tools.feasibility_table`
TABLE_CLASSES = 5  # outputs of the networks' heads in the table

Width = tuple[int, int]
"""Groups that are equally wide: filters (heads, groups of a convolution), and the channels that each of them is; see
`Group.filters_each`."""
Term = tuple[int, int, int]
"""Numbers of two widths i and j (-1: what stays), and the MACs at a position c: c k_i k_j are left when groups keep the
fractions k of their filters."""
GridTerms = tuple[int, int, int, tuple[Term, ...]]
"""Layers with the same grid, as stride, offset, whether they are the head (1) or not (0), and terms. Along a side of n
pixels they are applied at floor((n + offset) / stride) positions; a stride of 0 means one position, whatever the size.
The terms of the head are those of one output."""
STAYS = -1  # in place of a width: what no group has


@dataclass(frozen=True)
class Prunable:
    """What a network can lose under one rule of groups."""

    widths: tuple[Width, ...]
    grids: tuple[GridTerms, ...]  # what is left as groups shrink; only strides 0: valid for the table's size of images
    without_norm: str  # the first layer that can lose filters and has no norm with factors behind it; "": all have one
    without_activation: str  # the same for an activation module that no other layer uses, for factors


@lru_cache(maxsize=1)
def table() -> dict[str, dict[str, Prunable]]:
    """Return network -> `name` of a rule -> what the network can lose under it.

    Rules for kinds of groups that a network does not have are left out.
    """
    rows_by_network = json.loads(TABLE_FILE.read_bytes())
    return {network: read_rows(rows) for network, rows in rows_by_network.items()}


def read_rows(rows: dict[str, Any]) -> dict[str, Prunable]:
    """Return what one network can lose, by the name of the rule, from JSON: a list of each `Prunable`'s fields."""
    prunable_by_rule = {}
    for rule, (widths, grids, without_norm, without_activation) in rows.items():
        prunable_by_rule[rule] = Prunable(
            widths=tuple(tuple(width) for width in widths),
            grids=tuple((*grid, tuple(tuple(term) for term in terms)) for *grid, terms in grids),
            without_norm=without_norm,
            without_activation=without_activation,
        )
    return prunable_by_rule


def macs_left(
    grids: tuple[GridTerms, ...], input_shape: tuple[int, ...], classes: int, kept_fractions: Sequence[float]
) -> float:
    """Return the MACs of one input that are left when groups keep these fractions of their filters.

    >>> at_each_pixel = ((-1, -1, 10), (-1, 0, 20), (0, 0, 4))  # 10 + 20 k + 4 k^2
    >>> macs_left(((1, 0, 0, at_each_pixel),), (3, 2, 2), classes=5, kept_fractions=[0.5])
    84.0

    Args:
        grids: of a `Prunable`.
        classes: outputs of the head.
        kept_fractions: in [0, 1], one for each of the `widths`.
    """
    sides = input_shape[1:]
    fractions = [*kept_fractions, 1.0]  # the last one is that of STAYS
    macs = 0.0
    for stride, offset, is_head, terms in grids:
        times = classes if is_head else 1
        if stride:
            times *= math.prod(max(0, side + offset) // stride for side in sides)
        macs += times * sum(count * fractions[i] * fractions[j] for i, j, count in terms)
    return macs
