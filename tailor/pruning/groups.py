"""Which filters can be removed, and which parts of tensors are removed with each of them."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor, nn

from tailor.core.errors import ConfigError
from tailor.pruning.channel_tracing import follow
from tailor.pruning.dependency_trace import PINNED, Trace
from tailor.stages import GroupRule, Placement

Kind = Literal["filters", "stream", "heads", "conv_groups"]
"""Filters: outputs of layers. Stream: channels that run through norms over channels, with all that writes and reads
them. Heads: of attention; the member is the layer that reads them. Conv groups: whole groups of a convolution, or the
places that are alike in all of its groups; the members are layers that make several outputs of each."""
Classes = np.ndarray[tuple[int], np.dtype[np.int64]]  # of each label


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

    def filters_in(self, shapes: Mapping[str, Sequence[int]]) -> int:
        """How many filters the group has in a network whose tensors have these shapes."""
        layer, is_head = self.name.partition(":")[0], self.kind == "heads"
        own = next(s for s in self.slices if s.tensor == f"{layer}.weight" and s.dim == int(is_head))
        return shapes[own.tensor][own.dim] // own.indices.shape[1]


def groups(model: nn.Module, input_shape: tuple[int, ...], rule: GroupRule) -> tuple[Group, ...]:
    """The groups of filters that can be removed from a model, in the order of its modules.

    Args:
        model: a network whose code runs on a batch of images; see `tailor.pruning.channel_tracing`.
        input_shape: of one image.
        rule: whether layers whose outputs are added to each other, and hidden linear layers, are prunable.

    Returns:
        Groups without the head's outputs, and without layers that cannot lose single filters: see `refusals`.
    """
    trace = follow(model, input_shape, Trace)
    classes = classes_of(trace)
    found = [members for members, reason in _candidates(model, trace, classes, rule) if reason is None]
    group_of = np.full(classes.max() + 1, -1)
    filter_of = np.zeros(classes.max() + 1, dtype=np.int64)
    for number, members in enumerate(found):
        own = classes[_labels(trace, members[0])]
        group_of[own], filter_of[own] = number, np.arange(len(own))
    slices: list[list[Slice]] = [[] for _ in found]
    for (tensor, dim), labels in trace.uses.items():
        used = classes[labels.numpy()]
        for number in np.unique(group_of[used]):
            if number >= 0:
                indices = np.flatnonzero(group_of[used] == number)
                rows = indices[np.argsort(filter_of[used[indices]], kind="stable")]
                table = torch.from_numpy(rows.reshape(trace.width[found[number][0]], -1))
                slices[number].append(Slice(tensor=tensor, dim=dim, indices=table))
    return tuple(
        Group(
            members=tuple(member_of(model, trace, layer) for layer in members),
            filters=trace.width[members[0]],
            slices=tuple(parts),
        )
        for members, parts in zip(found, slices, strict=True)
    )


def sites(found: tuple[Group, ...], placement: Placement) -> dict[str, str]:
    """Layer -> the module at whose output its filters' factors are, of all layers of the groups.

    Raises:
        ConfigError: a layer has no such module, or two layers have the same one.
    """
    layer_at: dict[str, str] = {}
    for member in (member for group in found for member in group.members):
        site = member.site(placement)
        if site in layer_at:
            raise ConfigError(
                f"{site} follows both {layer_at[site]} and {member.layer}, so a factor there would belong to both; "
                "choose placement 'before_norm', or a network in which each layer has its own"
            )
        layer_at[site] = member.layer
    return {layer: site for site, layer in layer_at.items()}


def refusals(model: nn.Module, input_shape: tuple[int, ...], rule: GroupRule) -> dict[str, str]:
    """Layer -> why its filters cannot be removed, for each layer in no group of `groups`."""
    trace = follow(model, input_shape, Trace)
    candidates = _candidates(model, trace, classes_of(trace), rule)
    return {layer: reason for layers, reason in candidates if reason is not None for layer in layers}


def classes_of(trace: Trace) -> Classes:
    """Class of each label: labels that were joined, directly or through others, are removed together."""
    pairs = torch.cat([torch.zeros(1, 2, dtype=torch.int64), *trace.joins]).numpy()
    graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(trace.labels, trace.labels))
    return connected_components(graph, directed=False)[1].astype(np.int64)  # type: ignore[no-any-return]


def pinned_classes(trace: Trace, classes: Classes) -> dict[int, str]:
    """Classes whose filters have to stay -> the first reason."""
    reasons = {int(classes[PINNED]): "values of no filter"}
    for labels, why in trace.pins:
        for number in np.unique(classes[labels.numpy()]).tolist():
            reasons.setdefault(number, why)
    return reasons


def _labels(trace: Trace, layer: str) -> slice:
    return slice(trace.first_label[layer], trace.first_label[layer] + trace.width[layer])


def _candidates(
    model: nn.Module, trace: Trace, classes: Classes, rule: GroupRule
) -> list[tuple[list[str], str | None]]:
    """Layers whose outputs belong together (without gates), and why they cannot lose filters; None if they can."""
    together: dict[int, list[str]] = defaultdict(list)
    for layer, _ in model.named_modules():
        if layer in trace.first_label:
            together[int(classes[_labels(trace, layer)].min())].append(layer)
    sizes, pinned = np.bincount(classes), pinned_classes(trace, classes)
    owners = Counter(id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False))
    candidates = []
    for layers in together.values():
        members = [layer for layer in layers if layer not in trace.gates] or layers
        own = [classes[_labels(trace, layer)] for layer in layers]
        reason = None
        if whys := sorted({pinned[c] for c in own[0].tolist() if c in pinned}):
            reason = f"all of its outputs are needed behind it: {', '.join(whys)}"
        elif any(not np.array_equal(other, own[0]) for other in own) or (sizes[own[0]] != len(layers)).any():
            reason = "its outputs are combined with each other, or with a part of another layer's"
        elif any(layer not in trace.calls for layer in layers):
            reason = "its weight is used without calling it, so factors at its output would not act"
        elif any(owners[id(model.get_parameter(f"{layer}.weight"))] > 1 for layer in layers):
            reason = "its weight is another layer's, too"
        elif len(members) > 1 and rule.residual == "inside":
            reason = "its outputs are added to another layer's"
        elif not rule.linear and any(isinstance(model.get_submodule(layer), nn.Linear) for layer in members):
            reason = "it is a linear layer"
        candidates.append((members, reason))
    return candidates


def member_of(model: nn.Module, trace: Trace, layer: str) -> GroupMember:
    norm = trace.norm_of.get(layer)
    activation = trace.activation_of.get(norm or layer)
    kind = None if activation is None else type(model.get_submodule(activation)).__name__
    # A factor's hook expects an activation's channels at dim 1 of feature maps, and last in tokens.
    elsewhere = layer in trace.channels_last or isinstance(model.get_submodule(layer), nn.Conv1d)
    alone = activation is not None and trace.calls[activation] == 1 and not elsewhere
    return GroupMember(layer=layer, norm=norm, activation=activation if alone else None, activation_kind=kind)
