"""What a pass over labels finds of a transformer (see `whole_tracing`), and parameters that enter as labels."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, nn

from tailor.pruning.dependency_trace import Trace, core, varies
from tailor.stages import ConvGroups

MOST_ELEMENTS = 2**20  # of a parameter that enters with a label for each; a larger one is no embedding


@dataclass(kw_only=True, eq=False)
class WholeTrace(Trace):
    """The result of one forward pass on labels that also follows transformers."""

    conv_groups: ConvGroups = "none"

    def follows(self, name: str, tensor: Tensor) -> bool:
        """Whether a parameter or buffer enters as labels: also where it has several numbers for each channel."""
        if super().follows(name, tensor):
            return True
        is_layers_weight = name.endswith(".weight")
        if is_layers_weight or tensor.numel() > MOST_ELEMENTS or not isinstance(tensor, nn.Parameter):
            self.fixed.add(name)
            return False
        return True

    def channels(self, labels: Tensor, dim: int) -> Tensor:
        """Labels (C,) of the channels at `dim`, those of all positions joined."""
        by_position = labels.movedim(dim, -1)
        at_first_position = by_position[(0,) * (by_position.dim() - 1)]
        if dims_that_vary(by_position, range(by_position.dim() - 1)):
            self.join(by_position, at_first_position)
        return at_first_position

    def grid(self, labels: Tensor, fixed: Iterable[int] = ()) -> None:
        """Note that what goes has to leave a rectangle of these labels, and that nothing of the fixed dims may go."""
        dims = dims_that_vary(labels, range(labels.dim()))
        fixed_dims = [dim % labels.dim() for dim in fixed]
        fixed_in_grid = frozenset(dims.index(dim) for dim in fixed_dims if dim in dims)
        if len(dims) > 1 or fixed_in_grid:
            grid = core(labels).reshape([labels.shape[dim] for dim in dims])
            self.grids.append((grid, fixed_in_grid))


def compact(labels: Tensor) -> Tensor:
    """The same labels, with stride 0 along the dims in which they are equal."""
    small = core(labels)
    for dim in range(small.dim()):
        if small.shape[dim] > 1:
            first = small.narrow(dim, 0, 1)
            if bool(first.eq(small).all()):
                small = first
    return small.expand(labels.shape)


def dims_that_vary(labels: Tensor, dims: Iterable[int]) -> list[int]:
    """Those of the dims along which the labels may differ."""
    return [dim for dim in dims if varies(labels, dim)]
