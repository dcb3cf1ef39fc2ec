"""Solves for a budget in MACs: how many filters of each layer are removed, and which ones stay.

Of other budgets: `knapsack_budget.py` keeps the most importance, in MACs or in milliseconds.
A *ranking* has one score per filter of each group; the lowest-ranked are removed first. F: filters of a group.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import floor
from operator import itemgetter

import torch
from torch import Tensor

from tailor.common.errors import ConfigError
from tailor.facts.widths import ANY_WIDTH, WidthRule, least_units
from tailor.model import cost
from tailor.model.cost import macs_of, original_macs
from tailor.model.state import ModelState
from tailor.pruning.groups import Candidate, kept_by_code, prunable_groups
from tailor.pruning.surgery import Group, Kept
from tailor.stages import Division, FineTuneSoftly, Prune, Stage
from tailor.stages.pruning import BudgetedStage, ScoreNormalisation

BUDGET_MARGIN = 0.05
"""Share of the original network's MACs by which a pruning may exceed its budget (C)."""

COMBINING: dict[str, Callable[..., Tensor]] = {"sum": torch.sum, "mean": torch.mean, "max": torch.amax}

Ranking = dict[str, Tensor]  # group name -> (F,)
Minimum = dict[str, int]  # group name -> fewest filters that stay


class BudgetError(ConfigError):
    """A budget cannot be met; the text begins with the budget."""


@dataclass(frozen=True, eq=False)
class Budget:
    """What to remove, whatever divides it over layers."""

    state: ModelState
    groups: tuple[Group, ...]
    asked_removed_macs_fraction: float  # of the original network with this head; what earlier steps removed counts
    minimum: Minimum  # what every group keeps
    widths: WidthRule = ANY_WIDTH  # see `round_widths`


def budget_of(stage: BudgetedStage | FineTuneSoftly, state: ModelState, groups: tuple[Group, ...]) -> Budget:
    """Return what a stage that has a budget is to remove of a model."""
    minimum = minimums(state, groups, stage.minimum_filters_fraction)
    return Budget(state, groups, stage.asked_removed_macs_fraction, minimum, stage.widths)


def combine_scores(
    scores: dict[str, Tensor], groups: tuple[Group, ...], grouping: str, normalisation: ScoreNormalisation = "none"
) -> Ranking:
    """Group name -> (F,): the scores of a group's layers combined by `sum`, `mean` or `max`.

    With the normalisation `mean` they are divided by the mean of their absolute values, so that groups are compared by
    which of their filters are small beside the others: a norm grows with a filter's fan-in, which says nothing of its
    use.
    """
    combine = COMBINING[grouping]
    ranking = {}
    for group in groups:
        of_layers = torch.stack([scores[member.layer] for member in group.members])  # (layers, F)
        combined = combine(of_layers, dim=0)
        if normalisation == "mean":
            mean = combined.abs().mean()
            combined = combined / mean if mean > 0 else combined
        ranking[group.name] = combined
    return ranking


def minimums(state: ModelState, groups: tuple[Group, ...], minimum_filters_fraction: float) -> Minimum:
    """The fewest filters of each group that stay: a share of its ORIGINAL ones, rounded up, at least one."""
    shapes = cost.original_shapes(state.network, state.classes)
    return {group.name: least_units(group.filters_in(shapes), minimum_filters_fraction) for group in groups}


def lowest_of_all(budget: Budget, ranking: Ranking) -> Kept:
    """The filters that stay if the lowest-ranked of the whole network are removed until the budget is met.

    As few are removed as meet it; `_fewest` finds their number by bisection. Widths are rounded up as the budget says.

    Raises:
        ConfigError: all layers at their minimum do not meet the budget, or it is exceeded by more than BUDGET_MARGIN.
    """
    order = removal_order(ranking, budget.minimum)

    def counts(removals: int) -> dict[str, int]:
        removed = Counter(name for name, _ in order[:removals])
        return {group.name: removed[group.name] for group in budget.groups}

    return lowest_in_each(budget.groups, _fewest(budget, len(order), counts), ranking)


def uniform(budget: Budget, ranking: Ranking) -> Kept:
    """The filters that stay if every group loses the same share of its filters, the lowest-ranked ones.

    The share is the smallest multiple of 1/1000 that reaches the budget; a group at its minimum loses no more.

    Raises:
        ConfigError: as of `lowest_of_all`.
    """
    shapes = cost.original_shapes(budget.state.network, budget.state.classes)

    def counts(thousandths: int) -> dict[str, int]:
        removed = {}
        for group in budget.groups:
            width = round(group.filters_in(shapes) * (1000 - thousandths) / 1000)
            width = max(width, budget.minimum[group.name])
            removed[group.name] = max(0, group.filters - width)
        return removed

    return lowest_in_each(budget.groups, _fewest(budget, 1000, counts), ranking)


