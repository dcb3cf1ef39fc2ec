"""The sizes of a weight as a function of the widths of the groups that make and read it."""

from typing import Any

from tailor.model.state import ModelState
from tailor.pruning.group_records import Group, Slice


class WeightWidths:
    """The groups of which a weight has slices, and its sizes at other widths of them.

    Attributes:
        names: of these groups; the one that makes the weight's outputs first.
        shape: of the weight with the present widths.
    """

    def __init__(self, weight: str, state: ModelState, groups: tuple[Group, ...]) -> None:
        self.shape = tuple(state.tensors[weight].shape)
        self._slices: list[tuple[Group, Slice]] = []
        for group in groups:
            self._slices += [(group, part) for part in group.slices if part.tensor == weight]
        self._slices.sort(key=lambda item: item[1].dim)
        self.names = tuple(dict.fromkeys(group.name for group, _ in self._slices))

    def sizes(self, *widths: Any) -> list[Any]:
        """Return the size of each dim where the groups `names` have these widths: numbers, or arrays of them."""
        width_of = dict(zip(self.names, widths, strict=True))
        sizes: list[Any] = list(self.shape)
        for group, part in self._slices:
            sizes[part.dim] = sizes[part.dim] - (group.filters - width_of[group.name]) * part.indices.shape[1]
        return sizes

    def at(self, *widths: int) -> tuple[int, int]:
        """Return inputs and outputs where the groups `names` have these widths."""
        outputs, inputs = self.sizes(*widths)[:2]
        return inputs, outputs
