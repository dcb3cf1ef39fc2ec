"""Multiply-accumulates and parameters of a model, from the shapes of its weights."""

import copy
import math
from functools import lru_cache

import torch
from torch import Tensor, nn

from tailor import networks
from tailor.catalog import NETWORKS


@lru_cache(maxsize=32)
def positions(network: str, classes: int) -> dict[str, int]:
    """Weight name of each convolution and linear layer -> at how many positions one image applies it.

    Pruning filters changes widths, never positions, so one shape pass over the original network is enough.
    """
    model = copy.deepcopy(networks.build(network, classes, seed=0)).to("meta").eval()
    found: dict[str, int] = {}

    def note(name: str, output: Tensor) -> None:
        found[f"{name}.weight"] = math.prod(output.shape[2:]) if output.dim() == 4 else math.prod(output.shape[1:-1])

    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(lambda _m, _i, output, name=name: note(name, output))
    model(torch.zeros(1, *NETWORKS[network].image_shape, device="meta"))
    return found


def macs(network: str, classes: int, shapes: dict[str, torch.Size]) -> int:
    """Multiply-accumulates of convolution and linear layers for one image at the network's training size."""
    return sum(macs_by_layer(network, classes, shapes).values())


def macs_by_layer(network: str, classes: int, shapes: dict[str, torch.Size]) -> dict[str, int]:
    """Weight name -> multiply-accumulates of that layer for one image: a weight is used once per position."""
    return {name: count * math.prod(shapes[name]) for name, count in positions(network, classes).items()}


@lru_cache(maxsize=32)
def original_shapes(network: str, classes: int) -> dict[str, torch.Size]:
    """Shapes of the unpruned network's state_dict, with a head for `classes`."""
    return {name: tensor.shape for name, tensor in networks.build(network, classes, seed=0).state_dict().items()}


def params_count(tensors: dict[str, Tensor], model: nn.Module) -> int:
    """Number of parameters of `model` in `tensors` (buffers such as running means do not count)."""
    return sum(tensors[name].numel() for name, _ in model.named_parameters() if name in tensors)