def lowest_by_kind(budget: Budget, ranking: Ranking) -> Kept:
    """As `lowest_of_all`, by each filter's rank among all of its kind (heads, stream, ...) instead of its score.

    So every kind loses the same share, whatever the scale of its scores. Of equal ranks the first kind goes first.
    """
    return lowest_of_all(budget, ranks_by_kind(budget.groups, ranking))


def ranks_by_kind(groups: tuple[Group, ...], ranking: Ranking) -> Ranking:
    """Return each filter's rank among all of its kind (heads, stream, ...), in (0, 1), instead of its score."""
    names_by_kind: dict[str, list[str]] = {}
    for group in groups:
        names_by_kind.setdefault(group.kind, []).append(group.name)
    by_rank: Ranking = {}
    for names in names_by_kind.values():
        scores = torch.cat([ranking[name] for name in names])
        ranks = (scores.argsort(stable=True).argsort() + 0.5) / len(scores)  # in (0, 1)
        sizes = [len(ranking[name]) for name in names]
        for name, ranks_of_group in zip(names, ranks.split(sizes), strict=True):
            by_rank[name] = ranks_of_group
    return by_rank


DIVISIONS: dict[Division, Callable[[Budget, Ranking], Kept]] = {
    "global": lowest_of_all,
    "uniform": uniform,
    "by_kind": lowest_by_kind,
}


def round_widths(budget: Budget, removed: dict[str, int]) -> dict[str, int]:
    """The same removals or fewer, so that each group keeps a width that the budget's rule allows.

    Widths are rounded up, so each group keeps at least one filter and its minimum.
    """
    shapes = cost.original_shapes(budget.state.network, budget.state.classes)
    rounded = {}
    for group in budget.groups:
        width = group.filters - removed[group.name]
        allowed_width = budget.widths.rounded_up(width, group.filters_in(shapes), group.filters_each)
        rounded[group.name] = max(0, group.filters - allowed_width)
    return rounded


def lowest_in_each(groups: tuple[Group, ...], removed: dict[str, int], ranking: Ranking) -> Kept:
    """The filters that stay if each group loses its `removed[name]` lowest-ranked ones; ties go by position."""
    kept = {}
    for group in groups:
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
    original = original_macs(budget.state)
    allowed = original * (1.0 - budget.asked_removed_macs_fraction)
    macs_without = macs_after(budget.state, budget.groups)

    def removed_counts(n: int) -> dict[str, int]:
        return round_widths(budget, counts(n))

    def too_much(removed: dict[str, int]) -> float:
        """Share of the MACs that is removed beyond the budget; below 0 if it is not met."""
        return (allowed - macs_without(removed)) / original

    refuse_impossible(budget)
    fewest = bisect_left(range(most), True, key=lambda n: too_much(removed_counts(n)) >= 0.0)
    after = removed_counts(fewest)
    if too_much(after) <= BUDGET_MARGIN:
        return after
    before = removed_counts(max(0, fewest - 1))
    changed = [name for name in after if after[name] > before[name]]
    parts = [before]  # parts[k]: the first k of the changed groups have lost their filters
    for name in changed:
        parts.append(parts[-1] | {name: after[name]})
    enough = bisect_left(range(len(changed)), True, key=lambda number: too_much(parts[number]) >= 0.0)
    way = "earlier steps removed them"
    last = [group for group in budget.groups if group.name in changed[enough - 1 : enough]]
    if last:
        before_last = max(0.0, budget.asked_removed_macs_fraction + too_much(parts[enough - 1]))
        way = f"the last filters of {changed[enough - 1]} lead there from {before_last:.3f}"
    refuse_exceeded(budget, too_much(parts[enough]), way, last)
    return parts[enough]


def refuse_exceeded(budget: Budget, too_much: float, way: str, groups: Iterable[Group]) -> None:
    """Raise BudgetError if more than BUDGET_MARGIN is removed beyond the budget; `way` and `groups` led to that."""
    if too_much <= BUDGET_MARGIN:
        return
    asked = budget.asked_removed_macs_fraction
    removed = asked + too_much
    or_narrower = ", or a smaller pruning.width_multiple" if _rounds_widths(budget, groups) else ""
    raise BudgetError(
        f"asked_removed_macs_fraction = {asked:g} is missed by more than {BUDGET_MARGIN:g}: {removed:.3f} of the MACs "
        f"of {budget.state.network} are removed, and {way}; choose another budget "
        f"({floor(removed * 1000) / 1000:g} can be met here){or_narrower}"
    )


