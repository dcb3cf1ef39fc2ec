"""Which filters can go and what goes with them. The only file that knows Torch-Pruning.

A group is one convolution whose filters can be removed alone; with filter j go some indices of other tensors: the
norm's channel, the next layers' inputs, several columns of a linear layer behind a flattened feature map. Layers
whose outputs are added to others (the ends of residual branches) are not prunable: our choice, see
docs/methods/transtailor.md.
"""

from dataclasses import dataclass, replace

import torch
import torch_pruning
from torch import Tensor, nn

from tailor.catalog import NETWORKS
from tailor.state import ModelState

Kept = dict[str, Tensor]  # site -> sorted indices of the filters that stay


@dataclass(frozen=True, kw_only=True, eq=False)
class Slice:
    """The part of one tensor that belongs to a group's filters: row j holds the indices that go with filter j."""

    tensor: str
    dim: int
    indices: Tensor  # (filters, indices per filter) int64


@dataclass(frozen=True, kw_only=True, eq=False)
class Group:
    """A convolution whose filters can be removed."""

    layer: str  # the convolution
    site: str  # where its filters' factors sit: the norm that follows it, else the convolution itself
    filters: int
    slices: tuple[Slice, ...]


def groups(model: nn.Module, network: str) -> tuple[Group, ...]:
    """The prunable convolutions of a model, in the order of its modules; the head's outputs are never among them."""
    example = torch.zeros(1, *NETWORKS[network].image_shape)
    names = {id(module): name for name, module in model.named_modules()}
    graph = torch_pruning.DependencyGraph().build_dependency(model, example)
    found = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d) and module.groups == 1:
            members = graph.get_pruning_group(
                module, torch_pruning.prune_conv_out_channels, idxs=list(range(module.out_channels))
            )
            group = _group(name, module.out_channels, members, names)
            if group is not None:
                found.append(group)
    return tuple(found)


def _group(layer: str, filters: int, members: list, names: dict[int, str]) -> Group | None:  # type: ignore[type-arg]
    """The group of one convolution; None if other layers' outputs have to go with its own."""
    slices: list[Slice] = []
    site = layer
    for item in members:
        module = item.dep.target.module
        name = names.get(id(module))
        if name is None:  # an operation without parameters
            continue
        removes_outputs = "out_channels" in item.dep.handler.__name__
        if removes_outputs and isinstance(module, nn.Conv2d | nn.Linear) and name != layer:
            return None
        if removes_outputs and isinstance(module, nn.BatchNorm2d):
            site = name
        dim = 0 if removes_outputs else 1
        table = _by_filter(filters, item.idxs, item.root_idxs)
        tensors = _tensors_with_channels(module) if removes_outputs else ["weight"]
        slices += [Slice(tensor=f"{name}.{t}", dim=dim, indices=table) for t in tensors]
    return Group(layer=layer, site=site, filters=filters, slices=tuple(slices))


def _by_filter(filters: int, indices: list[int], roots: list[int]) -> Tensor:
    rows: list[list[int]] = [[] for _ in range(filters)]
    for index, root in zip(indices, roots, strict=True):
        rows[root].append(index)
    return torch.tensor(rows)


def _tensors_with_channels(module: nn.Module) -> list[str]:
    names = [*dict(module.named_parameters(recurse=False)), *dict(module.named_buffers(recurse=False))]
    return [name for name in names if getattr(module, name).dim() > 0]


def slim(state: ModelState, kept: Kept, found: tuple[Group, ...]) -> ModelState:
    """The state without the filters that are not kept: smaller tensors, the same function as `mask`."""
    tensors = dict(state.tensors)
    keep_of: dict[tuple[str, int], Tensor] = {}
    for group in found:
        if group.site not in kept:
            continue
        gone = torch.ones(group.filters, dtype=torch.bool)
        gone[kept[group.site]] = False
        for part in group.slices:
            key = (part.tensor, part.dim)
            stays = keep_of.setdefault(key, torch.ones(state.tensors[part.tensor].shape[part.dim], dtype=torch.bool))
            stays[part.indices[gone].flatten()] = False
    for (name, dim), stays in keep_of.items():
        tensors[name] = tensors[name].index_select(dim, stays.nonzero().flatten()).contiguous()

    def slimmed(values: dict[str, Tensor], key_of: dict[str, str]) -> dict[str, Tensor]:
        return {name: value[kept[key_of[name]]] if key_of[name] in kept else value for name, value in values.items()}

    by_site = {group.site: group.site for group in found}
    by_layer = {group.layer: group.site for group in found}
    return replace(
        state,
        tensors=tensors,
        factors=slimmed(state.factors, by_site),
        gradient_factors=slimmed(state.gradient_factors, by_layer),
        alpha=slimmed(state.alpha, by_site),
        scores=slimmed(state.scores, by_site),
    )


def mask(state: ModelState, kept: Kept, found: tuple[Group, ...]) -> ModelState:
    """The state with the outputs of the filters that are not kept multiplied by zero: slow, obvious, the reference."""
    factors = dict(state.factors)
    for group in found:
        if group.site in kept:
            stays = torch.zeros(group.filters)
            stays[kept[group.site]] = 1.0
            factors[group.site] = factors.get(group.site, torch.ones(group.filters)) * stays
    return replace(state, factors=factors)
