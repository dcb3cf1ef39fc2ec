"""Which filters can be removed under a rule and, if it asks for them, which heads, streams and conv groups."""

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from tailor.common.errors import ConfigError
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
from tailor.pruning.channel_tracing import follow_channels
from tailor.pruning.group_records import Group, GroupMember, Kept, Kind, SizeOf, Slice, sizes_left, what_stays
from tailor.pruning.units import UnitNumbers, Units
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
    is_by_code: bool = False  # whether the network's code does not run with fewer, which its author can mend


def groups(model: nn.Module, input_shape: tuple[int, ...], rule: GroupRule) -> tuple[Group, ...]:
    """The groups of filters that can be removed from a model, in the order of its modules.

    Args:
        model: a network whose code runs on a batch of images. If the rule asks for heads or the stream, attention that
            cannot run with fewer heads is replaced in it (see `replace_attention`).
    """
    return prunable_groups(candidates(model, input_shape, rule))


def prunable_groups(candidates: Iterable[Candidate]) -> tuple[Group, ...]:
    """The groups of the candidates that can lose filters."""
    return tuple(candidate.group for candidate in candidates if candidate.reason is None)


def reasons_of(candidates: Iterable[Candidate]) -> str:
    """Why candidates cannot lose filters, as text: each reason once, behind the names of its layers."""
    return _by_reason(candidates) or "it has no layers"


def kept_by_code(candidates: Iterable[Candidate]) -> str:
    """Which layers keep all filters because of shapes in the network's code, and how to mend it; empty: none does."""
    of_code = [candidate for candidate in candidates if candidate.is_by_code]
    return f"{_by_reason(of_code)}; mend its code, such as x.flatten(1) in place of x.view(-1, 64)" if of_code else ""


def _by_reason(candidates: Iterable[Candidate]) -> str:
    layers_by_reason: dict[str, list[str]] = {}
    for candidate in candidates:
        if candidate.reason is not None:
            layers_by_reason.setdefault(candidate.reason, []).append(candidate.group.name)
    return "; ".join(f"{', '.join(layers)}: {reason}" for reason, layers in layers_by_reason.items())


