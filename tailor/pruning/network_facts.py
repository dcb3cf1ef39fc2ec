"""Finds what a plan needs to know of a network by building it without memory."""

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import nn

from tailor.common.errors import ConfigError
from tailor.facts.networks import NETWORKS, NetworkInfo
from tailor.model import cost
from tailor.networks import building
from tailor.pruning.group_records import GroupMember, members_of
from tailor.pruning.groups import groups
from tailor.stages import GroupRule

CLASSES = 5
OTHER_SIZES_PX = (96, 225)
UNREAD = (AssertionError, RuntimeError, ValueError)  # networks raise different errors for a size that they do not read


def find_facts(name: str) -> NetworkInfo:
    """The facts of a network that can be built by its name."""
    model = building.skeleton(name, CLASSES)
    any_size = all(reads_size(model, side_px) for side_px in OTHER_SIZES_PX)
    return with_facts(name, replace(NETWORKS[name], head=head_of(model), any_size=any_size))


def with_facts(name: str, info: NetworkInfo) -> NetworkInfo:
    """A network's record with the facts that its code has."""
    model = building.skeleton(name, CLASSES)
    members = members_of(groups(model, info.input_shape, GroupRule(linear=True, residual="coupled")))
    products = cost.count_products(name, CLASSES, info.input_shape)
    tensors = model.state_dict()
    with_more = cost.original_shapes(name, CLASSES + 1)
    growth = {
        key: [more - own for own, more in zip(part.shape, with_more[key], strict=True)]
        for key, part in tensors.items()
        if key in with_more and not key.startswith(f"{info.head}.")
    }
    heads = [key for key, by_axis in growth.items() if by_axis[:1] == [1] and not any(by_axis[1:])]
    refused = [key for key, by_axis in growth.items() if 1 in by_axis[1:]]
    if refused:
        raise ConfigError(
            f"{refused[0]} has an entry for each class along another axis than its first, by which a "
            "target replaces heads; write a head as nn.Linear does, with a weight of (classes, features)"
        )
    info = replace(info, more_head=tuple(heads))
    return replace(
        info,
        uncounted=tuple(sorted(products.uncounted)),
        version=2 if info.more_head or products.has_late_products else 1,
        has_norm=any(member.norm for member in members),
        activation=activation_kinds(members),
        macs=cost.macs(name, CLASSES, cost.original_shapes(name, CLASSES), info.input_shape),
        activation_macs=products.activation_macs,
        params_count=sum(parameter.numel() for parameter in model.parameters()),
        head_params_count=sum(tensors[key].numel() for key in info.head_tensors(tensors)),
    )


def activation_kinds(members: Iterable[GroupMember]) -> str:
    """The classes of the activation modules behind these layers, such as "GELU+ReLU"; "none" if there is none.

    Layers whose activation is a plain function have no such module.
    """
    kinds = {member.activation_kind for member in members if member.activation_kind is not None}
    return "+".join(sorted(kinds)) or "none"


def reads_size(model: nn.Module, side_px: int) -> bool:
    """Whether a network on `meta` reads square images of this size."""
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, 3, side_px, side_px, device="meta"))
    except UNREAD:
        return False
    return True


def head_of(model: nn.Module) -> str:
    """Name of the last layer with as many outputs as classes."""
    layers = []
    for name, parameter in model.named_parameters():
        if name.endswith(".weight") and parameter.shape[0] == CLASSES:
            layers.append(name.removesuffix(".weight"))
    return layers[-1]
