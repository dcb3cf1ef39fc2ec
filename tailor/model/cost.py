"""Multiply-accumulates and parameters of a model, from the shapes of its weights."""

import math
from collections import Counter
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from tailor.core.torch_private import TorchDispatchMode, storage_of
from tailor.networks import building

aten = torch.ops.aten
PRODUCTS = (aten.convolution, aten.mm, aten.addmm, aten.bmm, aten.baddbmm)


class _Positions(TorchDispatchMode):
    """Counts the outputs that each parameter's products make, convolutions and matrix products alike."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.name_of = {storage_of(parameter): name for name, parameter in model.named_parameters()}
        self.outputs: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket in PRODUCTS:
            factors = [a for a in args if isinstance(a, Tensor) and a.dim() > 1]
            for name in {self.name_of.get(storage_of(factor)) for factor in factors} - {None}:
                self.outputs[str(name)] += result.numel()
        return result


@lru_cache(maxsize=32)
def positions(network: str, classes: int, input_shape: tuple[int, ...]) -> dict[str, int]:
    """Name of each weight of a convolution or linear layer -> at how many positions one image applies it.

    Pruning filters changes widths, never positions, so one shape pass over the original network is enough. A network
    that applies a weight twice counts it twice. Products of activations with each other (attention) have no weight
    and are not counted.

    Args:
        network: its name.
        classes: outputs of its head.
        input_shape: of one image.
    """
    model = building.skeleton(network, classes).eval()
    counted = _Positions(model)
    with torch.no_grad(), counted:
        model(torch.zeros(1, *input_shape, device="meta"))
    shapes = original_shapes(network, classes)
    return {name: outputs // shapes[name][0] for name, outputs in counted.outputs.items()}


def macs(network: str, classes: int, shapes: dict[str, torch.Size], input_shape: tuple[int, ...]) -> int:
    """Multiply-accumulates of convolution and linear layers for one image of `input_shape`."""
    return sum(macs_by_layer(network, classes, shapes, input_shape).values())


def macs_by_layer(
    network: str, classes: int, shapes: dict[str, torch.Size], input_shape: tuple[int, ...]
) -> dict[str, int]:
    """Weight name -> multiply-accumulates of that layer for one image: a weight is used once per position.

    This holds for grouped convolutions, too: their weight (C, inputs / groups, k, k) has no more elements than used.
    """
    applied = positions(network, classes, input_shape)
    return {name: count * math.prod(shapes[name]) for name, count in applied.items()}


@lru_cache(maxsize=32)
def original_shapes(network: str, classes: int) -> dict[str, torch.Size]:
    """Shapes of the unpruned network's state_dict, with a head for `classes`."""
    return {name: tensor.shape for name, tensor in building.skeleton(network, classes).state_dict().items()}


def params_count(tensors: dict[str, Tensor], model: nn.Module) -> int:
    """Number of parameters of `model` in `tensors` (buffers such as running means do not count)."""
    return sum(tensors[name].numel() for name, _ in model.named_parameters() if name in tensors)
