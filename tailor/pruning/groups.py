"""Which filters can be removed under a rule and, if it asks for them, which heads, streams and conv groups."""

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from tailor.core.errors import ConfigError
from tailor.model.factors import GROUPS, HEADS
from tailor.networks import building
from tailor.networks.sizes import (
    CHANNEL_COUNTS,
    GROUP_COUNTS,
    HEAD_COUNTS,
    HEAD_WIDTHS,
    STREAM_WIDTHS,
    set_size,
    size_of,
)
from tailor.pruning.channel_tracing import follow_filters
from tailor.pruning.group_records import Group, GroupMember, Kept, Kind, SizeOf, Slice, sizes_left, what_stays
from tailor.pruning.units import Numbers, Units
from tailor.pruning.whole_tracing import follow_whole
from tailor.stages import GroupRule
from transtailor.names import nearest

WEIGHT = ".weight"
FOLLOWED = (  # what a user does where a network's code cannot be followed
    "its forward must run on inputs of any values: without `if` on a tensor, .item(), .numpy(), and without tensors "
    "on a device that the code names"
)
COMPUTED = ".parametrizations."  # behind a layer's name: what torch computes its weight from


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A group, and why it cannot lose filters under a rule; None if it can."""

    group: Group
    reason: str | None


def groups(model: nn.Module, input_shape: tuple[int, ...], rule: GroupRule) -> tuple[Group, ...]:
    """The groups of filters that can be removed from a model, in the order of its modules.

    Args:
        model: a network whose code runs on a batch of images. If the rule asks for heads or the stream, attention that
            cannot run with fewer heads is replaced in it (see `replace_attention`).
    """
    return tuple(c.group for c in candidates(model, input_shape, rule) if c.reason is None)


def refusals(model: nn.Module, input_shape: tuple[int, ...], rule: GroupRule) -> dict[str, str]:
    """Layer -> why its filters cannot be removed, for each layer in no group of `groups`."""
    refused = [c for c in candidates(model, input_shape, rule) if c.reason is not None]
    return {member.layer: c.reason for c in refused for member in c.group.members if c.reason is not None}


def reasons_of(found: Iterable[Candidate]) -> str:
    """Why candidates cannot lose filters: each reason once, behind its layers."""
    layers: dict[str, list[str]] = {}
    for candidate in found:
        if candidate.reason is not None:
            layers.setdefault(candidate.reason, []).append(candidate.group.name)
    return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in layers.items()) or "it has no layers"


def candidates(model: nn.Module, input_shape: tuple[int, ...], rule: GroupRule) -> list[Candidate]:
    """All groups of a network, in the order of its modules; under a rule for wholes, attention is replaced in it.

    Each layer with a matrix of weights is in one of them; one that is not understood is in a group of its own, which
    cannot lose filters.

    Raises:
        ConfigError: the rule excludes a module that the network does not have.
    """
    modules = dict(model.named_modules())
    if unknown := [name for name in rule.exclude if name not in modules]:
        near = nearest(unknown[0], filter(None, modules))  # the network itself has no name
        raise ConfigError(f"pruning.exclude: the network has no module {unknown[0]!r}{near}")
    if rule.is_whole:
        from tailor.networks.attention import replace_attention  # imports torchvision, which takes a second

        replace_attention(model)
        units = Units(follow_whole(model, input_shape, rule.conv_groups))
    else:
        units = Units(follow_filters(model, input_shape))
    network = _Network(model, units, rule)
    found = [c for unit in units.units_by_group() if (c := network.candidate(*unit)) is not None]
    found += network.layers_in_none_of(found)
    found.sort(key=lambda c: network.order[c.group.name.partition(":")[0]])
    return list(_runnable(model, input_shape, found))


def _runnable(model: nn.Module, input_shape: tuple[int, ...], found: list[Candidate]) -> Iterator[Candidate]:
    """The candidates; those without one of whose units the network's code does not run are refused."""
    prunable = [c.group for c in found if c.reason is None]
    is_fine = not prunable or why_it_does_not_run(model, input_shape, prunable) is None
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    whys: dict[object, str | None] = {}  # of groups that are alike; one of them is tried
    for candidate in found:
        reason, group = candidate.reason, candidate.group
        if not is_fine and reason is None:
            # Filters of layers that are alike may be read by different code.
            alike = group.name if group.kind == "filters" else _likeness(model, shapes, group)
            if alike not in whys:
                whys[alike] = why_it_does_not_run(model, input_shape, [group])
            reason = f"the network's code does not run with fewer{whys[alike]}" if whys[alike] else None
        yield replace(candidate, reason=reason)


