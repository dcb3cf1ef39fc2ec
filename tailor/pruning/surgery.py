"""Removes filters: slimmed (smaller tensors) or masked (multiplied by zero: slow and obvious, the reference)."""

from dataclasses import replace

import torch
from torch import Tensor

from tailor.model.factors import GROUPS, HEADS
from tailor.model.state import ModelState
from tailor.pruning.group_records import Group, GroupMember, Kept, Slice, sizes_left, what_stays
from tailor.pruning.groups import groups

__all__ = ["Group", "Kept", "GroupMember", "Slice", "groups", "mask", "slim"]


def slim(state: ModelState, kept: Kept, groups: tuple[Group, ...]) -> ModelState:
    """The state without the filters that are not kept: smaller tensors, the same function as `mask`.

    Args:
        state: of the model that the groups are from; all its values per filter are slimmed.
        kept: groups that are not in it keep all filters.
    """
    stays = what_stays(state.tensors, kept, groups)
    stays_at_site = _stays_at_sites(stays, kept, groups)

    def slim_tensors(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        slimmed = dict(tensors)
        for (name, dim), stays_in_dim in stays.items():
            if name in slimmed:
                indices = stays_in_dim.nonzero().flatten()
                slimmed[name] = slimmed[name].index_select(dim, indices).contiguous()
        return slimmed

    def slim_sites(values: dict[str, Tensor]) -> dict[str, Tensor]:
        slimmed = dict(values)
        for site, value in values.items():
            if site in stays_at_site:
                slimmed[site] = value[stays_at_site[site]]
        return slimmed

    return replace(
        state,
        tensors=slim_tensors(state.tensors),
        anchor=slim_tensors(state.anchor),
        momentum=slim_tensors(state.momentum),
        essential=slim_tensors(state.essential),
        factors=slim_sites(state.factors),
        gradient_factors=slim_sites(state.gradient_factors),
        alpha=slim_sites(state.alpha),
        scores=slim_sites(state.scores),
        channel_weights=slim_sites(state.channel_weights),
        kept=None if state.kept is None else state.kept | _kept_indices(state.kept, kept, groups),
        sizes=sizes_left(state.sizes, kept, groups),
    )


def mask(state: ModelState, kept: Kept, groups: tuple[Group, ...]) -> ModelState:
    """The state in which filters that are not kept put out zero and are read as zero.

    Zero is multiplied into each part of a tensor that belongs to a removed filter: of the members of its group, their
    norms, depthwise convolutions and gates, so that their outputs are zero, and of the layers that read it, because an
    activation between them (Sigmoid, Softplus) may make something else of zero.
    """
    masked = dict(state.tensors)
    for (name, dim), stays in what_stays(state.tensors, kept, groups).items():
        shape = [1] * masked[name].dim()
        shape[dim] = -1
        masked[name] = masked[name] * stays.to(masked[name]).reshape(shape)
    return replace(state, tensors=masked)


def _stays_at_sites(stays: dict[tuple[str, int], Tensor], kept: Kept, groups: tuple[Group, ...]) -> dict[str, Tensor]:
    """Site -> which of its values per filter stay, from `what_stays`; bools, or the indices of heads and groups."""
    at_site = {name.removesuffix(".weight"): stays_in_dim for (name, dim), stays_in_dim in stays.items() if dim == 0}
    for group in groups:
        if group.name not in kept:
            continue
        for member in group.members:
            if member.activation is not None:
                at_site[member.activation] = at_site[member.layer]
            if member.layer.endswith((HEADS, GROUPS)):
                at_site[member.layer] = kept[group.name]
    return at_site


def _kept_indices(before: Kept, kept: Kept, groups: tuple[Group, ...]) -> Kept:
    """Layer that loses filters -> indices of its remaining ones in the unpruned network.

    Args:
        before: the same before this pruning.
        kept: groups that are not in it keep all filters.
    """
    indices = {}
    for group in groups:
        if group.name in kept and len(kept[group.name]) < group.filters:
            for member in group.members:
                present = before.get(member.layer, torch.arange(group.filters))
                indices[member.layer] = present[kept[group.name]]
    return indices
