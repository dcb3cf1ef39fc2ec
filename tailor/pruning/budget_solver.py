"""Solves for a budget: how many filters of each layer are removed, and which ones stay.

A *ranking* has one score per filter of each group; the lowest-ranked are removed first. F: filters of a group.
"""

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tailor.core.errors import ConfigError
from tailor.model import cost
from tailor.model.cost import macs_of, original_macs
from tailor.model.state import ModelState
from tailor.pruning.surgery import Group, Kept
from tailor.stages import Division

BUDGET_MARGIN = 0.05
"""Share of the original network's MACs by which a pruning may exceed its budget (C)."""

Ranking = dict[str, Tensor]  # group name -> (F,)
Minimum = dict[str, int]  # group name -> fewest filters that stay


@dataclass(frozen=True, eq=False)
class Budget:
    """What to remove, whatever divides it over layers."""

    state: ModelState
    found: tuple[Group, ...]
    removed_macs_fraction: float  # of the original network with this head; what earlier steps removed counts
    minimum: Minimum  # what every group keeps
    width_multiple: int = 1  # see `round_widths`


def combine_scores(scores: dict[str, Tensor], found: tuple[Group, ...], grouping: str) -> Ranking:
    """Group name -> (F,): the scores of a group's layers combined by `sum`, `mean` or `max`."""
    ranking = {}
    for group in found:
        rows = torch.stack([scores[member.layer] for member in group.members])
        ranking[group.name] = {"sum": rows.sum(dim=0), "mean": rows.mean(dim=0), "max": rows.amax(dim=0)}[grouping]
    return ranking


def minimums(state: ModelState, found: tuple[Group, ...], minimum_filters_fraction: float) -> Minimum:
    """The fewest filters of each group that stay: a share of its ORIGINAL ones, rounded up, at least one."""
    original = cost.original_shapes(state.network, state.classes)
    return {g.name: max(1, math.ceil(minimum_filters_fraction * g.filters_in(original))) for g in found}


def lowest_of_all(budget: Budget, ranking: Ranking) -> Kept:
    """The filters that stay if the lowest-ranked of the whole network are removed one by one until the budget is met.

    MACs are counted after each removal; the one that meets the budget is the last.

    Raises:
        ConfigError: the layers can only lose less, or much more; the text names the layer that prevents it.
    """
    order = removal_order(ranking, budget.minimum)

    def counts(removals: int) -> dict[str, int]:
        removed = Counter(name for name, _ in order[:removals])
        return {g.name: removed[g.name] for g in budget.found}

    return lowest_in_each(budget.found, _fewest(budget, len(order), counts), ranking)


def uniform(budget: Budget, ranking: Ranking) -> Kept:
    """The filters that stay if every group loses the same share of its filters, the lowest-ranked ones.

    The share is the smallest multiple of 1/1000 that reaches the budget; a group at its minimum loses no more.

    Raises:
        ConfigError: as of `lowest_of_all`.
    """
    original = cost.original_shapes(budget.state.network, budget.state.classes)

    def counts(thousandths: int) -> dict[str, int]:
        widths = {g.name: round(g.filters_in(original) * (1000 - thousandths) / 1000) for g in budget.found}
        return {g.name: g.filters - min(g.filters, max(budget.minimum[g.name], widths[g.name])) for g in budget.found}

    return lowest_in_each(budget.found, _fewest(budget, 1000, counts), ranking)


def lowest_by_kind(budget: Budget, ranking: Ranking) -> Kept:
    """As `lowest_of_all`, by each filter's place among all of its kind (heads, stream, ...) instead of its score.

    So every kind loses the same share, whatever the scale of its scores. Of equal places the first kind goes first.
    """
    places: Ranking = {}
    for kind in dict.fromkeys(group.kind for group in budget.found):
        names = [group.name for group in budget.found if group.kind == kind]
        scores = torch.cat([ranking[name] for name in names])
        place = (scores.argsort(stable=True).argsort() + 0.5) / len(scores)
        places |= zip(names, place.split([len(ranking[name]) for name in names]), strict=True)
    return lowest_of_all(budget, places)