def _rounds_widths(budget: Budget, groups: Iterable[Group]) -> bool:
    """Whether the width of one of these is rounded to a multiple, so that a smaller multiple may help."""
    shapes = cost.original_shapes(budget.state.network, budget.state.classes)
    return any(budget.widths.rounded_up(1, group.filters_in(shapes), group.filters_each) > 1 for group in groups)


def refuse_impossible_budgets(planned: Iterable[Stage], whole: ModelState, candidates: Iterable[Candidate]) -> None:
    """Raise ConfigError unless the whole network can lose the budgets of all planned stages, which have one rule."""
    candidates = tuple(candidates)
    for stage in planned:
        if isinstance(stage, Prune | FineTuneSoftly):
            refuse_impossible(budget_of(stage, whole, prunable_groups(candidates)), kept_by_code(candidates))


def refuse_impossible(budget: Budget, by_code: str = "") -> None:
    """Raise BudgetError if all groups at their minimum do not meet the budget.

    Args:
        by_code: which layers can lose no filter because of the network's code, and how to mend it; empty: none.
    """
    state = budget.state
    removed = {group.name: max(0, group.filters - budget.minimum[group.name]) for group in budget.groups}
    removed = round_widths(budget, removed)
    original = original_macs(state)
    left = macs_after(state, budget.groups)(removed)
    if left <= original * (1.0 - budget.asked_removed_macs_fraction):
        return
    shapes = {name: tensor.shape for name, tensor in state.tensors.items()}
    least_shapes = shapes_after(shapes, budget.groups, removed)
    least = cost.macs_by_layer(state.network, state.classes, least_shapes, state.input_shape)
    largest = max(least, key=least.__getitem__)
    prunable = ", ".join(group.name for group in budget.groups) or "none"
    smaller = ["budget"]
    smaller += ["pruning.minimum_filters_fraction"] if max(budget.minimum.values(), default=1) > 1 else []
    smaller += ["pruning.width_multiple"] if _rounds_widths(budget, budget.groups) else []
    choices = (
        f"choose a smaller {' or '.join(smaller)}, or let more layers lose filters by what is not yet set of "
        "pruning.residual = 'coupled', pruning.linear = true and, in a transformer, pruning.heads = true and "
        "pruning.stream = true"
    )
    raise BudgetError(
        f"asked_removed_macs_fraction = {budget.asked_removed_macs_fraction:g} is more than {state.network} can lose, "
        f"which is {1.0 - left / original:.3f} with its prunable layers ({prunable}) at their minimum; most of what "
        f"stays is in {largest.removesuffix('.weight')}, {least[largest] / original:.3f} of the original MACs; "
        + (f"{by_code}; or {choices}" if by_code else choices)
    )


def removal_order(scores: Ranking, minimum: Minimum) -> list[tuple[str, int]]:
    """(group name, filter) from the lowest score to the highest; a layer at its minimum loses no more.

    Equal scores are in the order of layers and filters, so that the result never depends on the sort.

    >>> removal_order({"a": torch.tensor([0.5, 0.1]), "b": torch.tensor([0.3, 0.2])}, {"a": 1, "b": 0})
    [('a', 1), ('b', 1), ('b', 0)]
    """
    scored = []  # in the order of layers and filters, in which a stable sort leaves equal scores
    for name, values in scores.items():
        scored += [(value, name, index) for index, value in enumerate(values.tolist())]
    scored.sort(key=itemgetter(0))
    left = {name: len(values) for name, values in scores.items()}
    order = []
    for _, name, index in scored:
        if left[name] > minimum[name]:
            left[name] -= 1
            order.append((name, index))
    return order


def macs_after(state: ModelState, groups: tuple[Group, ...]) -> Callable[[dict[str, int]], int]:
    """Return a function from how many filters each group loses to the MACs that are left.

    A head takes its products of activations along. Those of heads that were removed before are known from counting the
    state as it is.
    """
    shapes = {name: tensor.shape for name, tensor in state.tensors.items()}
    gone_before = cost.macs(state.network, state.classes, shapes, state.input_shape) - macs_of(state)

    def macs_without(removed: dict[str, int]) -> int:
        after = shapes_after(shapes, groups, removed)
        products = sum(removed[group.name] * group.product_macs for group in groups)
        return cost.macs(state.network, state.classes, after, state.input_shape) - gone_before - products

    return macs_without


def shapes_after(
    shapes: dict[str, torch.Size], groups: tuple[Group, ...], removed: dict[str, int]
) -> dict[str, torch.Size]:
    """Shapes of all tensors after each group lost `removed[name]` filters, any of them."""
    after = {name: list(shape) for name, shape in shapes.items()}
    for group in groups:
        for part in group.slices:
            after[part.tensor][part.dim] -= removed[group.name] * part.indices.shape[1]
    return {name: torch.Size(shape) for name, shape in after.items()}
