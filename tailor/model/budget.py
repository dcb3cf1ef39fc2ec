"""The share of the original network's multiply-accumulates that a state still has."""

import torch

from tailor.model import cost
from tailor.model.state import ModelState
from tailor.networks import building


def macs_of(state: ModelState) -> int:
    """Multiply-accumulates of one input through the state's layers."""
    if state.sizes:  # with heads, products of activations are gone
        empty = {name: torch.empty_like(tensor, device="meta") for name, tensor in state.tensors.items()}
        model = building.rebuild(state.network, state.classes, empty, state.sizes)
        return cost.counted_macs(model, state.input_shape)
    shapes = {name: tensor.shape for name, tensor in state.tensors.items()}
    return cost.macs(state.network, state.classes, shapes, state.input_shape)


def original_macs(state: ModelState) -> int:
    """The same of the unpruned network with the state's head."""
    original = cost.original_shapes(state.network, state.classes)
    return cost.macs(state.network, state.classes, original, state.input_shape)


def removed_macs_fraction(state: ModelState) -> float:
    """Share of the original network's MACs that the state no longer has, in [0, 1]."""
    return 1.0 - macs_of(state) / original_macs(state)