DIVISIONS: dict[Division, Callable[[Budget, Ranking], Kept]] = {
    "global": lowest_of_all,
    "uniform": uniform,
    "by_kind": lowest_by_kind,
}


def random_widths(budget: Budget, ranking: Ranking, numbers: torch.Generator) -> Kept:
    """Random shares per group, scaled together until the budget is met; the lowest-ranked of each group are removed.

    Raises:
        ConfigError: as of `lowest_of_all`.
    """
    drawn = {g.name: float(torch.rand((), generator=numbers)) for g in budget.found}

    def counts(thousandths: int) -> dict[str, int]:
        # Up to 1000 every group loses its drawn share; above, the rest of each shrinks until all are at their minimum.
        part, beyond = min(thousandths, 1000) / 1000, max(thousandths - 1000, 0) / 1000
        shares = {name: share * part + (1.0 - share) * beyond for name, share in drawn.items()}
        most = {g.name: max(0, g.filters - budget.minimum[g.name]) for g in budget.found}
        return {g.name: min(round(g.filters * shares[g.name]), most[g.name]) for g in budget.found}

    return lowest_in_each(budget.found, _fewest(budget, 2000, counts), ranking)


def round_widths(found: tuple[Group, ...], removed: dict[str, int], width_multiple: int) -> dict[str, int]:
    """The same removals or fewer, so that each group keeps a multiple of `width_multiple` filters, or all of them.

    Heads are counted one by one: what makes hardware fast is their width, which stays. Groups of a convolution, or
    places in all of its groups, are counted by their filters.
    Widths are rounded up, so each group keeps at least one filter and its minimum.
    """

    def stays(group: Group) -> int:
        if group.kind == "heads":
            return group.filters - removed[group.name]
        multiple = width_multiple
        if group.kind == "conv_groups":
            multiple //= math.gcd(width_multiple, group.own_slice.indices.shape[1])
        return multiple * math.ceil((group.filters - removed[group.name]) / multiple)

    return {g.name: max(0, g.filters - stays(g)) for g in found}


def lowest_in_each(found: tuple[Group, ...], removed: dict[str, int], ranking: Ranking) -> Kept:
    """The filters that stay if each group loses its `removed[name]` lowest-ranked ones; ties go by position."""
    kept = {}
    for group in found:
        order = torch.arange(group.filters)
        if group.name in ranking:
            order = torch.sort(ranking[group.name], stable=True).indices
        kept[group.name] = order[removed[group.name] :].sort().values
    return kept


def _fewest(budget: Budget, most: int, counts: Callable[[int], dict[str, int]]) -> dict[str, int]:
    """`counts(n)`, rounded to the multiple, of the smallest n in [0, most] with which the budget is met.

    n is 0 only if the budget is met already. If several groups lose filters at n, and together exceed the budget by
    more than BUDGET_MARGIN, they lose them one after the other in the network's order, until the budget is met.

    Raises:
        ConfigError: `counts(most)` does not meet the budget, or a single group exceeds it by more than BUDGET_MARGIN.
    """
    whole = original_macs(budget.state)
    allowed = whole * (1.0 - budget.removed_macs_fraction)
    macs_without = macs_after(budget.state, budget.found)

    def removed_counts(n: int) -> dict[str, int]:
        return round_widths(budget.found, counts(n), budget.width_multiple)

    def too_much(removed: dict[str, int]) -> float:
        """Share of the MACs that is removed beyond the budget; below 0 if it is not met."""
        return (allowed - macs_without(removed)) / whole

    if too_much(removed_counts(most)) < 0.0:
        raise _impossible(budget, removed_counts(most))
    fewest = bisect_left(range(most), True, key=lambda n: too_much(removed_counts(n)) >= 0.0)
    if too_much(removed_counts(fewest)) <= BUDGET_MARGIN:
        return removed_counts(fewest)
    before, after = removed_counts(max(0, fewest - 1)), removed_counts(fewest)
    changed = [name for name in after if after[name] > before[name]]
    parts = [before | {name: after[name] for name in changed[:number]} for number in range(len(changed) + 1)]
    number = bisect_left(range(len(changed)), True, key=lambda number: too_much(parts[number]) >= 0.0)
    if too_much(parts[number]) > BUDGET_MARGIN:
        last = (changed[number - 1], too_much(parts[number - 1])) if number else None
        raise _budget_error(budget, too_much(parts[number]), last)
    return parts[number]


