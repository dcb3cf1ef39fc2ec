"""Whether a network's code runs without some of its units: tried on shapes, without computing anything."""

import copy
from collections.abc import Iterable

import torch
from torch import nn

from tailor.networks import building
from tailor.pruning.groups import Group


def why_it_does_not_run(model: nn.Module, input_shape: tuple[int, ...], found: Iterable[Group]) -> str | None:
    """The first line of the error of a forward pass without the first unit of each group; None: there is none."""
    found = [group for group in found if group.filters > 1]
    memory = {id(tensor): _on_meta(tensor) for tensor in (*model.parameters(), *model.buffers())}
    smaller = copy.deepcopy(model, memory)
    tensors = dict(smaller.state_dict())
    for group in found:
        for part in group.slices:
            gone = set(part.indices[0].tolist())
            kept = [index for index in range(tensors[part.tensor].shape[part.dim]) if index not in gone]
            tensors[part.tensor] = tensors[part.tensor].index_select(
                part.dim, torch.tensor(kept, device=tensors[part.tensor].device)
            )
        for size in group.sizes:
            setattr(smaller.get_submodule(size.module), size.attribute, size.each * (group.filters - 1) + size.other)
    building.fill(smaller, tensors)
    try:
        with torch.no_grad():
            smaller.eval()(torch.zeros(1, *input_shape, dtype=next(model.parameters()).dtype, device="meta"))
    except (RuntimeError, ValueError, AssertionError, IndexError) as error:
        return str(error).partition("\n")[0]
    return None


def _on_meta(tensor: torch.Tensor) -> torch.Tensor:
    if not tensor.dtype.is_floating_point:
        return tensor.clone()
    made = torch.empty_like(tensor, device="meta")
    return nn.Parameter(made) if isinstance(tensor, nn.Parameter) else made
