"""Finds what a plan needs to know of a network by building it without memory."""

from typing import Any

import torch
from torch import nn

from tailor.catalogue.networks import NETWORKS, NetworkInfo
from tailor.model import cost
from tailor.networks import building
from tailor.pruning.groups import groups
from tailor.stages import GroupRule

CLASSES = 5
OTHER_SIZES = (96, 225)
UNREAD = (AssertionError, RuntimeError, ValueError)  # networks raise different errors for a size that they do not read


def find_facts(name: str) -> NetworkInfo:
    """The facts of a network that can be built by its name."""
    info = NETWORKS[name]
    model = building.skeleton(name, CLASSES)
    members = [m for g in groups(model, info.input_shape, GroupRule(linear=True)) for m in g.members]
    head = head_of(model)
    values: dict[str, Any] = {
        "head": head,
        "has_norm": any(member.norm for member in members),
        "activation": "+".join(sorted({m.activation_kind for m in members if m.activation_kind})) or "none",
        "macs": cost.macs(name, CLASSES, cost.original_shapes(name, CLASSES), info.input_shape),
        "activation_macs": cost.activation_macs(name, CLASSES, info.input_shape),
        "params_count": sum(p.numel() for p in model.parameters()),
        "head_params_count": sum(p.numel() for p in model.get_submodule(head).parameters()),
        "any_size": all(reads(model, size) for size in OTHER_SIZES),
    }
    return NetworkInfo(**vars(info) | values)


def reads(model: nn.Module, size: int) -> bool:
    """Whether a network on `meta` reads images of another size."""
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, 3, size, size, device="meta"))
    except UNREAD:
        return False
    return True


def head_of(model: nn.Module) -> str:
    """Name of the last layer with as many outputs as classes."""
    weights = [name for name, p in model.named_parameters() if name.endswith(".weight") and p.shape[0] == CLASSES]
    return weights[-1].removesuffix(".weight")
