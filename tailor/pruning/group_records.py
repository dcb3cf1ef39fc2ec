"""Filters that are removed together, and which parts of tensors are removed with each of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tailor.common.errors import ConfigError
from tailor.stages import Placement

Kind = Literal["filters", "stream", "heads", "conv_groups"]
"""Filters: outputs of layers. Stream: channels that run through norms over channels, with all that writes and reads
them. Heads: of attention; the member is the layer that reads them. Conv groups: whole groups of a convolution, or the
places that are alike in all of its groups; the members are layers that make several outputs of each."""


Kept = dict[str, Tensor]
"""Name of a group -> sorted indices of the filters that stay."""


@dataclass(frozen=True, kw_only=True)
class GroupMember:
    """A convolution or linear layer whose outputs are a group's filters, in the order of the filters."""

    layer: str
    norm: str | None  # the norm directly after it
    activation: str | None  # the activation module directly after norm or layer, if it is called only there
    activation_kind: str | None  # its class, "ReLU", also if the module is shared; None: no activation module

    def site(self, placement: Placement) -> str:
        """The module at whose output a filter's factor is: the layer, its norm (the layer if it has none), or its
        activation.

        Raises:
            ConfigError: this layer has no activation module of its own.
        """
        if placement == "before_norm":
            return self.layer
        if placement == "after_norm":
            return self.norm or self.layer
        if self.activation is None:
            raise ConfigError(
                f"placement is 'after_activation', and {self.layer} has no activation module of its own that a factor "
                "can follow (it may be a plain function, shared, after a Conv1d, or after feature maps with channels "
                "last); choose placement 'after_norm'"
            )
        return self.activation


@dataclass(frozen=True, kw_only=True, eq=False)
class Slice:
    """The part of one tensor that belongs to a group's filters: row j has the indices that belong to filter j."""

    tensor: str
    dim: int  # 0: made by the filters (weights, norms); 1: read from them
    indices: Tensor  # (filters, indices per filter) int64
    loose: bool = False  # a parameter that is no layer's weight (a position embedding): made, whatever the dim


@dataclass(frozen=True, kw_only=True)
class SizeOf:
    """A number that a module's code computes with: `each` for each filter that is kept, and `other` more."""

    module: str
    attribute: str
    each: int
    other: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Group:
    """Filters that can be removed: those of one layer, or of several whose outputs are added to each other."""

    members: tuple[GroupMember, ...]  # in the order of the network's modules
    filters: int
    slices: tuple[Slice, ...]  # members, norms, depthwise convolutions, gates, and layers that read them
    kind: Kind = "filters"
    sizes: tuple[SizeOf, ...] = ()
    product_macs: int = 0  # of products of activations with each other, those that go with each filter

    @property
    def name(self) -> str:
        """The first member's layer, which names the group."""
        return self.members[0].layer

    @property
    def own_slice(self) -> Slice:
        """The slice of the weight that names the group: of heads its inputs, of all others its outputs."""
        weight = f"{self.name.partition(':')[0]}.weight"
        dim = 1 if self.kind == "heads" else 0
        return next(part for part in self.slices if part.tensor == weight and part.dim == dim)

    @property
    def filters_each(self) -> int:
        """How many channels of a layer each of them is: several for groups of a convolution, 0 for heads."""
        if self.kind == "heads":
            return 0
        return self.own_slice.indices.shape[1] if self.kind == "conv_groups" else 1

    def filters_in(self, shapes: Mapping[str, Sequence[int]]) -> int:
        """How many filters the group has in a network whose tensors have these shapes."""
        own = self.own_slice
        return shapes[own.tensor][own.dim] // own.indices.shape[1]


def members_of(groups: Iterable[Group]) -> list[GroupMember]:
    """The members of all groups, in the order of the groups."""
    members: list[GroupMember] = []
    for group in groups:
        members += group.members
    return members


def sites(groups: Iterable[Group], placement: Placement) -> dict[str, str]:
    """Layer -> the module at whose output its filters' factors are, of all layers of the groups.

    Raises:
        ConfigError: a layer has no such module, or two layers have the same one.
    """
    layer_at: dict[str, str] = {}
    for member in members_of(groups):
        site = member.site(placement)
        if site in layer_at:
            raise ConfigError(
                f"{site} follows both {layer_at[site]} and {member.layer}, so a factor there would belong to both; "
                "choose placement 'before_norm', or a network in which each layer has its own"
            )
        layer_at[site] = member.layer
    return {layer: site for site, layer in layer_at.items()}


def what_stays(tensors: Mapping[str, Tensor], kept: Kept, groups: Iterable[Group]) -> dict[tuple[str, int], Tensor]:
    """(tensor, dim) -> one bool per index of that dim: whether it stays. Only of groups that `kept` names."""
    stays: dict[tuple[str, int], Tensor] = {}
    for group in groups:
        if group.name not in kept:
            continue
        removed = torch.ones(group.filters, dtype=torch.bool)
        removed[kept[group.name]] = False
        for part in group.slices:
            size = tensors[part.tensor].shape[part.dim]
            stays_of_dim = stays.setdefault((part.tensor, part.dim), torch.ones(size, dtype=torch.bool))
            stays_of_dim[part.indices[removed].flatten()] = False
    return stays


def sizes_left(
    before: Mapping[str, Mapping[str, int]], kept: Kept, groups: Iterable[Group]
) -> dict[str, dict[str, int]]:
    """Sizes of modules when the kept filters are left; several groups may share one.

    Args:
        before: module -> attribute -> size, of the modules that differ from the unpruned network already.
        kept: groups that are not in it keep all filters.
    """
    sizes = {name: dict(attributes) for name, attributes in before.items()}
    for group in groups:
        removed_count = group.filters - len(kept.get(group.name, range(group.filters)))
        if removed_count == 0:
            continue
        for size in group.sizes:
            of_module = sizes.setdefault(size.module, {})
            present = of_module.get(size.attribute, size.each * group.filters + size.other)
            of_module[size.attribute] = present - size.each * removed_count
    return sizes
