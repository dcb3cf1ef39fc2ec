"""Which filters can be removed under a rule and, if it asks for them, which heads, streams and conv groups."""

import copy
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from tailor.core.errors import ConfigError
from tailor.model.factors import GROUPS, HEADS
from tailor.networks import building
from tailor.networks.sizes import GROUP_COUNTS, HEAD_COUNTS, HEAD_WIDTHS, STREAM_WIDTHS, set_size, size_of
from tailor.pruning.channel_tracing import follow
from tailor.pruning.dependency_trace import Trace
from tailor.pruning.group_records import Group, GroupMember, Kind, SizeOf, Slice, sizes_left, what_stays
from tailor.pruning.units import Numbers, Units
from tailor.pruning.whole_tracing import follow_whole
from tailor.stages import GroupRule
from transtailor.names import nearest

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
    """
    return tuple(c.group for c in candidates(model, input_shape, rule) if c.reason is None)


def refusals(model: nn.Module, input_shape: tuple[int, ...], rule: GroupRule) -> dict[str, str]:
    """Layer -> why its filters cannot be removed, for each layer in no group of `groups`."""
    refused = [c for c in candidates(model, input_shape, rule) if c.reason is not None]
    return {member.layer: c.reason for c in refused for member in c.group.members if c.reason is not None}


def candidates(model: nn.Module, input_shape: tuple[int, ...], rule: GroupRule) -> list[Candidate]:
    """All groups of a network, in the order of its modules; under a rule for wholes, attention is replaced in it.

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
        units = Units(follow(model, input_shape, Trace))
    network = _Network(model, units, rule)
    found = [c for unit in units.units_by_group() if (c := network.candidate(*unit)) is not None]
    found.sort(key=lambda c: network.order[c.group.name.partition(":")[0]])
    return list(_runnable(model, input_shape, found))


def _runnable(model: nn.Module, input_shape: tuple[int, ...], found: list[Candidate]) -> Iterator[Candidate]:
    """The candidates; those without one of whose units the network's code does not run are refused."""
    new = [c.group for c in found if c.reason is None and c.group.kind != "filters"]
    is_fine = not new or why_it_does_not_run(model, input_shape, new) is None
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    whys: dict[object, str | None] = {}  # of groups that are alike; one of them is tried
    for candidate in found:
        reason, group = candidate.reason, candidate.group
        if not is_fine and reason is None and group.kind != "filters":
            if (alike := _likeness(model, shapes, group)) not in whys:
                whys[alike] = why_it_does_not_run(model, input_shape, [group])
            reason = f"the network's code does not run with fewer: {whys[alike]}" if whys[alike] else None
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
            sizes=tuple(self._sizes(kind, slices, first)),
            product_macs=self.units.product_macs(numbers),
        )
        return Candidate(group=group, reason=self._reason(numbers, group, own))

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

    def _sizes(self, kind: Kind, slices: tuple[Slice, ...], own: Slice) -> Iterator[SizeOf]:
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

    def _heads_that_stay(self) -> Iterator[SizeOf]:
        """The sizes of attention that is replaced: what it replaces does not run in a narrower stream either."""
        from tailor.networks.attention import is_replaced

        for name, module in self.modules.items():
            if is_replaced(module):
                yield SizeOf(module=name, attribute="num_heads", each=0, other=size_of(module, "num_heads") or 1)


def why_it_does_not_run(model: nn.Module, input_shape: tuple[int, ...], found: Iterable[Group]) -> str | None:
    """The first line of the error of a forward pass without the first unit of each group; None: there is none."""
    found = [group for group in found if group.filters > 1]
    kept = {group.name: torch.arange(1, group.filters) for group in found}
    memory = {id(tensor): _on_meta(tensor) for tensor in (*model.parameters(), *model.buffers())}
    smaller = copy.deepcopy(model, memory)
    tensors = dict(smaller.state_dict())
    for (name, dim), stays in what_stays(tensors, kept, found).items():
        tensors[name] = tensors[name].index_select(dim, stays.nonzero().flatten().to(tensors[name].device))
    for module, sizes in sizes_left({}, kept, found).items():
        for attribute, size in sizes.items():
            set_size(smaller.get_submodule(module), attribute, size)
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
