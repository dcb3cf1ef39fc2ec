"""What a pass over labels finds of a transformer (see `whole_tracing`), and parameters that enter as labels."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from tailor.core.torch_private import tree_map, without_torch_function
from tailor.pruning.channel_tracing import ChannelLabels
from tailor.pruning.dependency_trace import Trace, core, varies
from tailor.stages import ConvGroups

MOST_ELEMENTS = 2**20  # of a parameter that enters with a label for each; a larger one is no embedding

TAKE_NUMBERS = (F.linear,)  # also where their input is no label


@dataclass(kw_only=True, eq=False)
class WholeTrace(Trace):
    """What one forward pass of a transformer found, in addition to what is found of convolutions."""

    conv_groups: ConvGroups = "none"

    def watch(self) -> AbstractContextManager[object]:
        """The context in which parameters enter as labels."""
        return _Entering(self)

    def channels(self, labels: Tensor, dim: int) -> Tensor:
        """Labels (C,) of the channels at `dim`, those of all positions joined."""
        moved = labels.movedim(dim, -1)
        one = moved[(0,) * (moved.dim() - 1)]
        if any(varies(moved, d) for d in range(moved.dim() - 1)):
            self.join(moved, one)
        return one

    def enter(self, value: Any) -> Any:
        """Labels in place of a parameter; anything else as it is."""
        name = self.tensor_of.get(id(value)) if isinstance(value, nn.Parameter) else None
        if name is None or value.numel() <= 1:
            return value
        is_matrix = name.endswith(".weight") and value.numel() > max(value.shape)  # of a layer, computed with
        if is_matrix or value.numel() > MOST_ELEMENTS:
            self.fixed.add(name)
            return value
        if name not in self.loose:
            self.loose[name] = torch.arange(self.labels, self.labels + value.numel()).reshape(value.shape)
            self.labels += value.numel()
        return ChannelLabels(self.loose[name], self)

    def grid(self, labels: Tensor, fixed: Iterable[int] = ()) -> None:
        """Note that what goes has to leave a rectangle, and nothing of the dims that are fixed."""
        dims = [d for d in range(labels.dim()) if varies(labels, d)]
        numbered = frozenset(dims.index(d % labels.dim()) for d in fixed if d % labels.dim() in dims)
        if len(dims) > 1 or numbered:
            self.grids.append((core(labels).reshape([labels.shape[d] for d in dims]), numbered))


class _Entering(TorchFunctionMode):
    """Puts labels in place of parameters, and sees layers whose input is no label."""

    def __init__(self, trace: WholeTrace) -> None:
        super().__init__()
        self.trace = trace

    def __torch_function__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") == "__get__":
            return func(*args, **kwargs)
        layers = self.trace.layers
        if func in layers:
            if args and isinstance(args[0], ChannelLabels):
                return func(*args, **kwargs)
            with without_torch_function():
                made = layers[func](self.trace, func, *args, **kwargs) if func in TAKE_NUMBERS else None
            return func(*args, **kwargs) if made is None else made
        return func(*tree_map(self.trace.enter, args), **tree_map(self.trace.enter, kwargs))


def compact(labels: Tensor) -> Tensor:
    """The same labels, with stride 0 along the dims in which they are equal."""
    small = core(labels)
    for d in range(small.dim()):
        if small.shape[d] > 1 and bool((first := small.narrow(d, 0, 1)).eq(small).all()):
            small = first
    return small.expand(labels.shape)


def dims_that_vary(labels: Tensor, dims: Iterable[int]) -> list[int]:
    return [d for d in dims if varies(labels, d)]