def _budget_error(budget: Budget, too_much: float, last: tuple[str, float] | None) -> ConfigError:
    """The error for a budget that is exceeded; `last`: the group that was cut last, and the excess before."""
    asked = budget.removed_macs_fraction
    removed, way = asked + too_much, "earlier steps removed them"
    if last is not None:
        way = f"the last filters of {last[0]} lead there from {max(0.0, asked + last[1]):.3f}"
    return ConfigError(
        f"removed_macs_fraction = {asked:g} is missed by more than {BUDGET_MARGIN:g}: {removed:.3f} of "
        f"the MACs of {budget.state.network} are removed, and {way}; choose another budget, larger steps or a smaller "
        "pruning.width_multiple"
    )


def _impossible(budget: Budget, removed: dict[str, int]) -> ConfigError:
    """The error for an impossible budget; `removed`: with all groups at their minimum."""
    state, found = budget.state, budget.found
    whole, left = original_macs(state), macs_after(state, found)(removed)
    shapes = shapes_after({name: tensor.shape for name, tensor in state.tensors.items()}, found, removed)
    least = cost.macs_by_layer(state.network, state.classes, shapes, state.input_shape)
    largest = max(least, key=least.__getitem__)
    prunable = ", ".join(group.name for group in found) or "none"
    return ConfigError(
        f"removed_macs_fraction = {budget.removed_macs_fraction:g} is more than {state.network} can lose, which is "
        f"{1.0 - left / whole:.3f} with its prunable layers ({prunable}) at their minimum; most of what "
        f"stays is in {largest.removesuffix('.weight')}, {least[largest] / whole:.3f} of the original MACs; choose a "
        "smaller budget, pruning.minimum_filters_fraction or pruning.width_multiple, or let more layers lose filters: "
        "pruning.residual = 'coupled', pruning.linear = true, in a transformer pruning.heads or pruning.stream = true"
    )


def removal_order(scores: Ranking, minimum: Minimum) -> list[tuple[str, int]]:
    """(group name, filter) from the lowest score to the highest; a layer at its minimum loses no more.

    Equal scores are in the order of layers and filters, so that the result never depends on the sort.

    >>> removal_order({"a": torch.tensor([0.5, 0.1]), "b": torch.tensor([0.3, 0.2])}, {"a": 1, "b": 0})
    [('a', 1), ('b', 1), ('b', 0)]
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


def macs_after(state: ModelState, found: tuple[Group, ...]) -> Callable[[dict[str, int]], int]:
    """A function: how many filters each group loses -> MACs that are left.

    A head takes its products of activations along. Those of heads that were removed before are known from counting the
    state as it is.
    """
    shapes = {name: tensor.shape for name, tensor in state.tensors.items()}
    gone_before = cost.macs(state.network, state.classes, shapes, state.input_shape) - macs_of(state)

    def macs_without(removed: dict[str, int]) -> int:
        after = shapes_after(shapes, found, removed)
        products = sum(removed[group.name] * group.product_macs for group in found)
        return cost.macs(state.network, state.classes, after, state.input_shape) - gone_before - products

    return macs_without


def shapes_after(
    shapes: dict[str, torch.Size], found: tuple[Group, ...], removed: dict[str, int]
) -> dict[str, torch.Size]:
    """Shapes of all tensors after each group lost `removed[name]` filters, any of them."""
    after = {name: list(shape) for name, shape in shapes.items()}
    for group in found:
        for part in group.slices:
            after[part.tensor][part.dim] -= removed[group.name] * part.indices.shape[1]
    return {name: torch.Size(shape) for name, shape in after.items()}
