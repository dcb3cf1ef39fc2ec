"""Which filters can be removed under a rule and, if it asks for them, which heads, streams and conv groups."""

import copy
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from tailor.model.factors import GROUPS, HEADS
from tailor.networks import building
from tailor.networks.sizes import GROUP_COUNTS, HEAD_COUNTS, HEAD_SHAPES, HEAD_WIDTHS, STREAM_WIDTHS, set_size, size_of
from tailor.pruning.channel_tracing import follow
from tailor.pruning.dependency_trace import Trace
from tailor.pruning.group_records import Group, GroupMember, Kind, SizeOf, Slice
from tailor.pruning.units import Numbers, Units
from tailor.pruning.whole_tracing import follow_whole
from tailor.stages import GroupRule

WEIGHT = ".weight"


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
        input_shape: of one image.
        rule: what may go.
    """
    return tuple(c.group for c in candidates(model, input_shape, rule) if c.reason is None)


def refusals(model: nn.Module, input_shape: tuple[int, ...], rule: GroupRule) -> dict[str, str]:
    """Layer -> why its filters cannot be removed, for each layer in no group of `groups`."""
    refused = [c for c in candidates(model, input_shape, rule) if c.reason is not None]
    return {member.layer: c.reason for c in refused for member in c.group.members if c.reason is not None}


def candidates(model: nn.Module, input_shape: tuple[int, ...], rule: GroupRule) -> list[Candidate]:
    """All groups of a network, in the order of its modules; under a rule for wholes, attention is replaced in it."""
    if rule.is_whole:
        from tailor.networks.attention import replace_attention  # imports torchvision, which takes a second

        replace_attention(model)
        units = Units(follow_whole(model, input_shape, rule.conv_groups))
    else:
        units = Units(follow(model, input_shape, Trace))
    order = {name: number for number, name in enumerate(dict(model.named_modules()))}
    found = [c for unit in units.of_each_group() if (c := _candidate(model, units, *unit, rule)) is not None]
    found.sort(key=lambda c: order[c.group.name.partition(":")[0]])
    return list(_that_run(model, input_shape, found))


def _that_run(model: nn.Module, input_shape: tuple[int, ...], found: list[Candidate]) -> Iterator[Candidate]:
    """The candidates; those without one of whose units the network's code does not run are refused."""
    new = [c.group for c in found if c.reason is None and c.group.kind != "filters"]
    is_fine = not new or why_it_does_not_run(model, input_shape, new) is None
    for candidate in found:
        reason = candidate.reason
        if not is_fine and candidate.group in new:
            why = why_it_does_not_run(model, input_shape, [candidate.group])
            reason = None if why is None else f"the network's code does not run with fewer: {why}"
        yield replace(candidate, reason=reason)


def _candidate(
    model: nn.Module, units: Units, numbers: Numbers, slices: tuple[Slice, ...], rule: GroupRule
) -> Candidate | None:
    """The group of these units; None if they are of no layer of the network."""
    modules, kind = dict(model.named_modules()), units.kind(numbers)
    of_layers = [s for s in slices if s.tensor.endswith(WEIGHT) and s.tensor.removesuffix(WEIGHT) in modules]
    if kind == "heads":
        own = {s.tensor.removesuffix(WEIGHT): s for s in of_layers if s.dim == 1}
    else:
        made = {s.tensor.removesuffix(WEIGHT): s for s in of_layers if s.dim == 0 and not s.loose}
        made = {layer: s for layer, s in made.items() if layer in units.trace.first_label}
        own = {layer: s for layer, s in made.items() if layer not in units.trace.gates} or made
    if not own:
        return None
    own = {layer: own[layer] for layer in modules if layer in own}
    order = torch.argsort(next(iter(own.values())).indices[:, 0])
    group = Group(
        members=tuple(_member(model, units, layer, kind) for layer in own),
        filters=len(numbers),
        slices=tuple(replace(s, indices=s.indices[order]) for s in slices),
        kind=kind,
        sizes=tuple(_sizes(modules, kind, slices, next(iter(own.values())), rule)),
        product_macs=units.product_macs(numbers),
    )
    return Candidate(group=group, reason=_reason(model, units, numbers, group, own, rule))


def _member(model: nn.Module, units: Units, layer: str, kind: Kind) -> GroupMember:
    if kind == "heads":
        return GroupMember(layer=layer + HEADS, norm=None, activation=None, activation_kind=None)
    if kind == "conv_groups":
        return GroupMember(layer=layer + GROUPS, norm=None, activation=None, activation_kind=None)
    return _member_of(model, units.trace, layer)


