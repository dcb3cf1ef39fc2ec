"""What a pass over labels finds of a transformer (see `whole_tracing`), and parameters that enter as labels."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, nn

from tailor.pruning.dependency_trace import Trace, core, varies
from tailor.stages import ConvGroups

MOST_ELEMENTS = 2**20  # of a parameter that enters with a label for each; a larger one is no embedding


@dataclass(kw_only=True, eq=False)
class WholeTrace(Trace):
    """What one forward pass of a transformer found, in addition to what is found of convolutions."""

    conv_groups: ConvGroups = "none"

    def follows(self, name: str, tensor: Tensor) -> bool:
        """Whether a parameter or buffer enters as labels: also where it has several numbers for each channel."""
        if super().follows(name, tensor):
            return True
        is_matrix = name.endswith(".weight")  # of a layer, computed with
        if is_matrix or tensor.numel() > MOST_ELEMENTS or not isinstance(tensor, nn.Parameter):
            self.fixed.add(name)
            return False
        return True

    def channels(self, labels: Tensor, dim: int) -> Tensor:
        """Labels (C,) of the channels at `dim`, those of all positions joined."""
        moved = labels.movedim(dim, -1)
        one = moved[(0,) * (moved.dim() - 1)]
        if any(varies(moved, d) for d in range(moved.dim() - 1)):
            self.join(moved, one)
        return one

    def grid(self, labels: Tensor, fixed: Iterable[int] = ()) -> None:
        """Note that what goes has to leave a rectangle, and nothing of the dims that are fixed."""
        dims = [d for d in range(labels.dim()) if varies(labels, d)]
        numbered = frozenset(dims.index(d % labels.dim()) for d in fixed if d % labels.dim() in dims)
        if len(dims) > 1 or numbered:
            self.grids.append((core(labels).reshape([labels.shape[d] for d in dims]), numbered))


def compact(labels: Tensor) -> Tensor:
    """The same labels, with stride 0 along the dims in which they are equal."""
    small = core(labels)
    for d in range(small.dim()):
        if small.shape[d] > 1 and bool((first := small.narrow(d, 0, 1)).eq(small).all()):
            small = first
    return small.expand(labels.shape)


def dims_that_vary(labels: Tensor, dims: Iterable[int]) -> list[int]:
    return [d for d in dims if varies(labels, d)]
