"""Multiply-accumulates and parameters of a model, from the shapes of its weights, and what pruning left of them."""

import math
from collections import Counter
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from tailor.common.torch_private import TRILINEAR, TorchDispatchMode, storage_of
from tailor.model.state import ModelState
from tailor.networks import building

aten = torch.ops.aten
MATRIX_PRODUCTS = (aten.mm, aten.addmm, aten.bmm, aten.baddbmm)


class _Products(TorchDispatchMode):
    """Counts the multiply-accumulates of all products in a forward pass, those of each parameter by its name.

    These are the operations that `torch.utils.flop_counter` counts, and nn.Bilinear's, which it does not. Products
    without a parameter are counted together. It also sees whether a convolution is in groups.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.name_of = {storage_of(parameter): name for name, parameter in model.named_parameters()}
        self.by_parameter: Counter[str] = Counter()
        self.activation_macs = 0
        self.has_conv_groups = False

    @property
    def all_macs(self) -> int:
        return sum(self.by_parameter.values()) + self.activation_macs

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        operation = func.overloadpacket
        if operation is aten.convolution:
            x, weight, transposed, groups = args[0], args[1], args[6], args[8]
            self.has_conv_groups |= 1 < groups < x.shape[1]
            # A weight is used once at each position: of the outputs, or of the inputs if it spreads them.
            positions = math.prod((x if transposed else result).shape[2:])
            self._add(len(x) * positions * weight.numel(), weight)
        elif operation in MATRIX_PRODUCTS:
            left, right = args[-2:]
            self._add(result.numel() * left.shape[-1], right, left)
        elif operation is TRILINEAR:
            x, weight = args[0], args[1]
            self._add(len(x) * weight.numel(), weight)
        return result

    def _add(self, macs: int, *factors: Tensor) -> None:
        """Count a product for the first of its factors that is a parameter."""
        for factor in factors:
            name = self.name_of.get(storage_of(factor))
            if name is not None:
                self.by_parameter[name] += macs
                return
        self.activation_macs += macs


@lru_cache(maxsize=32)
def _count_products(network: str, classes: int, input_shape: tuple[int, ...]) -> _Products:
    """The products of one shape pass over the original network: pruning changes widths, never positions."""
    return _products_of(building.skeleton(network, classes), input_shape)


def _products_of(model: nn.Module, input_shape: tuple[int, ...]) -> _Products:
    dtype = next((parameter.dtype for parameter in model.parameters()), None)
    products = _Products(model)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), products:  # attention as its two products
        model.eval()(torch.zeros(1, *input_shape, device="meta", dtype=dtype))
    return products


def counted_macs(model: nn.Module, input_shape: tuple[int, ...]) -> int:
    """Multiply-accumulates of a model on torch's device `meta` for one image, counted in a shape pass over it."""
    return _products_of(model, input_shape).all_macs


@lru_cache(maxsize=32)
def positions(network: str, classes: int, input_shape: tuple[int, ...]) -> dict[str, int]:
    """Name of each parameter that is multiplied with -> the number of positions where one image applies it.

    A weight that a network applies twice counts twice. Rounded down where a part of it is applied more often.
    """
    shapes = original_shapes(network, classes)
    macs_of_parameters = _count_products(network, classes, input_shape).by_parameter
    return {name: macs // math.prod(shapes[name]) for name, macs in macs_of_parameters.items()}


def activation_macs(network: str, classes: int, input_shape: tuple[int, ...]) -> int:
    """Multiply-accumulates of products of activations with each other (attention) for one image of `input_shape`.

    They do not depend on the widths that can be pruned: queries, keys and values keep theirs.
    """
    return _count_products(network, classes, input_shape).activation_macs


def has_conv_groups(network: str, classes: int, input_shape: tuple[int, ...]) -> bool:
    """Whether the network has a convolution in groups that is not depthwise, as a module or called as a function."""
    return _count_products(network, classes, input_shape).has_conv_groups


def macs(network: str, classes: int, shapes: dict[str, torch.Size], input_shape: tuple[int, ...]) -> int:
    """Multiply-accumulates of all products of a pass (see `_Products`) for one image of `input_shape`.

    >>> macs("friedman_mlp", 5, original_shapes("friedman_mlp", 5), (10,)) == 10 * 64 + 64 * 64 + 64 * 5
    True
    """
    by_layer = macs_by_layer(network, classes, shapes, input_shape)
    return sum(by_layer.values()) + activation_macs(network, classes, input_shape)


def macs_by_layer(
    network: str, classes: int, shapes: dict[str, torch.Size], input_shape: tuple[int, ...]
) -> dict[str, int]:
    """Weight name -> multiply-accumulates of that layer for one image: a weight is used once per position.

    This is also true for grouped convolutions: all elements of their weight (C, inputs / groups, k, k) are used.
    """
    originals = original_shapes(network, classes)
    by_layer = {}
    for name, macs_at_first in _count_products(network, classes, input_shape).by_parameter.items():
        by_layer[name] = macs_at_first * math.prod(shapes[name]) // math.prod(originals[name])
    return by_layer


@lru_cache(maxsize=32)
def original_shapes(network: str, classes: int) -> dict[str, torch.Size]:
    """Shapes of the unpruned network's state_dict, with a head for `classes`."""
    return {name: tensor.shape for name, tensor in building.skeleton(network, classes).state_dict().items()}


def macs_of(state: ModelState) -> int:
    """Multiply-accumulates of one input through the state's layers."""
    if state.sizes:  # with heads, products of activations are gone
        empty = {name: torch.empty_like(tensor, device="meta") for name, tensor in state.tensors.items()}
        model = building.rebuild(state.network, state.classes, empty, state.sizes)
        return counted_macs(model, state.input_shape)
    shapes = {name: tensor.shape for name, tensor in state.tensors.items()}
    return macs(state.network, state.classes, shapes, state.input_shape)


def original_macs(state: ModelState) -> int:
    """The same of the unpruned network with the state's head."""
    original = original_shapes(state.network, state.classes)
    return macs(state.network, state.classes, original, state.input_shape)


def removed_macs_fraction(state: ModelState) -> float:
    """Share of the original network's MACs that the state no longer has, in [0, 1]."""
    return 1.0 - macs_of(state) / original_macs(state)


def params_count(tensors: dict[str, Tensor], model: nn.Module) -> int:
    """Number of parameters of `model` in `tensors` (buffers such as running means do not count)."""
    return sum(tensors[name].numel() for name, _ in model.named_parameters() if name in tensors)