def _reason(
    model: nn.Module, units: Units, numbers: Numbers, group: Group, own: Mapping[str, Slice], rule: GroupRule
) -> str | None:
    """Why the group cannot lose filters under the rule, None if it can."""
    owners = Counter(id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False))
    reason = None
    if whys := units.reasons(numbers):
        reason = f"all of its outputs are needed behind it: {', '.join(whys)}"
    elif any(s.indices.numel() != model.get_parameter(s.tensor).shape[s.dim] for s in own.values()) or (
        group.kind in ("filters", "stream") and any(s.indices.shape[1] > 1 for s in own.values())
    ):
        reason = "its outputs are combined with each other, or with a part of another layer's"
    elif any(layer not in units.trace.calls for layer in own):
        reason = "its weight is used without calling it, so factors at its output would not act"
    elif any(owners[id(model.get_parameter(s.tensor))] > 1 for s in group.slices if not s.tensor.endswith(BUFFERS)):
        reason = "its weight is another layer's, too"
    else:
        reason = _reason_of_the_rule(model, group, own, rule)
    return reason


BUFFERS = ("running_mean", "running_var")


def _reason_of_the_rule(model: nn.Module, group: Group, own: Mapping[str, Slice], rule: GroupRule) -> str | None:
    reason = None
    if group.kind == "heads" and not rule.heads:
        reason = "it reads heads (pruning.heads)"
    elif group.kind == "heads" and not any(size.attribute in HEAD_COUNTS for size in group.sizes):
        reason = f"no number of heads is an attribute of its module; known names are {', '.join(HEAD_COUNTS)}"
    elif group.kind == "stream" and not rule.stream:
        reason = "its channels run through norms over channels (pruning.stream)"
    elif group.kind == "filters" and len(own) > 1 and rule.residual == "inside":
        reason = "its outputs are added to another layer's"
    elif group.kind == "filters" and not rule.linear and any(_is_linear(model, layer) for layer in own):
        reason = "it is a linear layer"
    return reason


def _is_linear(model: nn.Module, layer: str) -> bool:
    return isinstance(model.get_submodule(layer), nn.Linear)


def _sizes(
    modules: Mapping[str, nn.Module], kind: Kind, slices: tuple[Slice, ...], own: Slice, rule: GroupRule
) -> Iterator[SizeOf]:
    """The numbers that the network's code computes with and that follow how many units are kept."""
    count, width = own.indices.shape[0], own.indices.numel()
    layers = {s.tensor.rpartition(".")[0] for s in slices}
    wanted: dict[str, int] = {}  # attribute -> its value in what belongs to these units
    if kind == "heads":
        layers |= {layer.rpartition(".")[0] for layer in layers}
        wanted = dict.fromkeys((*HEAD_COUNTS, *HEAD_SHAPES), count) | dict.fromkeys(HEAD_WIDTHS, width)
    elif kind == "stream":
        layers = {
            name for name in modules if any(f"{layer}.".startswith(f"{name}." if name else "") for layer in layers)
        }
        wanted = dict.fromkeys(STREAM_WIDTHS, count)
        yield from _heads_that_stay(modules)
    elif kind == "conv_groups" and rule.conv_groups == "whole":
        wanted = dict.fromkeys(GROUP_COUNTS, count)
    for name in sorted(layers):
        for attribute, value in wanted.items():
            if size_of(modules[name], attribute) == value:
                yield SizeOf(module=name, attribute=attribute, each=value // count)


def _heads_that_stay(modules: Mapping[str, nn.Module]) -> Iterator[SizeOf]:
    """The sizes of attention that is replaced: what it replaces does not run in a narrower stream either."""
    from tailor.networks.attention import is_replaced

    for name, module in modules.items():
        if is_replaced(module):
            yield SizeOf(module=name, attribute="num_heads", each=0, other=int(module.num_heads))  # type: ignore[arg-type]


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
            set_size(smaller.get_submodule(size.module), size.attribute, size.each * (group.filters - 1) + size.other)
    building.fill(smaller, tensors)
    try:
        with torch.no_grad():
            smaller.eval()(torch.zeros(1, *input_shape, dtype=next(model.parameters()).dtype, device="meta"))
    except (RuntimeError, ValueError, AssertionError, IndexError) as error:
        return str(error).partition("\n")[0]
    return None


def _on_meta(tensor: Tensor) -> Tensor:
    if not tensor.dtype.is_floating_point:
        return tensor.clone()
    made = torch.empty_like(tensor, device="meta")
    return nn.Parameter(made) if isinstance(tensor, nn.Parameter) else made


def _member_of(model: nn.Module, trace: Trace, layer: str) -> GroupMember:
    norm = trace.norm_of.get(layer)
    activation = trace.activation_of.get(norm or layer)
    kind = None if activation is None else type(model.get_submodule(activation)).__name__
    # A factor's hook expects an activation's channels at dim 1 of feature maps, and last in tokens.
    elsewhere = layer in trace.channels_last or isinstance(model.get_submodule(layer), nn.Conv1d)
    alone = activation is not None and trace.calls[activation] == 1 and not elsewhere
    return GroupMember(layer=layer, norm=norm, activation=activation if alone else None, activation_kind=kind)
