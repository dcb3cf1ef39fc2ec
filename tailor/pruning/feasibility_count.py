"""Counts what a network can lose under each rule of groups; the network is built without memory."""

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache, partial

from torch import nn

from tailor.facts.feasibility_table import STAYS, TABLE_CLASSES, GridTerms, Prunable, Width
from tailor.facts.networks import NETWORKS
from tailor.model import cost
from tailor.networks import building
from tailor.pruning.group_records import Group, members_of
from tailor.pruning.groups import candidates, groups, kept_by_code
from tailor.pruning.network_facts import UNREAD
from tailor.stages import GroupRule

OUTPUTS = 0  # dim of a weight
INPUTS = 1
FAR_PX = 960  # a multiple of all strides
CHECKED_PX = ((97, 97), (131, 250))  # height and width of images
# Each of these rules is another trace of the network; what goes under one of them goes under the narrower ones, too.
ALL_FILTERS = GroupRule(residual="coupled", linear=True)
WHOLE = ALL_FILTERS.replace(stream=True, heads=True)
OF_CONV_GROUPS = (WHOLE.replace(conv_groups="whole"), WHOLE.replace(conv_groups="alike"))


def rules(network: str) -> dict[str, Prunable]:
    """Name of each rule -> what the network can lose under it; rules for kinds that the network lacks are left out."""
    widest_rules = [ALL_FILTERS, WHOLE]
    if cost.count_products(network, TABLE_CLASSES, NETWORKS[network].input_shape).has_conv_groups:
        widest_rules += OF_CONV_GROUPS
    by_rule: dict[str, Prunable] = {}
    for widest in widest_rules:
        groups_of_widest = _groups(network, widest)
        kinds = {group.kind for group in groups_of_widest}
        for rule in _narrower_rules(widest):
            has_all_kinds = set(rule.wholes) <= kinds
            if has_all_kinds and rule.is_whole == widest.is_whole:
                removable = [group for group in groups_of_widest if _may_go(network, group, rule)]
                by_rule[rule.name] = _prunable_of(network, removable)
    return by_rule


def _narrower_rules(widest: GroupRule) -> Iterator[GroupRule]:
    """Yield the rules that remove at most what the widest one removes, with its setting of `conv_groups`."""
    for stream in {False, widest.stream}:
        for heads in {False, widest.heads}:
            for residual in ("inside", "coupled"):
                for linear in (False, True):
                    yield widest.replace(stream=stream, heads=heads, residual=residual, linear=linear)


def prunable(network: str, rule: GroupRule) -> tuple[Prunable, frozenset[str]]:
    """What a network can lose under one rule, and the kinds of groups that there are."""
    groups_of_rule = _groups(network, rule)
    return _prunable_of(network, groups_of_rule), frozenset(group.kind for group in groups_of_rule)


def layers_kept_by_code(network: str, rule: GroupRule) -> str:
    """Which layers can lose no filter because of the network's code; empty: none. See `groups.kept_by_code`."""
    model = building.skeleton(network, TABLE_CLASSES)
    return kept_by_code(candidates(model, NETWORKS[network].input_shape, rule))


def _groups(network: str, rule: GroupRule) -> tuple[Group, ...]:
    return groups(building.skeleton(network, TABLE_CLASSES), NETWORKS[network].input_shape, rule)


def _may_go(network: str, group: Group, rule: GroupRule) -> bool:
    """Whether a group that can go under a wider rule can go under this one."""
    if group.kind != "filters":
        return group.kind in rule.wholes
    is_linear = any(member.layer in _module_names(network).linear for member in group.members)
    if is_linear and not rule.linear:
        return False
    return rule.residual == "coupled" or len(group.members) == 1


@dataclass(frozen=True)
class _ModuleNames:
    """Names of a network's modules."""

    linear: frozenset[str]  # linear layers
    with_weight: frozenset[str]  # a norm among them has a factor for each channel


@lru_cache(maxsize=1)
def _module_names(network: str) -> _ModuleNames:
    model = building.skeleton(network, TABLE_CLASSES)
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    with_weight = [name.removesuffix(".weight") for name, _ in model.named_parameters()]
    return _ModuleNames(frozenset(linear), frozenset(with_weight))


def _prunable_of(network: str, removable: Sequence[Group]) -> Prunable:
    members = members_of(removable)
    with_weight = _module_names(network).with_weight
    without_norm = [member.layer for member in members if member.norm not in with_weight]
    without_activation = [member.layer for member in members if member.activation is None]
    widths = tuple(sorted({_width(network, group) for group in removable}))
    return Prunable(
        widths=widths,
        grids=grid_terms(network, removable, widths),
        without_norm=without_norm[0] if without_norm else "",
        without_activation=without_activation[0] if without_activation else "",
    )


def _width(network: str, group: Group) -> Width:
    return group.filters_in(cost.original_shapes(network, TABLE_CLASSES)), group.filters_each


