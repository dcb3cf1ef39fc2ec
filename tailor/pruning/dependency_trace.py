"""The result of a forward pass on labels (see `channel_tracing`): which filters and tensors belong together."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from tailor.stages import ConvGroups

PINNED = 0  # the label of elements that are not a filter's output or have to stay
MOST_ELEMENTS = 2**20  # of a parameter that enters with a label for each; a larger one is no embedding


Grid = tuple[Tensor, frozenset[int]]
"""Labels along the dims of a rectangle, and the dims that are read by number."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Product:
    """What is computed for each head or channel by itself: activations multiplied with each other, or mixed tokens."""

    each: Tensor  # (H,) labels of the heads or channels
    macs: int  # of one
    has_heads: bool


@dataclass(kw_only=True, eq=False)
class Trace:
    """The result of one forward pass on labels. Labels are integers from 1 on; PINNED is 0."""

    tensor_of: dict[int, str]  # id of a parameter, or of a buffer that is saved -> its name
    like: Tensor  # a parameter: tensors of labels say that they are where it is, and have such numbers
    layers: Mapping[Any, Callable[..., Any]]  # torch's function -> what reads it here
    handlers: Mapping[Any, Callable[..., Any]]  # the same of the dispatcher's operations
    conv_groups: ConvGroups = "none"
    labels: int = 1
    first_label: dict[str, int] = field(default_factory=dict)  # layer -> label of its first output
    width: dict[str, int] = field(default_factory=dict)  # layer -> number of outputs
    uses: dict[tuple[str, int], Tensor] = field(default_factory=dict)  # (tensor, dim) -> label of each index
    joins: list[Tensor] = field(default_factory=list)  # (n, 2) pairs of labels that are removed together
    pins: list[tuple[Tensor, str]] = field(default_factory=list)  # labels (n,) that have to stay, and why
    gates: set[str] = field(default_factory=set)  # layers whose outputs are multiplied onto others'
    norm_of: dict[str, str] = field(default_factory=dict)  # layer -> the norm directly after it
    activation_of: dict[str, str] = field(default_factory=dict)  # layer or norm -> the activation module after it
    channels_last: set[str] = field(default_factory=set)  # layers with feature maps whose channels are the last dim
    calls: dict[str, int] = field(default_factory=dict)  # module -> calls in one pass
    running: list[tuple[str, nn.Module]] = field(default_factory=list)  # whose code runs now, the innermost last
    unread: dict[str, str] = field(default_factory=dict)  # layer that was called -> why it is not understood
    unsized: dict[str, Tensor] = field(default_factory=dict)  # norm without any tensor -> labels of its channels
    loose: dict[str, Tensor] = field(default_factory=dict)  # parameter -> labels of its elements
    fixed: set[str] = field(default_factory=set)  # parameters that were used in a way that is not understood
    grouped: dict[str, Tensor] = field(default_factory=dict)  # convolution in groups -> labels that it reads and makes
    grids: list[Grid] = field(default_factory=list)
    normed: list[Tensor] = field(default_factory=list)  # labels (C,) of channels that a norm's statistics run over
    products: list[Product] = field(default_factory=list)

    def follows(self, name: str, tensor: Tensor) -> bool:
        """Whether a parameter or buffer enters as labels: a buffer only if it has one number for each channel."""
        if tensor.numel() == max(tensor.shape):
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

    def join(self, left: Tensor, right: Tensor) -> None:
        """Record that labels at equal positions (after broadcasting) are removed together or not at all."""
        left, right = torch.broadcast_tensors(core(left), core(right))
        codes = torch.unique(left.flatten() * self.labels + right.flatten())  # faster than unique rows
        pairs = torch.stack([codes // self.labels, codes % self.labels], dim=1)
        pairs = pairs[pairs[:, 0] != pairs[:, 1]]
        has_pinned = (pairs == PINNED).any(dim=1)
        self.joins.append(pairs[~has_pinned])
        self.pins.append((pairs[has_pinned].flatten(), "a sum or product with values of no filter"))

    def pin(self, labels: Tensor, why: str) -> None:
        """Record that the filters with these labels have to stay, because of `why`."""
        self.pins.append((torch.unique(core(labels)), why))

    def grid(self, labels: Tensor, fixed: Iterable[int] = ()) -> None:
        """Note that what goes has to leave a rectangle of these labels, and that nothing of the fixed dims may go."""
        dims = dims_that_vary(labels, range(labels.dim()))
        fixed_dims = [dim % labels.dim() for dim in fixed]
        fixed_in_grid = frozenset(dims.index(dim) for dim in fixed_dims if dim in dims)
        if len(dims) > 1 or fixed_in_grid:
            grid = core(labels).reshape([labels.shape[dim] for dim in dims])
            self.grids.append((grid, fixed_in_grid))

    def use(self, tensor: str, dim: int, labels: Tensor) -> None:
        """Record that the indices of `dim` of a tensor belong to these labels (n,)."""
        first_labels = self.uses.setdefault((tensor, dim), labels)
        self.join(first_labels, labels)

    def outputs(self, layer: str, width: int) -> Tensor:
        """Labels (width,) of a layer's outputs: new ones, or those of its first call."""
        if layer not in self.first_label:
            self.first_label[layer] = self.labels
            self.width[layer] = width
            self.labels += width
        first = self.first_label[layer]
        return torch.arange(first, first + width)

    def layers_of(self, labels: Tensor) -> set[str]:
        """Layers with outputs among these labels."""
        is_among_them = torch.zeros(self.labels, dtype=torch.bool)
        is_among_them[labels.flatten()] = True
        layers = set()
        for layer, first in self.first_label.items():
            if is_among_them[first : first + self.width[layer]].any():
                layers.add(layer)
        return layers


def varies(labels: Tensor, dim: int) -> bool:
    """Whether labels may differ along a dim."""
    return labels.shape[dim] > 1 and labels.stride(dim) != 0


def core(labels: Tensor) -> Tensor:
    """The same labels with size 1 along the dims in which they do not vary."""
    for dim in range(labels.dim()):
        if not varies(labels, dim):
            labels = labels.narrow(dim, 0, min(1, labels.shape[dim]))
    return labels


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
