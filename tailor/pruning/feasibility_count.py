"""Counts what a network can lose under each rule of groups; the network is built without memory."""

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from itertools import product
from typing import Any

from torch import nn

from tailor.catalogue.feasibility_table import TABLE_CLASSES, Part, Prunable
from tailor.catalogue.networks import NETWORKS
from tailor.model import cost
from tailor.networks import building
from tailor.pruning.group_records import Group
from tailor.pruning.groups import groups
from tailor.pruning.network_facts import UNREAD
from tailor.stages import GroupRule

FAR_PX = 960  # a multiple of all strides
CHECKED_PX = ((97, 97), (131, 250))  # height and width of images
ALL = GroupRule(residual="coupled", linear=True)
WHOLE = ALL.replace(stream=True, heads=True)
OF_FILTERS: list[dict[str, Any]] = [
    {"residual": residual, "linear": linear} for residual, linear in product(("inside", "coupled"), (False, True))
]
WIDEST = (ALL, WHOLE)
OF_CONV_GROUPS = (WHOLE.replace(conv_groups="whole"), WHOLE.replace(conv_groups="alike"))


def rules(network: str) -> dict[str, Prunable]:
    """Name of each rule -> what the network can lose under it; not of rules for kinds of groups that it has not."""
    found: dict[str, Prunable] = {}
    in_groups = cost.has_conv_groups(network, TABLE_CLASSES, NETWORKS[network].input_shape)
    for widest in WIDEST + (OF_CONV_GROUPS if in_groups else ()):  # each is another trace of the network
        of_widest = _groups(network, widest)
        has = {group.kind for group in of_widest}
        for stream, heads in product(*[{False, wide} for wide in (widest.stream, widest.heads)]):
            whole = widest.replace(stream=stream, heads=heads)
            if set(whole.wholes) <= has and whole.is_whole == widest.is_whole:
                for rule in (whole.replace(**each) for each in OF_FILTERS):
                    found[rule.name] = _prunable_of(network, tuple(g for g in of_widest if _may_go(network, g, rule)))
    return found


def prunable(network: str, rule: GroupRule) -> tuple[Prunable, frozenset[str]]:
    """What a network can lose under one rule, and the kinds of groups that there are."""
    found = _groups(network, rule)
    return _prunable_of(network, found), frozenset(group.kind for group in found)


def _groups(network: str, rule: GroupRule) -> tuple[Group, ...]:
    return groups(building.skeleton(network, TABLE_CLASSES), NETWORKS[network].input_shape, rule)


def _may_go(network: str, group: Group, rule: GroupRule) -> bool:
    """Whether a group that can go under a wider rule can go under this one."""
    if group.kind != "filters":
        return group.kind in rule.wholes
    linear, _ = _layers(network)
    is_linear = any(member.layer in linear for member in group.members)
    return (rule.linear or not is_linear) and (rule.residual == "coupled" or len(group.members) == 1)


@lru_cache(maxsize=1)
def _layers(network: str) -> tuple[frozenset[str], frozenset[str]]:
    """Names of linear layers, and of modules with a factor for each channel."""
    model = building.skeleton(network, TABLE_CLASSES)
    linear = frozenset(name for name, module in model.named_modules() if isinstance(module, nn.Linear))
    return linear, frozenset(name.removesuffix(".weight") for name, _ in model.named_parameters())


def _prunable_of(network: str, found: tuple[Group, ...]) -> Prunable:
    members = [member for group in found for member in group.members]
    _, with_factors = _layers(network)
    return Prunable(
        parts=parts_left(network, found),
        without_norm=next((member.layer for member in members if member.norm not in with_factors), ""),
        without_activation=next((member.layer for member in members if member.activation is None), ""),
    )


def parts_left(network: str, found: Sequence[Group]) -> tuple[Part, ...]:
    """What is left when each of these groups keeps a fraction of its filters; see `Part`.

    A weight of (outputs, inputs, ...) is used once per position; a part of each of its two dimensions shrinks.
    """
    shrinks: Counter[tuple[str, int]] = Counter()
    for group in found:
        for part in group.slices:
            shrinks[part.tensor, part.dim] += part.indices.numel()
    shapes, grid = cost.original_shapes(network, TABLE_CLASSES), grids(network)
    totals: defaultdict[tuple[int, int], list[int]] = defaultdict(lambda: [0, 0, 0])
    for weight, count in cost.positions(network, TABLE_CLASSES, NETWORKS[network].input_shape).items():
        stride, offset = grid.get(weight, (0, 0))
        outputs, inputs, *kernel = shapes[weight]
        (o1, i1), times = (shrinks[weight, 0], shrinks[weight, 1]), math.prod(kernel) * (1 if stride else count)
        o0, i0 = outputs - o1, inputs - i1
        for power, macs in enumerate((o0 * i0, o0 * i1 + o1 * i0, o1 * i1)):
            totals[stride, offset][power] += times * macs
    if constant := cost.activation_macs(network, TABLE_CLASSES, NETWORKS[network].input_shape):
        of_heads = sum(group.filters * group.product_macs for group in found)
        totals[0, 0][0] += constant - of_heads
        totals[0, 0][1] += of_heads
    return tuple((*place, c0, c1, c2) for place, (c0, c1, c2) in sorted(totals.items()))


@lru_cache(maxsize=1)
def grids(network: str) -> dict[str, tuple[int, int]]:
    """Name of a weight -> stride and offset of the positions where it is applied, see `Part`.

    Empty for a network that reads images of only one size, for one that multiplies activations with each other, and
    for one whose layers have other positions, such as in windows to which images are padded.
    """
    shape = NETWORKS[network].input_shape
    if not NETWORKS[network].any_size or cost.activation_macs(network, TABLE_CLASSES, shape):
        return {}
    channels, side_px, _ = shape

    @cache
    def positions(height_px: int, width_px: int) -> dict[str, int]:
        return cost.positions(network, TABLE_CLASSES, (channels, height_px, width_px))

    def expected_positions(weight: str, height_px: int, width_px: int) -> int:
        stride, offset = found[weight]
        everywhere = positions(side_px, side_px)[weight]
        return (height_px + offset) // stride * ((width_px + offset) // stride) if stride else everywhere

    try:
        found = {
            weight: _grid(lambda px, weight=weight: math.isqrt(positions(px, px)[weight]), side_px)  # type: ignore[misc]
            for weight in positions(side_px, side_px)
        }
        is_so = all(
            count == expected_positions(weight, *shape)
            for shape in CHECKED_PX
            for weight, count in positions(*shape).items()
        )
    except UNREAD:
        return {}
    return found if is_so else {}


def _grid(places: Callable[[int], int], side_px: int) -> tuple[int, int]:
    """Stride and offset of a layer that is applied at `places(n)` positions along a side of n pixels.

    A sequence of layers that are each applied at floor((n + a) / s) positions is again of this form.

    >>> _grid(lambda px: (px + 1) // 2, side_px=224)
    (2, 1)
    """
    here = places(side_px)
    more = places(side_px + FAR_PX) - here
    if more <= 0:  # after a pooling to a fixed size
        return 0, 0
    stride = FAR_PX // more
    larger = range(side_px + 1, side_px + stride)
    next_px = larger.start + bisect_left(larger, here + 1, key=places)
    return stride, stride * (here + 1) - next_px
