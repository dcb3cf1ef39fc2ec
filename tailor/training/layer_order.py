"""Which layer each parameter belongs to, counted from the images: what `layer_decay` multiplies rates by.

Of timm's networks it is timm's own count (`group_matcher`). Of others it follows the same rule: layer 0 is all before
the first block, each block is a layer, with what stands before it and after the block before, and the head is the last
one. A block is the smallest module of two weights or more that is an element of a list of modules, or a part of the
network. A network without blocks has a layer for each weight.
"""

import importlib
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from tailor.common.errors import ConfigError
from tailor.facts.networks import NETWORKS, is_timms
from tailor.networks import building

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def layer_numbers(network: str, classes: int, input_shape: tuple[int, ...]) -> dict[str, int]:
    """Return the layer of each parameter by its name, from 0; the head has the largest number.

    >>> numbers = layer_numbers("digits_resnet", 5, (1, 8, 8))
    >>> [numbers[name] for name in ("stem.0.weight", "blocks.0.conv2.weight", "blocks.1.skip.0.weight", "head.bias")]
    [0, 1, 2, 3]

    Raises:
        ConfigError: the network does not run its layers one after the other.
    """
    model = building.skeleton(network, classes)
    matcher: Any = getattr(model, "group_matcher", None)
    if is_timms(network) and matcher is not None:
        group_parameters = importlib.import_module("timm.models").group_parameters
        of_timm: dict[str, int] = group_parameters(model, matcher(coarse=False), reverse=True)
        return of_timm
    return count_layers(model, NETWORKS[network].head_tensors(model.state_dict()), input_shape)


def count_layers(model: nn.Module, head: Sequence[str], input_shape: tuple[int, ...]) -> dict[str, int]:
    """Return the same for a network without memory for its weights; `head` has the names of its heads' tensors."""
    units = [unit for unit in running_order(model, input_shape) if f"{unit}.weight" not in head]
    number_of = dict(zip(units, numbered([count_weights(model.get_submodule(unit)) for unit in units]), strict=True))
    last = max(number_of.values(), default=-1) + 1
    layers: dict[str, int] = {}
    for name, _ in model.named_parameters():
        if name in head:
            layers[name] = last
        else:  # positions and tokens, which are in no unit, are added to the images' patches: layer 0
            layers[name] = next((number_of[unit] for unit in units if name.startswith(f"{unit}.")), 0)
    return layers


def numbered(weights: list[int]) -> list[int]:
    """Return the layer of each unit from the numbers of weights of all, in running order.

    >>> numbered([1, 0, 3, 1, 3, 0])  # stem, its norm, a block, what makes the next one's input smaller, it, a norm
    [0, 0, 1, 2, 2, 2]
    >>> numbered([1, 0, 1])
    [0, 0, 1]
    """
    blocks = [index for index, count in enumerate(weights) if count > 1]
    if not blocks:
        return [max(0, sum(count > 0 for count in weights[: index + 1]) - 1) for index in range(len(weights))]
    stem_layers = 1 if blocks[0] > 0 else 0
    numbers = []
    for index in range(len(weights)):
        blocks_before = min(bisect_left(blocks, index), len(blocks) - 1)
        numbers.append(0 if index < blocks[0] else stem_layers + blocks_before)
    return numbers


def running_order(model: nn.Module, input_shape: tuple[int, ...]) -> list[str]:
    """Return the units of a model by name, in the order in which they run.

    Raises:
        ConfigError: one runs again after another, or does not run.
    """
    units = list(units_of(model))
    order: list[str] = []

    def note(unit: str) -> None:
        if order and order[-1] == unit:
            return
        if unit in order:
            raise ConfigError(
                f"optimisation.layer_decay needs layers in an order, and {unit} runs again after {order[-1]}; leave "
                "layer_decay out"
            )
        order.append(unit)

    hooks = []
    for unit in units:
        module = model.get_submodule(unit)
        hooks.append(module.register_forward_pre_hook(lambda _module, _inputs, unit=unit: note(unit)))
    dtype = next((parameter.dtype for parameter in model.parameters()), None)
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(2, *input_shape, device="meta", dtype=dtype))
    finally:
        for hook in hooks:
            hook.remove()
    unused = [unit for unit in units if unit not in order]
    if unused:
        raise ConfigError(
            f"optimisation.layer_decay needs layers in an order, and {unused[0]} is never called; leave layer_decay out"
        )
    return order


def units_of(model: nn.Module, path: str = "") -> Iterator[str]:
    """Yield the names of the blocks of a model, and of its layers that are in no block."""
    for name, child in model.named_children():
        child_path = f"{path}{name}"
        if isinstance(child, CONTAINERS) or holds_blocks(child):
            yield from units_of(child, f"{child_path}.")
        elif next(child.parameters(), None) is not None:
            yield child_path


def holds_blocks(module: nn.Module) -> bool:
    """Whether a list in a module has two elements or more of two weights each: it is a stage, or wraps a network."""
    for inner in module.modules():
        if isinstance(inner, CONTAINERS):
            elements = [element for element in inner.children() if count_weights(element) > 1]
            if len(elements) > 1:
                return True
    return False


def count_weights(module: nn.Module) -> int:
    """Return how many of a module's parameters are no vectors."""
    return sum(parameter.dim() > 1 for parameter in module.parameters())