def candidates(model: nn.Module, input_shape: tuple[int, ...], rule: GroupRule) -> list[Candidate]:
    """All groups of a network, in the order of its modules; under a rule for wholes, attention is replaced in it.

    Each layer with a matrix of weights is in one of them; one that is not understood is in a group of its own, which
    cannot lose filters.

    Raises:
        ConfigError: the rule excludes a module that the network does not have, or one without weights.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    unknown = [name for name in rule.exclude if name not in modules]
    if unknown:
        known = [name for name in modules if name]  # the network itself has no name
        near = nearest(unknown[0], known)
        raise ConfigError(f"pruning.exclude: the network has no module {unknown[0]!r}{near}")
    for name in rule.exclude:
        if next(modules[name].parameters(), None) is None:
            what = f"{name!r} is a {type(modules[name]).__name__} without weights"
            raise ConfigError(f"pruning.exclude: {what}; name the layer whose filters stay")
    if rule.is_whole:
        from tailor.networks.attention import replace_attention  # imports torchvision, which takes a second

        replace_attention(model)
    units = Units(follow_channels(model, input_shape, rule.conv_groups))
    network = _Network(model, units, rule)
    by_units = [network.candidate(numbers, slices) for numbers, slices in units.units_by_group()]
    all_candidates = [candidate for candidate in by_units if candidate is not None]
    all_candidates += network.layers_in_none_of(all_candidates)
    all_candidates.sort(key=lambda candidate: network.order[candidate.group.name.partition(":")[0]])
    return _refuse_what_does_not_run(model, input_shape, all_candidates)


def _refuse_what_does_not_run(
    model: nn.Module, input_shape: tuple[int, ...], candidates: list[Candidate]
) -> list[Candidate]:
    """Refuse each candidate without whose first unit the network's code does not run; return all candidates.

    The network is run once without the first unit of every group. Only if that fails, the groups are tried one by one.
    """
    removable = prunable_groups(candidates)
    if not removable or why_it_does_not_run(model, input_shape, removable) is None:
        return candidates
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    errors: dict[object, str | None] = {}  # by likeness: of the groups that are alike, one is tried
    checked = []
    for candidate in candidates:
        if candidate.reason is None:
            group = candidate.group
            # Filters of layers that are alike may be read by different code.
            likeness = group.name if group.kind == "filters" else _likeness(model, shapes, group)
            if likeness not in errors:
                errors[likeness] = why_it_does_not_run(model, input_shape, [group])
            error = errors[likeness]
            if error is not None:
                reason = f"the network's code does not run with fewer{error}"
                candidate = replace(candidate, reason=reason, is_by_code=True)  # noqa: PLW2901
        checked.append(candidate)
    return checked


def _likeness(model: nn.Module, shapes: Mapping[str, torch.Size], group: Group) -> object:
    """Equal for groups of one kind in modules of the same classes, of the same shapes."""
    parts: Counter[object] = Counter()
    for part in group.slices:
        layer, _, key = part.tensor.rpartition(".")
        owner = layer.rpartition(".")[0]
        classes = (type(model.get_submodule(layer)), type(model.get_submodule(owner)))
        parts[classes, key, part.dim, part.indices.shape, shapes[part.tensor]] += 1
    attributes = frozenset(size.attribute for size in group.sizes)
    return group.kind, frozenset(parts.items()), attributes


class _Network:
    """A model whose units become groups, and what the rule allows of them."""

    def __init__(self, model: nn.Module, units: Units, rule: GroupRule) -> None:
        self.model = model
        self.units = units
        self.rule = rule
        self.trace = units.trace
        self.modules = dict(model.named_modules())
        self.order = {name: number for number, name in enumerate(self.modules)}
        self.parameters: dict[str, nn.Parameter] = {}  # of each module, by the first name of the module
        for path, module in self.modules.items():
            self.parameters |= module.named_parameters(path, recurse=False, remove_duplicate=False)
        self.owners = Counter(map(id, self.parameters.values()))  # id of a parameter -> modules that have it
        self.excluded: set[nn.Module] = set()
        for name in rule.exclude:
            self.excluded |= set(model.get_submodule(name).modules())

    def candidate(self, numbers: UnitNumbers, slices: tuple[Slice, ...]) -> Candidate | None:
        """The group of these units; None if they are of no layer of the network."""
        kind = self.units.kind(numbers)
        own = self._slices_of_members(kind, slices)
        if not own:
            return None
        first = next(iter(own.values()))
        order = torch.argsort(first.indices[:, 0])  # units as the first member has them
        group = Group(
            members=tuple(self._member(layer, kind) for layer in own),
            filters=len(numbers),
            slices=tuple(replace(part, indices=part.indices[order]) for part in slices),
            kind=kind,
            sizes=tuple(self._sizes(numbers, kind, slices, first)),
            product_macs=self.units.product_macs(numbers),
        )
        return Candidate(group=group, reason=self._reason(numbers, group, own))

    def _slices_of_members(self, kind: Kind, slices: tuple[Slice, ...]) -> dict[str, Slice]:
        """Layer -> the slice of its weight, of the layers that are a group's members, in the network's order.

        These are the layers that read the heads, or else those that make the outputs. Layers whose outputs are only
        multiplied onto others (gates) are left out if there are others.
        """
        outputs: dict[str, Slice] = {}
        inputs: dict[str, Slice] = {}
        for part in slices:
            layer = part.tensor.removesuffix(WEIGHT)
            is_weight = part.tensor.endswith(WEIGHT) and layer in self.modules and not part.loose
            if is_weight and part.dim == 0 and layer in self.trace.first_label:
                outputs[layer] = part
            elif is_weight and part.dim == 1:
                inputs[layer] = part
        if kind == "heads":
            members = inputs
        else:
            without_gates = {layer: part for layer, part in outputs.items() if layer not in self.trace.gates}
            members = without_gates or outputs
        return {layer: members[layer] for layer in sorted(members, key=self.order.__getitem__)}

    def layers_in_none_of(self, candidates: list[Candidate]) -> list[Candidate]:
        """The layers with a matrix of weights that are in no group, each as a group of its own, with the reason."""
        of_groups: set[str] = set()  # tensors
        for candidate in candidates:
            of_groups |= {part.tensor for part in candidate.group.slices if part.dim == 0 or part.loose}
            of_groups |= {f"{member.layer.partition(':')[0]}{WEIGHT}" for member in candidate.group.members}
        outputs_of: dict[str, int] = {}  # layer -> outputs
        for tensor, parameter in self.parameters.items():
            path, _, key = tensor.rpartition(".")
            layer = tensor.partition(COMPUTED)[0] if COMPUTED in tensor else path
            is_weight = "weight" in key or COMPUTED in tensor or layer in self.trace.unread
            is_matrix = parameter.dim() > 1 and parameter.numel() > max(parameter.shape)
            if layer and is_weight and is_matrix and tensor not in of_groups:
                outputs_of.setdefault(layer, getattr(self.modules[layer], "out_channels", len(parameter)))
        refused = []
        for layer, outputs in outputs_of.items():
            member = GroupMember(layer=layer, norm=None, activation=None, activation_kind=None)
            group = Group(members=(member,), filters=outputs, slices=())
            refused.append(Candidate(group=group, reason=self._why_in_no_group(layer)))
        return refused

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
        """A layer as a member of such a group; that of heads and conv groups has no norm and no activation."""
        if kind in ("heads", "conv_groups"):
            suffix = HEADS if kind == "heads" else GROUPS
            return GroupMember(layer=layer + suffix, norm=None, activation=None, activation_kind=None)
        norm = self.trace.norm_of.get(layer)
        activation = self.trace.activation_of.get(norm or layer)
        if activation is None:
            return GroupMember(layer=layer, norm=norm, activation=None, activation_kind=None)
        # A factor's hook expects an activation's channels at dim 1 of feature maps, and last in tokens.
        has_channels_elsewhere = layer in self.trace.channels_last or isinstance(self.modules[layer], nn.Conv1d)
        is_own = self.trace.calls[activation] == 1 and not has_channels_elsewhere
        return GroupMember(
            layer=layer,
            norm=norm,
            activation=activation if is_own else None,
            activation_kind=type(self.modules[activation]).__name__,
        )

    def _reason(self, numbers: UnitNumbers, group: Group, own: Mapping[str, Slice]) -> str | None:
        """Why the group cannot lose filters under the rule, None if it can; `own`: the slices of its members."""
        why_pinned = self.units.reasons(numbers)
        if why_pinned:
            return f"all of its outputs are needed behind it: {', '.join(why_pinned)}"
        if any(self._is_combined(group.kind, part) for part in own.values()):
            return "its outputs are combined with each other, or with a part of another layer's"
        if any(layer not in self.trace.calls for layer in own):
            return "its weight is used without calling it, so factors at its output would not act"
        for part in group.slices:
            parameter = self.parameters.get(part.tensor)
            if parameter is not None and self.owners[id(parameter)] > 1:
                return "its weight is another layer's, too"
        return self._reason_of_the_rule(group, own)

    def _is_combined(self, kind: Kind, part: Slice) -> bool:
        """Whether the units have only a part of a layer's filters, or single units have several of them."""
        is_part = part.indices.numel() != self.parameters[part.tensor].shape[part.dim]
        is_single = kind in ("filters", "stream")
        return is_part or (is_single and part.indices.shape[1] > 1)

    def _reason_of_the_rule(self, group: Group, own: Mapping[str, Slice]) -> str | None:
        """Why the rule keeps the group's filters, or what is not known to remove them; None: it does not keep them."""
        kind = group.kind
        reason = None
        if self._is_excluded(group):
            reason = "it is excluded"
        elif kind == "heads" and not self.rule.heads:
            reason = "it reads heads (pruning.heads)"
        elif kind == "heads" and not any(size.attribute in HEAD_COUNTS for size in group.sizes):
            reason = f"no number of heads is an attribute of its module; known names are {', '.join(HEAD_COUNTS)}"
        elif kind == "stream" and not self.rule.stream:
            reason = "its channels run through norms over channels (pruning.stream)"
        elif kind in ("stream", "filters") and group.product_macs and not group.sizes:
            reason = f"its tokens are mixed, and none of {', '.join(STREAM_WIDTHS)} says how wide it is"
        elif kind == "filters" and len(own) > 1 and self.rule.residual == "inside":
            reason = "its outputs are added to another layer's"
        elif kind == "filters" and not self.rule.linear and any(isinstance(self.modules[n], nn.Linear) for n in own):
            reason = "it is a linear layer"
        return reason

    def _is_excluded(self, group: Group) -> bool:
        """Whether the rule excludes a module that makes the group's filters, or one that contains such a module."""
        for part in group.slices:
            is_made = part.dim == 0 or part.loose
            if is_made and self.modules[part.tensor.rpartition(".")[0]] in self.excluded:
                return True
        return False

    def _sizes_of_norms(self, numbers: UnitNumbers) -> Iterator[SizeOf]:
        """How many channels norms have that are behind these units and have no tensor that says so."""
        for name, labels in self.trace.unsized.items():
            each = self.units.count_of(numbers, labels)
            if each == 0:
                continue
            for attribute in CHANNEL_COUNTS:
                if size_of(self.modules[name], attribute) == len(labels):
                    other = len(labels) - each * len(numbers)
                    yield SizeOf(module=name, attribute=attribute, each=each, other=other)

    def _sizes(self, numbers: UnitNumbers, kind: Kind, slices: tuple[Slice, ...], own: Slice) -> Iterator[SizeOf]:
        """The numbers that the network's code computes with and that follow how many units are kept.

        An attribute with a known name is such a number if its value is that of all units together.
        """
        count = own.indices.shape[0]
        width = own.indices.numel()
        layers = {part.tensor.rpartition(".")[0] for part in slices}
        owners = {layer.rpartition(".")[0] for layer in layers}
        values: dict[str, int] = {}  # attribute -> its value in modules that belong to these units
        if kind == "heads":
            layers |= owners
            values = dict.fromkeys(HEAD_COUNTS, count) | dict.fromkeys(HEAD_WIDTHS, width)
        elif kind == "stream":
            while owners - layers:  # the modules around them, up to the network
                layers |= owners
                owners = {layer.rpartition(".")[0] for layer in layers}
            values = dict.fromkeys(STREAM_WIDTHS, count)
            yield from self._heads_that_stay()
        elif kind == "conv_groups" and self.rule.conv_groups == "whole":
            values = dict.fromkeys(GROUP_COUNTS, count)
        for name in sorted(layers):
            for attribute, value in values.items():
                if size_of(self.modules[name], attribute) == value:
                    yield SizeOf(module=name, attribute=attribute, each=value // count)
        yield from self._sizes_of_norms(numbers)

    def _heads_that_stay(self) -> Iterator[SizeOf]:
        """Yield the number of heads of each replaced attention, which stays as it is.

        A model that is built again replaces its attention only if it has such a size (`set_sizes`), and the original
        attention does not run in a narrower stream.
        """
        from tailor.networks.attention import is_replaced

        for name, module in self.modules.items():
            if is_replaced(module):
                heads = size_of(module, "num_heads")
                assert heads is not None  # each of them has it
                yield SizeOf(module=name, attribute="num_heads", each=0, other=heads)


def why_it_does_not_run(model: nn.Module, input_shape: tuple[int, ...], groups: Iterable[Group]) -> str | None:
    """Why the network's code does not run without the first unit of each group: the mode, and the error's first line.

    None if it does, in evaluation and in training mode: code under `if self.training` may read filters, too. What does
    not run on torch's device `meta` with all units is not tried.
    """
    groups = [group for group in groups if group.filters > 1]
    kept = {group.name: torch.arange(1, group.filters) for group in groups}
    for training in (False, True):
        error = _error_of(_on_meta(model, kept, groups), input_shape, training=training)
        if error is None:
            continue
        runs_whole = _error_of(_on_meta(model, {}, groups), input_shape, training=training) is None
        if runs_whole:
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


def _on_meta(model: nn.Module, kept: Kept, groups: list[Group]) -> nn.Module:
    """A copy of the model without memory, of which these units are left."""
    tensors_on_meta = {id(tensor): _to_meta(tensor) for tensor in (*model.parameters(), *model.buffers())}
    smaller = building.copied(model, tensors_on_meta)
    tensors = dict(smaller.state_dict())
    for (name, dim), stays in what_stays(tensors, kept, groups).items():
        indices = stays.nonzero().flatten().to(tensors[name].device)
        tensors[name] = tensors[name].index_select(dim, indices)
    for module, sizes in sizes_left({}, kept, groups).items():
        for attribute, size in sizes.items():
            set_size(smaller.get_submodule(module), attribute, size)
    building.fill(smaller, tensors)
    return smaller


def _to_meta(tensor: Tensor) -> Tensor:
    """The tensor without memory, a parameter if it is one; integers keep their values, which networks look up by."""
    if not tensor.dtype.is_floating_point:
        return tensor.clone()
    empty = torch.empty_like(tensor, device="meta")
    return nn.Parameter(empty) if isinstance(tensor, nn.Parameter) else empty
