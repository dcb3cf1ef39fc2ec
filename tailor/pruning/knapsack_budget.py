"""A budget met by the knapsack: the choices of a network's groups, the terms of its MACs, and the filters that stay."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailor.config.latency_table import LatencyTable
from tailor.model import cost
from tailor.model.cost import macs_of, original_macs
from tailor.model.state import ModelState
from tailor.pruning.budget_solver import Budget, Minimum, Ranking, lowest_in_each, ranks_by_kind, refuse_exceeded
from tailor.pruning.group_records import Group, Kept
from tailor.pruning.knapsack import Choices, CostTerm, Solution, solve
from tailor.pruning.latency_terms import latency_terms
from tailor.pruning.weight_widths import WeightWidths

MOST_WIDTHS = 8
"""Widths of a group among which is chosen first (C): the whole one, the smallest, and others between."""


def knapsack(budget: Budget, ranking: Ranking) -> Kept:
    """Return the filters that stay, with the largest sum of scores within the budget in MACs.

    What is left of the budget keeps more filters, also some without importance: arms are compared at one budget.

    Raises:
        ConfigError: all groups at their smallest width are not within the budget, or it is exceeded by more than
            BUDGET_MARGIN.
    """
    terms, constant = macs_terms(budget.state, budget.groups)
    original = original_macs(budget.state)
    allowed = original * (1.0 - budget.asked_removed_macs_fraction)
    every = {group.name: widths_of(group, budget) for group in budget.groups}
    some = {name: spread(widths) for name, widths in every.items()}
    finer = choices_of(budget.groups, ranking, every)
    solution = solve(choices_of(budget.groups, ranking, some), terms, allowed, constant, finer)
    refuse_exceeded(budget, (allowed - solution.cost) / original, "no wider layer is within the budget", budget.groups)
    return kept_of(budget.groups, ranking, solution)


def knapsack_by_table(
    table: LatencyTable,
    state: ModelState,
    groups: tuple[Group, ...],
    ranking: Ranking,
    minimum: Minimum,
    asked_ms: float,
) -> tuple[Kept, Solution]:
    """Return the filters that stay, with the largest sum of scores within milliseconds by a table, and the solution.

    Raises:
        ConfigError: the table is of another network, lacks a cell, or cannot reach these milliseconds.
    """
    terms, constant_ms = latency_terms(table, state, groups)
    widths = {}
    for group in groups:
        measured = [width for width in table.widths[group.name] if minimum[group.name] <= width < group.filters]
        widths[group.name] = (*measured, group.filters)
    solution = solve(choices_of(groups, ranking, widths), terms, asked_ms, constant_ms)
    return kept_of(groups, ranking, solution), solution


def widths_of(group: Group, budget: Budget) -> tuple[int, ...]:
    """Return the widths, ascending: such as the budget allows, at least its minimum, and the whole."""
    shapes = cost.original_shapes(budget.state.network, budget.state.classes)
    original = group.filters_in(shapes)
    allowed = {group.filters}
    for width in range(budget.minimum[group.name], group.filters):
        allowed.add(min(group.filters, budget.widths.rounded_up(width, original, group.filters_each)))
    return tuple(sorted(allowed))


def spread(widths: tuple[int, ...]) -> tuple[int, ...]:
    """Return at most MOST_WIDTHS of these widths, the first and the last among them.

    >>> spread(tuple(range(1, 13)))
    (1, 3, 4, 6, 7, 9, 10, 12)
    """
    places = np.linspace(0, len(widths) - 1, min(MOST_WIDTHS, len(widths)))
    return tuple(widths[round(place)] for place in places)


def choices_of(
    groups: tuple[Group, ...], ranking: Ranking, widths: Mapping[str, tuple[int, ...]]
) -> dict[str, Choices]:
    """Return the widths of each group, with the sum of the scores that stay; scores of unlike kinds by their ranks."""
    if len({group.kind for group in groups}) > 1:
        ranking = ranks_by_kind(groups, ranking)
    choices = {}
    for group in groups:
        highest_first = ranking[group.name].double().sort(descending=True).values
        kept_score = [0.0, *highest_first.cumsum(0).tolist()]
        of_group = widths[group.name]
        choices[group.name] = Choices(widths=of_group, values=tuple(kept_score[width] for width in of_group))
    return choices


def kept_of(groups: tuple[Group, ...], ranking: Ranking, solution: Solution) -> Kept:
    """Return the highest-ranked filters of each group, as many as the solution keeps."""
    removed = {group.name: group.filters - solution.widths[group.name] for group in groups}
    return lowest_in_each(groups, removed, ranking)


def macs_terms(state: ModelState, groups: tuple[Group, ...]) -> tuple[list[CostTerm], float]:
    """Return the MACs of each weight that a group changes, and the MACs of all that none changes.

    Their sum is that of `macs_after`: a weight is used once per position, and its size is the product of its widths.
    """
    by_layer = cost.macs_by_layer(state.network, state.classes, _sizes(state), state.input_shape)
    weights: dict[str, None] = {}  # those that groups change, in the order of the groups
    for group in groups:
        weights |= dict.fromkeys(part.tensor for part in group.slices if part.tensor in by_layer)
    terms = []
    for weight in weights:
        widths = WeightWidths(weight, state, groups)
        terms.append(CostTerm(groups=widths.names, cost=_macs_at(by_layer[weight], widths)))
    for group in groups:
        if group.product_macs:
            terms.append(CostTerm(groups=(group.name,), cost=_times(group.product_macs)))
    whole = {group.name: np.array([group.filters]) for group in groups}
    of_terms = sum(float(term.cost(*(whole[name] for name in term.groups)).item()) for term in terms)
    return terms, macs_of(state) - of_terms


def _sizes(state: ModelState) -> dict[str, Any]:
    return {name: tensor.shape for name, tensor in state.tensors.items()}


def _times(macs: int) -> Callable[[NDArray[Any]], NDArray[Any]]:
    return lambda width: float(macs) * width


def _macs_at(macs: int, widths: WeightWidths) -> Callable[..., NDArray[Any]]:
    """Return the function from widths of groups to the MACs of a weight."""

    def at(*of_groups: NDArray[Any]) -> NDArray[Any]:
        share: NDArray[Any] = np.ones(1)
        for size, present in zip(widths.sizes(*of_groups), widths.shape, strict=True):
            share = share * (size / present)
        return macs * share

    return at
