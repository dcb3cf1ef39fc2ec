"""How much from which layer: the filters that a budget leaves.

A *ranking* gives one score per filter of each group, the smaller the sooner it goes; F: filters of a group.
"""

import math
from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor

from tailor.core.errors import ConfigError
from tailor.model import cost
from tailor.model.budget import original_macs
from tailor.model.state import ModelState
from tailor.pruning.surgery import Group, Kept

BUDGET_MARGIN = 0.05
"""Share of the original network's MACs by which a pruning may remove more than asked for (C)."""

Ranking = dict[str, Tensor]  # group name -> (F,)
Minimum = dict[str, int]  # group name -> filters that stay at the least


def combined(scores: dict[str, Tensor], found: tuple[Group, ...], grouping: str) -> Ranking:
    """Group name -> (F,): the scores of a group's layers made one by `sum`, `mean` or `max`."""
    ranking = {}
    for group in found:
        rows = torch.stack([scores[member.layer] for member in group.members])
        ranking[group.name] = {"sum": rows.sum(dim=0), "mean": rows.mean(dim=0), "max": rows.amax(dim=0)}[grouping]
    return ranking


def minimums(state: ModelState, found: tuple[Group, ...], minimum_filters_fraction: float) -> Minimum:
    """What stays of each group: a share of its ORIGINAL filters, rounded up, at least one."""
    original = cost.original_shapes(state.network, state.classes)
    return {g.name: max(1, math.ceil(minimum_filters_fraction * original[f"{g.name}.weight"][0])) for g in found}


def lowest_of_all(
    state: ModelState,
    found: tuple[Group, ...],
    removed_macs_fraction: float,
    minimum: Minimum,
    ranking: Ranking,
    width_multiple: int = 1,
) -> Kept:
    """The filters that stay when the lowest-ranked of the whole network go, one after the other, until the budget.

    The removal that reaches the budget is the last one: MACs are counted anew after each.

    Args:
        state: the model to be pruned.
        found: its prunable groups.
        removed_macs_fraction: of the original network with this head; what earlier steps removed counts.
        minimum: what every group keeps.
        ranking: which filters go first.
        width_multiple: see `rounded`.

    Raises:
        ConfigError: the layers cannot lose so much, or only much more; the text names the layer in the way.
    """
    order = removal_order(ranking, minimum)

    def counts(removals: int) -> dict[str, int]:
        removed = Counter(name for name, _ in order[:removals])
        return {g.name: removed[g.name] for g in found}

    removed = _fewest(state, found, removed_macs_fraction, len(order), counts, width_multiple)
    return lowest_in_each(found, removed, ranking)


def uniform(
    state: ModelState,
    found: tuple[Group, ...],
    removed_macs_fraction: float,
    minimum: Minimum,
    ranking: Ranking,
    width_multiple: int = 1,
) -> Kept:
    """The filters that stay when every group loses the same share of its filters, its lowest-ranked ones.

    The share is the smallest multiple of 1/1000 that reaches the budget; a group at its minimum keeps what it has.

    Raises:
        ConfigError: as of `lowest_of_all`.
    """
    original = cost.original_shapes(state.network, state.classes)

    def counts(thousandths: int) -> dict[str, int]:
        widths = {g.name: round(original[f"{g.name}.weight"][0] * (1000 - thousandths) / 1000) for g in found}
        return {g.name: g.filters - min(g.filters, max(minimum[g.name], widths[g.name])) for g in found}

    removed = _fewest(state, found, removed_macs_fraction, 1000, counts, width_multiple)
    return lowest_in_each(found, removed, ranking)


def random_widths(
    state: ModelState,
    found: tuple[Group, ...],
    removed_macs_fraction: float,
    minimum: Minimum,
    ranking: Ranking,
    numbers: torch.Generator,
    width_multiple: int = 1,
) -> Kept:
    """Random shares per group, scaled together until the budget is met; the lowest-ranked of each group go.

    Raises:
        ConfigError: as of `lowest_of_all`.
    """
    drawn = {g.name: float(torch.rand((), generator=numbers)) for g in found}

    def counts(thousandths: int) -> dict[str, int]:
        # Up to 1000 every group loses its drawn share; beyond, what is left of each shrinks until all are at minimum.
        part, beyond = min(thousandths, 1000) / 1000, max(thousandths - 1000, 0) / 1000
        shares = {name: share * part + (1.0 - share) * beyond for name, share in drawn.items()}
        return {g.name: min(round(g.filters * shares[g.name]), max(0, g.filters - minimum[g.name])) for g in found}

    removed = _fewest(state, found, removed_macs_fraction, 2000, counts, width_multiple)
    return lowest_in_each(found, removed, ranking)


def rounded(found: tuple[Group, ...], removed: dict[str, int], width_multiple: int) -> dict[str, int]:
    """At most as many removals, after which each group has a multiple of so many filters, or all that it has.

    Widths are rounded up, so no group is emptied, and none gets below a minimum that it kept.
    """

    def stays(group: Group) -> int:
        return width_multiple * math.ceil((group.filters - removed[group.name]) / width_multiple)

    return {g.name: max(0, g.filters - stays(g)) for g in found}


def lowest_in_each(found: tuple[Group, ...], removed: dict[str, int], ranking: Ranking) -> Kept:
    """The filters that stay when each group loses its `removed[name]` lowest-ranked ones; ties go by position."""
    kept = {}
    for group in found:
        order = torch.sort(ranking[group.name], stable=True).indices if group.name in ranking else None
        lowest = torch.arange(group.filters) if order is None else order
        kept[group.name] = _all_but(lowest[: removed[group.name]].tolist(), group.filters)
    return kept


