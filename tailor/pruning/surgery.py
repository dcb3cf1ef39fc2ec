"""Removes filters: slimmed (smaller tensors) or masked (multiplied by zero: slow and obvious, the reference)."""

from dataclasses import replace

import torch
from torch import Tensor

from tailor.model.factors import GROUPS, HEADS
from tailor.model.state import ModelState
from tailor.pruning.group_records import Group, GroupMember, Kept, Slice, sizes_left, what_stays
from tailor.pruning.groups import groups

__all__ = ["Group", "Kept", "GroupMember", "Slice", "groups", "mask", "slim"]


def slim(state: ModelState, kept: Kept, found: tuple[Group, ...]) -> ModelState:
    """The state without the filters that are not kept: smaller tensors, the same function as `mask`.

    Args:
        state: of the model that the groups are from; all its values per filter are slimmed.
        kept: groups that are not in it keep all filters.
    """
    stays = what_stays(state.tensors, kept, found)
    at_site = {name.removesuffix(".weight"): keep for (name, dim), keep in stays.items() if dim == 0}
    for group in found:
        for member in group.members:
            if group.name in kept and member.activation is not None:
                at_site[member.activation] = at_site[member.layer]
            if group.name in kept and member.layer.endswith((HEADS, GROUPS)):
                at_site[member.layer] = kept[group.name]

    def weights(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        slimmed = dict(tensors)
        for (name, dim), keep in stays.items():
            if name in slimmed:
                slimmed[name] = slimmed[name].index_select(dim, keep.nonzero().flatten()).contiguous()
        return slimmed

    def filters(values: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: value[at_site[name]] if name in at_site else value for name, value in values.items()}

    return replace(
        state,
        tensors=weights(state.tensors),
        anchor=weights(state.anchor),
        momentum=weights(state.momentum),
        essential=weights(state.essential),
        factors=filters(state.factors),
        gradient_factors=filters(state.gradient_factors),
        alpha=filters(state.alpha),
        scores=filters(state.scores),
        channel_weights=filters(state.channel_weights),
        kept=None if state.kept is None else state.kept | _kept_indices(state.kept, kept, found),
        sizes=sizes_left(state.sizes, kept, found),
    )


def mask(state: ModelState, kept: Kept, found: tuple[Group, ...]) -> ModelState:
    """The state in which filters that are not kept put out zero and are read as zero.

    Zero is multiplied into each part of a tensor that belongs to a removed filter: of the members of its group, their
    norms, depthwise convolutions and gates, so that their outputs are zero, and of the layers that read it, because an
    activation between them (Sigmoid, Softplus) may make something else of zero.
    """
    masked = dict(state.tensors)
    for (name, dim), keep in what_stays(state.tensors, kept, found).items():
        along = [-1 if d == dim else 1 for d in range(masked[name].dim())]
        masked[name] = masked[name] * keep.to(masked[name]).reshape(along)
    return replace(state, tensors=masked)


def _kept_indices(before: Kept, kept: Kept, found: tuple[Group, ...]) -> Kept:
    """Layers that lose filters -> indices of the others in the unpruned network; `before`: before this pruning."""
    return {
        member.layer: before.get(member.layer, torch.arange(group.filters))[kept[group.name]]
        for group in found
        if group.name in kept and len(kept[group.name]) < group.filters
        for member in group.members
    }