def grid_terms(network: str, removable: Sequence[Group], widths: tuple[Width, ...]) -> tuple[GridTerms, ...]:
    """What is left when groups of these widths keep fractions of their filters; see `GridTerms`.

    A weight of (outputs, inputs, ...) is used once per position; a part of each of its two dimensions shrinks.
    """
    input_shape = NETWORKS[network].input_shape
    shrinking: defaultdict[tuple[str, int], Counter[int]] = defaultdict(Counter)  # (weight, dim) -> width -> indices
    activation_macs_by_width: Counter[int] = Counter()
    for group in removable:
        number = widths.index(_width(network, group))
        activation_macs_by_width[number] += group.filters * group.product_macs
        for part in group.slices:
            shrinking[part.tensor, part.dim][number] += part.indices.numel()
    shapes = cost.original_shapes(network, TABLE_CLASSES)
    heads = {f"{NETWORKS[network].head}.weight", *NETWORKS[network].more_head}
    grid_of = grids(network)
    totals: defaultdict[tuple[int, int, int], Counter[tuple[int, int]]] = defaultdict(Counter)
    for weight, count in cost.positions(network, TABLE_CLASSES, input_shape).items():
        stride, offset = grid_of.get(weight, (0, 0))
        positions = 1 if stride else count  # those along a grid depend on the images: `macs_left` counts them
        outputs, inputs, *kernel = shapes[weight]
        if weight in heads:
            outputs = 1  # `macs_left` counts its outputs
        terms = totals[stride, offset, int(weight in heads)]
        for i, outputs_of_width in _by_width(outputs, shrinking[weight, OUTPUTS]):
            for j, inputs_of_width in _by_width(inputs, shrinking[weight, INPUTS]):
                terms[min(i, j), max(i, j)] += positions * math.prod(kernel) * outputs_of_width * inputs_of_width
    activation_macs = cost.count_products(network, TABLE_CLASSES, input_shape).activation_macs
    if activation_macs:
        for i, macs in _by_width(activation_macs, activation_macs_by_width):
            totals[0, 0, 0][STAYS, i] += macs
    left = []
    for (stride, offset, is_head), terms in sorted(totals.items()):
        counted = tuple((i, j, count) for (i, j), count in sorted(terms.items()) if count)
        left.append((stride, offset, is_head, counted))
    return tuple(left)


def _by_width(whole: int, shrinking: Counter[int]) -> Iterator[tuple[int, int]]:
    """Yield number of a width and how many of the whole have it; first of what stays."""
    yield STAYS, whole - shrinking.total()
    yield from shrinking.items()


@lru_cache(maxsize=1)
def grids(network: str) -> dict[str, tuple[int, int]]:
    """Name of a weight -> stride and offset of the positions where it is applied, see `GridTerms`.

    Empty for a network that reads images of only one size, for one that multiplies activations with each other, and
    for one whose layers have other positions, such as in windows to which images are padded.
    """
    input_shape = NETWORKS[network].input_shape
    if not NETWORKS[network].any_size or cost.count_products(network, TABLE_CLASSES, input_shape).activation_macs:
        return {}
    channels, side_px, _ = input_shape

    @cache
    def positions(height_px: int, width_px: int) -> dict[str, int]:
        return cost.positions(network, TABLE_CLASSES, (channels, height_px, width_px))

    def positions_along_side(weight: str, px: int) -> int:
        return math.isqrt(positions(px, px)[weight])

    try:
        grid_of = {}
        for weight in positions(side_px, side_px):
            grid_of[weight] = _grid(partial(positions_along_side, weight), side_px)
        for height_px, width_px in CHECKED_PX:
            for weight, count in positions(height_px, width_px).items():
                stride, offset = grid_of[weight]
                expected = positions(side_px, side_px)[weight]  # without a stride the same for all sizes
                if stride:
                    expected = (height_px + offset) // stride * ((width_px + offset) // stride)
                if count != expected:
                    return {}
    except UNREAD:
        return {}
    return grid_of


def _grid(positions_along: Callable[[int], int], side_px: int) -> tuple[int, int]:
    """Stride and offset of a layer that is applied at `positions_along(n)` positions along a side of n pixels.

    A sequence of layers that are each applied at floor((n + a) / s) positions is again of this form.

    >>> _grid(lambda px: (px + 1) // 2, side_px=224)
    (2, 1)
    """
    here = positions_along(side_px)
    more = positions_along(side_px + FAR_PX) - here
    if more <= 0:  # after a pooling to a fixed size
        return 0, 0
    stride = FAR_PX // more
    larger_px = range(side_px + 1, side_px + stride)
    next_px = larger_px.start + bisect_left(larger_px, here + 1, key=positions_along)  # first with a position more
    return stride, stride * (here + 1) - next_px