def _fewest(
    state: ModelState,
    found: tuple[Group, ...],
    removed_macs_fraction: float,
    most: int,
    counts: Callable[[int], dict[str, int]],
    width_multiple: int,
) -> dict[str, int]:
    """`counts(n)`, rounded to the multiple, of the smallest n in [0, most] with which the budget is met.

    n is 0 only where the budget is met already, so a surgery that removes nothing has nothing to remove. Where many
    groups lose filters at n, and with them more than BUDGET_MARGIN too much would go, they lose them one after the
    other in the network's order, until the budget is met.

    Raises:
        ConfigError: not even `counts(most)` filters less meet it, or one group alone makes it go too far.
    """
    whole = original_macs(state)
    allowed = whole * (1.0 - removed_macs_fraction)
    shapes = {name: tensor.shape for name, tensor in state.tensors.items()}

    def removed(n: int) -> dict[str, int]:
        return rounded(found, counts(n), width_multiple)

    def too_much(removed: dict[str, int]) -> float:
        """Share of the MACs that is gone beyond the budget; below 0 it is not met."""
        after = shapes_after(shapes, found, removed)
        return (allowed - cost.macs(state.network, state.classes, after, state.input_shape)) / whole

    if too_much(removed(most)) < 0.0:
        raise _impossible(state, found, removed_macs_fraction, shapes_after(shapes, found, removed(most)))
    fewest = _smallest(most, lambda n: too_much(removed(n)) >= 0.0)
    if too_much(removed(fewest)) <= BUDGET_MARGIN:
        return removed(fewest)
    before, after = removed(max(0, fewest - 1)), removed(fewest)
    changed = [name for name in after if after[name] > before[name]]
    parts = [before | {name: after[name] for name in changed[:number]} for number in range(len(changed) + 1)]
    number = _smallest(len(changed), lambda number: too_much(parts[number]) >= 0.0)
    if too_much(parts[number]) > BUDGET_MARGIN:
        last = (changed[number - 1], too_much(parts[number - 1])) if number else None
        raise _missed(state, removed_macs_fraction, too_much(parts[number]), last)
    return parts[number]


def _missed(
    state: ModelState, removed_macs_fraction: float, too_much: float, last: tuple[str, float] | None
) -> ConfigError:
    """The error for a budget that is overshot; `last`: the group that was cut last, and what was too much before."""
    removed, way = removed_macs_fraction + too_much, "earlier steps did so"
    if last is not None:
        way = f"the next filters of {last[0]} lead there from {max(0.0, removed_macs_fraction + last[1]):.3f}"
    return ConfigError(
        f"removed_macs_fraction = {removed_macs_fraction:g} is missed by more than {BUDGET_MARGIN:g}: {removed:.3f} of "
        f"the MACs of {state.network} are gone, and {way}; choose another budget, larger steps or a smaller "
        "pruning.width_multiple"
    )


def _impossible(
    state: ModelState, found: tuple[Group, ...], removed_macs_fraction: float, shapes: dict[str, torch.Size]
) -> ConfigError:
    """The error for a budget out of reach, which names the layer in the way; `shapes`: with all groups at minimum."""
    whole, left = original_macs(state), cost.macs(state.network, state.classes, shapes, state.input_shape)
    least = cost.macs_by_layer(state.network, state.classes, shapes, state.input_shape)
    largest = max(least, key=least.__getitem__)
    prunable = ", ".join(group.name for group in found) or "none"
    return ConfigError(
        f"removed_macs_fraction = {removed_macs_fraction:g} is more than {state.network} can lose, which is "
        f"{1.0 - left / whole:.3f} with its prunable layers ({prunable}) at their minimum; most of what "
        f"stays is in {largest.removesuffix('.weight')}, {least[largest] / whole:.3f} of the original MACs; choose a "
        "smaller budget, pruning.minimum_filters_fraction or pruning.width_multiple, or let more layers lose filters: "
        "pruning.residual = 'coupled', pruning.linear = true"
    )


def removal_order(scores: Ranking, minimum: Minimum) -> list[tuple[str, int]]:
    """(group name, filter) from the lowest score to the highest; a layer at its minimum keeps what it has.

    Equal scores go in the order of layers and filters, so that the order never depends on the sort.
    """
    ranked = sorted(
        (value, layer, index, name)
        for layer, (name, values) in enumerate(scores.items())
        for index, value in enumerate(values.tolist())
    )
    left = {name: len(values) for name, values in scores.items()}
    order = []
    for _, _, index, name in ranked:
        if left[name] > minimum[name]:
            left[name] -= 1
            order.append((name, index))
    return order


def shapes_after(
    shapes: dict[str, torch.Size], found: tuple[Group, ...], removed: dict[str, int]
) -> dict[str, torch.Size]:
    """Shapes of all tensors when each group lost `removed[name]` filters, whichever they are."""
    after = {name: list(shape) for name, shape in shapes.items()}
    for group in found:
        for part in group.slices:
            after[part.tensor][part.dim] -= removed[group.name] * part.indices.shape[1]
    return {name: torch.Size(shape) for name, shape in after.items()}


def _smallest(upper: int, holds: Callable[[int], bool]) -> int:
    """The smallest n in [0, upper] for which `holds(n)`, which is false up to some n and true from there on."""
    low, high = 0, upper
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


def _all_but(gone: list[int], filters: int) -> Tensor:
    stays = torch.ones(filters, dtype=torch.bool)
    stays[gone] = False
    return stays.nonzero().flatten()
