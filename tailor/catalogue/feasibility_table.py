"""What a network can lose, from a table and without torch, so that an impossible budget is refused before training."""

import json
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

TABLE_FILE = Path(__file__).parent / "possible.json"  # made by `python -m tools.feasibility_table`
TABLE_CLASSES = 5  # outputs of the networks' heads in the table

Part = tuple[int, int, int, int, int]
"""Layers with the same grid, as stride, offset, c0, c1, c2. Along a side of n pixels they are applied at
floor((n + offset) / stride) positions; a stride of 0 means one position, whatever the size. At each position
c0 + c1 k + c2 k^2 MACs are left when each group keeps the fraction k of its filters."""


@dataclass(frozen=True)
class Prunable:
    """What a network can lose under one rule of groups."""

    parts: tuple[Part, ...]  # what is left as groups shrink; only strides 0: valid for the table's size of images
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
    for rule, (parts, without_norm, without_activation) in rows.items():
        prunable_by_rule[rule] = Prunable(
            parts=tuple(tuple(part) for part in parts),
            without_norm=without_norm,
            without_activation=without_activation,
        )
    return prunable_by_rule


def macs_left(parts: tuple[Part, ...], input_shape: tuple[int, ...], kept_fraction: float) -> float:
    """Return the MACs of one input that are left when each group of filters keeps this fraction, in [0, 1].

    >>> half = (1, 0, 10, 20, 4)  # at each pixel 10 + 20 k + 4 k^2
    >>> macs_left((half,), (3, 2, 2), kept_fraction=0.5)
    84.0
    """
    sides = input_shape[1:]
    macs = 0.0
    for stride, offset, c0, c1, c2 in parts:
        positions = 1
        if stride:
            positions = math.prod(max(0, side + offset) // stride for side in sides)
        macs += positions * (c0 + c1 * kept_fraction + c2 * kept_fraction**2)
    return macs
