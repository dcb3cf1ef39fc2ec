"""Multiply-accumulates and parameters of a model, from the shapes of its weights, and what pruning left of them."""

import math
from collections import Counter
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from tailor.common.torch_private import TRILINEAR, TorchDispatchMode, storage_of, tree_leaves
from tailor.model.state import ModelState
from tailor.networks import building

aten = torch.ops.aten
SINGLE_PRODUCTS = (aten.mul, aten.mul_, aten.div, aten.div_, aten.addcmul, aten.lerp)
MATRIX_PRODUCTS = (aten.mm, aten.addmm, aten.bmm, aten.baddbmm)
IS_POINTWISE = torch.Tag.pointwise
COPIES = (aten.repeat, aten.clone)
MOVES = (aten.cat, aten.stack, aten.copy_, aten.index_put, aten.index_put_, aten.grid_sampler_2d, aten.grid_sampler_3d)


class _Products(TorchDispatchMode):
    """Counts the multiply-accumulates of all products in a forward pass, those of each parameter by its name.

    These are the operations that `torch.utils.flop_counter` counts, and some that it does not: nn.Bilinear, matrices
    times vectors, deformable convolutions, multiplications of each activation with several entries of a weight.
    Products without a parameter are counted together. It also sees whether a convolution is in groups.
    """

    def __init__(self, model: nn.Module, image: Tensor) -> None:
        super().__init__()
        self.name_of = {storage_of(parameter): name for name, parameter in model.named_parameters()}
        # Name of the parameter of two axes or more that a tensor is, or is computed from alone.
        self.weight_of = {storage_of(weight): name for name, weight in model.named_parameters() if weight.dim() > 1}
        self.values = {storage_of(image): image.numel()}  # how many different ones activations can have
        self.seen: list[Any] = [image]  # kept, so that no other tensor gets the number of its memory
        self.by_parameter: Counter[str] = Counter()
        self.activation_macs = 0  # of products with no parameter (attention), whose widths pruning leaves
        self.has_conv_groups = False  # not depthwise ones
        self.has_late_products = False  # that version 0.2 did not count
        self.uncounted: set[str] = set()  # operations that multiply by weights, such as "mine.conv of 0.weight"

    @property
    def all_macs(self) -> int:
        return sum(self.by_parameter.values()) + self.activation_macs

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        operation = func.overloadpacket
        activations, weights = self._read(operation, result, (args, kwargs))
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
        elif activations and operation in (aten.mv, aten.addmv):
            self._add(args[-2].numel(), args[-2], is_late=True)
        elif activations and weights and str(operation) == "torchvision.deform_conv2d":
            self._add(len(result) * math.prod(result.shape[2:]) * args[1].numel(), args[1], is_late=True)
        elif activations and weights and operation in SINGLE_PRODUCTS:
            most = max(activations)  # a scale, of one activation by one entry, costs nothing
            if most < result.numel() <= most * max(map(torch.numel, weights.values())):
                self._add(result.numel(), *weights.values(), is_late=True)
        elif activations and weights and not (IS_POINTWISE in func.tags or operation in MOVES or "norm" in str(func)):
            self.uncounted.add(f"{operation} of {next(iter(weights))}")
        return result

    def _read(self, operation: Any, result: Any, arguments: Any) -> tuple[list[int], dict[str, Tensor]]:
        """How many values each activation has, and the weights by name (see `weight_of`), that an operation reads."""
        read, made = ([part for part in tree_leaves(tree) if isinstance(part, Tensor)] for tree in (arguments, result))
        self.seen += made
        weights = {self.weight_of[storage_of(part)]: part for part in read if storage_of(part) in self.weight_of}
        activations = [part for part in read if storage_of(part) in self.values]
        numbers = [part for part in activations if part.is_floating_point() or part.is_complex()]
        values = [min(part.numel(), self.values[storage_of(part)]) for part in numbers]
        for part in made:
            number = storage_of(part)
            if activations:
                count = values[0] if operation in COPIES and values else part.numel()
                self.values[number] = min(count, self.values.get(number, count))
                self.weight_of.pop(number, None)
            elif weights:
                self.weight_of.setdefault(number, next(iter(weights)))
        return values, weights

    def _add(self, macs: int, *factors: Tensor, is_late: bool = False) -> None:
        """Count a product for the first of its factors that is a parameter."""
        self.has_late_products |= is_late
        for factor in factors:
            name = self.name_of.get(storage_of(factor))
            if name is not None:
                self.by_parameter[name] += macs
                return
        self.activation_macs += macs


@lru_cache(maxsize=32)
def count_products(network: str, classes: int, input_shape: tuple[int, ...]) -> _Products:
    """The products of one shape pass over the original network: pruning changes widths, never positions."""
    return products_of(building.skeleton(network, classes), input_shape)


def products_of(model: nn.Module, input_shape: tuple[int, ...]) -> _Products:
    """The products of one shape pass, for one image, over a model on torch's device `meta`."""
    dtype = next((parameter.dtype for parameter in model.parameters()), None)
    image = torch.zeros(1, *input_shape, device="meta", dtype=dtype)
    products = _Products(model, image)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), products:  # attention as its two products
        model.eval()(image)
    products.seen.clear()
    return products


@lru_cache(maxsize=32)
def positions(network: str, classes: int, input_shape: tuple[int, ...]) -> dict[str, int]:
    """Name of each parameter that is multiplied with -> the number of positions where one image applies it.

    A weight that a network applies twice counts twice. Rounded down where a part of it is applied more often.
    """
    shapes = original_shapes(network, classes)
    macs_of_parameters = count_products(network, classes, input_shape).by_parameter
    return {name: macs // math.prod(shapes[name]) for name, macs in macs_of_parameters.items()}


def macs(network: str, classes: int, shapes: dict[str, torch.Size], input_shape: tuple[int, ...]) -> int:
    """Multiply-accumulates of all products of a pass (see `_Products`) for one image of `input_shape`.

    >>> macs("friedman_mlp", 5, original_shapes("friedman_mlp", 5), (10,)) == 10 * 64 + 64 * 64 + 64 * 5
    True
    """
    by_layer = macs_by_layer(network, classes, shapes, input_shape)
    return sum(by_layer.values()) + count_products(network, classes, input_shape).activation_macs


def macs_by_layer(
    network: str, classes: int, shapes: dict[str, torch.Size], input_shape: tuple[int, ...]
) -> dict[str, int]:
    """Weight name -> multiply-accumulates of that layer for one image: a weight is used once per position.

    This is also true for grouped convolutions: all elements of their weight (C, inputs / groups, k, k) are used.
    """
    originals = original_shapes(network, classes)
    by_layer = {}
    for name, macs_at_first in count_products(network, classes, input_shape).by_parameter.items():
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
        return products_of(model, state.input_shape).all_macs
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
