"""Counts what a network can lose under a rule of groups; the network is built without memory."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from tailor.facts.networks import NETWORKS
from tailor.facts.prunable import CLASSES, STAYS, Prunable, Term, Width
from tailor.model import cost
from tailor.networks import building
from tailor.pruning.group_records import Group, members_of
from tailor.pruning.groups import candidates, groups, kept_by_code
from tailor.stages import GroupRule

OUTPUTS = 0  # dim of a weight
INPUTS = 1


def prunable(network: str, rule: GroupRule, input_shape: tuple[int, ...]) -> Prunable:
    """What a network can lose under one rule."""
    model = building.skeleton(network, CLASSES)
    removable = groups(model, input_shape, rule)
    members = members_of(removable)
    with_weight = {name.removesuffix(".weight") for name, _ in model.named_parameters()}  # of a norm: it has factors
    without_norm = [member.layer for member in members if member.norm not in with_weight]
    without_activation = [member.layer for member in members if member.activation is None]
    widths = tuple(sorted({_width(network, group) for group in removable}))
    return Prunable(
        widths=widths,
        terms=terms_of(network, removable, widths, input_shape),
        kinds=tuple(sorted({group.kind for group in removable})),
        without_norm=without_norm[0] if without_norm else "",
        without_activation=without_activation[0] if without_activation else "",
    )


def layers_kept_by_code(network: str, rule: GroupRule) -> str:
    """Which layers can lose no filter because of the network's code; empty: none. See `groups.kept_by_code`."""
    return kept_by_code(candidates(building.skeleton(network, CLASSES), NETWORKS[network].input_shape, rule))


def _width(network: str, group: Group) -> Width:
    return group.filters_in(cost.original_shapes(network, CLASSES)), group.filters_each


def terms_of(
    network: str, removable: Sequence[Group], widths: tuple[Width, ...], input_shape: tuple[int, ...]
) -> tuple[Term, ...]:
    """What is left when groups of these widths keep fractions of their filters; see `Term`.

    A weight of (outputs, inputs, ...) is used once per position; a part of each of its two dimensions shrinks.
    """
    shrinking: defaultdict[tuple[str, int], Counter[int]] = defaultdict(Counter)  # (weight, dim) -> width -> indices
    activation_macs_by_width: Counter[int] = Counter()
    for group in removable:
        number = widths.index(_width(network, group))
        activation_macs_by_width[number] += group.filters * group.product_macs
        for part in group.slices:
            shrinking[part.tensor, part.dim][number] += part.indices.numel()
    shapes = cost.original_shapes(network, CLASSES)
    heads = {f"{NETWORKS[network].head}.weight", *NETWORKS[network].more_head}
    terms: Counter[tuple[int, int, int]] = Counter()
    for weight, positions in cost.positions(network, CLASSES, input_shape).items():
        outputs, inputs, *kernel = shapes[weight]
        if weight in heads:
            outputs = 1  # `macs_left` counts its outputs
        for i, outputs_of_width in _by_width(outputs, shrinking[weight, OUTPUTS]):
            for j, inputs_of_width in _by_width(inputs, shrinking[weight, INPUTS]):
                macs = positions * math.prod(kernel) * outputs_of_width * inputs_of_width
                terms[int(weight in heads), min(i, j), max(i, j)] += macs
    activation_macs = cost.count_products(network, CLASSES, input_shape).activation_macs
    if activation_macs:
        for i, macs in _by_width(activation_macs, activation_macs_by_width):
            terms[0, STAYS, i] += macs
    return tuple((head, i, j, count) for (head, i, j), count in sorted(terms.items()) if count)


def _by_width(whole: int, shrinking: Counter[int]) -> Iterator[tuple[int, int]]:
    """Yield number of a width and how many of the whole have it; first of what stays."""
    yield STAYS, whole - shrinking.total()
    yield from shrinking.items()