def _likeness(model: nn.Module, shapes: Mapping[str, torch.Size], group: Group) -> object:
    """Equal for groups of one kind in modules of the same classes, of the same shapes."""
    parts = []
    for part in group.slices:
        module, _, key = part.tensor.rpartition(".")
        owners = [type(model.get_submodule(name)) for name in (module, module.rpartition(".")[0])]
        parts.append((*owners, key, part.dim, part.indices.shape, shapes[part.tensor]))
    return group.kind, frozenset(Counter(parts).items()), frozenset(s.attribute for s in group.sizes)


class _Network:
    """A model whose units become groups, and what the rule allows of them."""

    def __init__(self, model: nn.Module, units: Units, rule: GroupRule) -> None:
        self.model, self.units, self.rule, self.trace = model, units, rule, units.trace
        self.modules = dict(model.named_modules())
        self.order = {name: number for number, name in enumerate(self.modules)}
        self.parameters = dict(model.named_parameters(remove_duplicate=False))
        self.owners = Counter(map(id, self.parameters.values()))

    def candidate(self, numbers: Numbers, slices: tuple[Slice, ...]) -> Candidate | None:
        """The group of these units; None if they are of no layer of the network."""
        kind = self.units.kind(numbers)
        of_layers = {
            (s.tensor.removesuffix(WEIGHT), s.dim): s
            for s in slices
            if s.tensor.endswith(WEIGHT) and s.tensor.removesuffix(WEIGHT) in self.modules and not s.loose
        }
        if kind == "heads":
            own = {layer: s for (layer, dim), s in of_layers.items() if dim == 1}
        else:
            made = {layer: s for (layer, dim), s in of_layers.items() if dim == 0 and layer in self.trace.first_label}
            own = {layer: s for layer, s in made.items() if layer not in self.trace.gates} or made
        if not own:
            return None
        own = dict(sorted(own.items(), key=lambda item: self.order[item[0]]))
        first = next(iter(own.values()))
        order = torch.argsort(first.indices[:, 0])
        group = Group(
            members=tuple(self._member(layer, kind) for layer in own),
            filters=len(numbers),
            slices=tuple(replace(s, indices=s.indices[order]) for s in slices),
            kind=kind,
            sizes=tuple(self._sizes(numbers, kind, slices, first)),
            product_macs=self.units.product_macs(numbers),
        )
        return Candidate(group=group, reason=self._reason(numbers, group, own))

    def layers_in_none_of(self, found: list[Candidate]) -> list[Candidate]:
        """The layers with a matrix of weights that are no part of a group, each with the reason."""
        of_groups = {s.tensor for c in found for s in c.group.slices if s.dim == 0 or s.loose}
        of_groups |= {f"{m.layer.partition(':')[0]}{WEIGHT}" for c in found for m in c.group.members}
        others: dict[str, int] = {}  # layer -> outputs
        for tensor, parameter in self.parameters.items():
            path, _, key = tensor.rpartition(".")
            layer = tensor.partition(COMPUTED)[0] if COMPUTED in tensor else path
            is_weight = "weight" in key or COMPUTED in tensor or layer in self.trace.unread
            is_matrix = parameter.dim() > 1 and parameter.numel() > max(parameter.shape)
            if layer and is_weight and is_matrix and tensor not in of_groups:
                others.setdefault(layer, getattr(self.modules[layer], "out_channels", len(parameter)))
        return [
            Candidate(
                group=Group(
                    members=(GroupMember(layer=layer, norm=None, activation=None, activation_kind=None),),
                    filters=width,
                    slices=(),
                ),
                reason=self._why_in_no_group(layer),
            )
            for layer, width in others.items()
        ]

    def _why_in_no_group(self, layer: str) -> str:
        """Why a layer that is in no group keeps its filters."""
        if any(self.owners[id(parameter)] > 1 for parameter in self.modules[layer].parameters(recurse=False)):
            return "its weight is another layer's, too"
        if layer not in self.trace.calls:
            return "nothing calls it in evaluation mode"
        if (layer + WEIGHT, 0) in self.trace.uses:
            return "it works on each of its inputs alone, and these have to stay"
        kind = type(self.modules[layer]).__name__
        return self.trace.unread.get(layer, f"only convolutions and linear layers lose filters, and it is a {kind}")

    def _member(self, layer: str, kind: Kind) -> GroupMember:
        if kind in ("heads", "conv_groups"):
            suffix = HEADS if kind == "heads" else GROUPS
            return GroupMember(layer=layer + suffix, norm=None, activation=None, activation_kind=None)
        norm = self.trace.norm_of.get(layer)
        activation = self.trace.activation_of.get(norm or layer)
        name = None if activation is None else type(self.modules[activation]).__name__
        # A factor's hook expects an activation's channels at dim 1 of feature maps, and last in tokens.
        elsewhere = layer in self.trace.channels_last or isinstance(self.modules[layer], nn.Conv1d)
        alone = activation is not None and self.trace.calls[activation] == 1 and not elsewhere
        return GroupMember(layer=layer, norm=norm, activation=activation if alone else None, activation_kind=name)

    def _reason(self, numbers: Numbers, group: Group, own: Mapping[str, Slice]) -> str | None:
        """Why the group cannot lose filters under the rule, None if it can."""
        is_single = group.kind in ("filters", "stream")
        used = [self.parameters[s.tensor] for s in group.slices if s.tensor in self.parameters]
        reason = None
        if whys := self.units.reasons(numbers):
            reason = f"all of its outputs are needed behind it: {', '.join(whys)}"
        elif any(
            s.indices.numel() != self.parameters[s.tensor].shape[s.dim] or (is_single and s.indices.shape[1] > 1)
            for s in own.values()
        ):
            reason = "its outputs are combined with each other, or with a part of another layer's"
        elif any(layer not in self.trace.calls for layer in own):
            reason = "its weight is used without calling it, so factors at its output would not act"
        elif any(self.owners[id(parameter)] > 1 for parameter in used):
            reason = "its weight is another layer's, too"
        else:
            reason = self._reason_of_the_rule(group, own)
        return reason

    def _reason_of_the_rule(self, group: Group, own: Mapping[str, Slice]) -> str | None:
        kind, reason = group.kind, None
        makers = [f"{s.tensor}." for s in group.slices if s.dim == 0 or s.loose]
        if any(maker.startswith(f"{name}.") for name in self.rule.exclude for maker in makers):
            reason = "it is excluded (pruning.exclude)"
        elif kind == "heads" and not self.rule.heads:
            reason = "it reads heads (pruning.heads)"
        elif kind == "heads" and not any(size.attribute in HEAD_COUNTS for size in group.sizes):
            reason = f"no number of heads is an attribute of its module; known names are {', '.join(HEAD_COUNTS)}"
        elif kind == "stream" and not self.rule.stream:
            reason = "its channels run through norms over channels (pruning.stream)"
        elif kind == "stream" and group.product_macs and not group.sizes:
            reason = f"its tokens are mixed, and none of {', '.join(STREAM_WIDTHS)} says how wide it is"
        elif kind == "filters" and len(own) > 1 and self.rule.residual == "inside":
            reason = "its outputs are added to another layer's"
        elif kind == "filters" and not self.rule.linear and any(isinstance(self.modules[n], nn.Linear) for n in own):
            reason = "it is a linear layer"
        return reason

    def _sizes_of_norms(self, numbers: Numbers) -> Iterator[SizeOf]:
        """How many channels norms have that are behind these units and have no tensor that says so."""
        for name, labels in self.trace.unsized.items():
            each = self.units.count_of(numbers, labels)
            for attribute in CHANNEL_COUNTS if each else ():
                if size_of(self.modules[name], attribute) == len(labels):
                    other = len(labels) - each * len(numbers)
                    yield SizeOf(module=name, attribute=attribute, each=each, other=other)

    def _sizes(self, numbers: Numbers, kind: Kind, slices: tuple[Slice, ...], own: Slice) -> Iterator[SizeOf]:
        """The numbers that the network's code computes with and that follow how many units are kept."""
        count, width = own.indices.shape[0], own.indices.numel()
        layers = {s.tensor.rpartition(".")[0] for s in slices}
        owners = {layer.rpartition(".")[0] for layer in layers}
        wanted: dict[str, int] = {}  # attribute -> its value in what belongs to these units
        if kind == "heads":
            layers |= owners
            wanted = dict.fromkeys(HEAD_COUNTS, count) | dict.fromkeys(HEAD_WIDTHS, width)
        elif kind == "stream":
            while owners - layers:
                layers |= owners
                owners = {layer.rpartition(".")[0] for layer in layers}
            wanted = dict.fromkeys(STREAM_WIDTHS, count)
            yield from self._heads_that_stay()
        elif kind == "conv_groups" and self.rule.conv_groups == "whole":
            wanted = dict.fromkeys(GROUP_COUNTS, count)
        for name in sorted(layers):
            for attribute, value in wanted.items():
                if size_of(self.modules[name], attribute) == value:
                    yield SizeOf(module=name, attribute=attribute, each=value // count)
        yield from self._sizes_of_norms(numbers)

    def _heads_that_stay(self) -> Iterator[SizeOf]:
        """The sizes of attention that is replaced: what it replaces does not run in a narrower stream either."""
        from tailor.networks.attention import is_replaced

        for name, module in self.modules.items():
            if is_replaced(module):
                yield SizeOf(module=name, attribute="num_heads", each=0, other=size_of(module, "num_heads") or 1)


def why_it_does_not_run(model: nn.Module, input_shape: tuple[int, ...], found: Iterable[Group]) -> str | None:
    """Why the network's code does not run without the first unit of each group: the mode, and the error's first line.

    None if it does, in evaluation and in training mode: code under `if self.training` may read filters, too. What does
    not run on torch's device `meta` with all units is not tried.
    """
    found = [group for group in found if group.filters > 1]
    kept = {group.name: torch.arange(1, group.filters) for group in found}
    for training in (False, True):
        error = _error_of(_on_meta(model, kept, found), input_shape, training=training)
        if error is not None and _error_of(_on_meta(model, {}, found), input_shape, training=training) is None:
            return f" in training mode: {error}" if training else f": {error}"
    return None


def _error_of(model: nn.Module, input_shape: tuple[int, ...], *, training: bool) -> str | None:
    """The first line of the error of a forward pass; None: there is none."""
    dtype = next(model.parameters()).dtype
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            inputs = 2 if training else 1  # norms need more than one
            model.train(training)(torch.zeros(inputs, *input_shape, dtype=dtype, device="meta"))
    except Exception as error:  # noqa: BLE001  # a user's code may raise anything
        return str(error).strip().partition("\n")[0] or type(error).__name__
    return None


def _on_meta(model: nn.Module, kept: Kept, found: list[Group]) -> nn.Module:
    """A copy of the model without memory, of which these units are left."""
    memory = {id(tensor): _shape_of(tensor) for tensor in (*model.parameters(), *model.buffers())}
    smaller = building.copied(model, memory)
    tensors = dict(smaller.state_dict())
    for (name, dim), stays in what_stays(tensors, kept, found).items():
        tensors[name] = tensors[name].index_select(dim, stays.nonzero().flatten().to(tensors[name].device))
    for module, sizes in sizes_left({}, kept, found).items():
        for attribute, size in sizes.items():
            set_size(smaller.get_submodule(module), attribute, size)
    building.fill(smaller, tensors)
    return smaller


def _shape_of(tensor: Tensor) -> Tensor:
    if not tensor.dtype.is_floating_point:
        return tensor.clone()
    made = torch.empty_like(tensor, device="meta")
    return nn.Parameter(made) if isinstance(tensor, nn.Parameter) else made
