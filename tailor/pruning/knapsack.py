"""Chooses widths: the largest sum of importance whose cost is within a budget. The cost is a sum of terms.

A network has *groups*, each of which keeps one of several widths, and its cost has *terms*, such as that of a
convolution: each depends on the widths of the groups that it reads and makes. Terms are rounded up to ticks of the
budget, and on ticks the solution is exact wherever the network allows it: groups are eliminated one after the other,
and of all ways to choose what was eliminated only those stay that no other beats in both importance and ticks (Dechter,
"Bucket elimination", 1999, with Pareto sets). Chains, ResNets and MobileNets have few groups per term and fall apart
into blocks. Where too many widths meet, as in dense concatenations, each term counts for the group that it makes, with
all others at their present widths, and this knapsack with multiple choices is solved again and again.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tailor.common.errors import ConfigError

TICKS = 4000
"""Ticks of a budget, so that rounding one term costs at most 0.025% of the budget (C)."""
MOST_ASSIGNMENTS = 30_000
"""Widths that are combined at once in an exact solution (C): 8 widths of 5 groups; more would take minutes."""
WAYS_AT_ONCE = 256
"""Ways of one front that are added to all of another at once: 8 MB of memory."""
ROUNDS = 12
"""Times that the knapsack with present widths is solved (C); after some the widths hardly change."""

Widths = dict[str, int]
"""Name of a group -> filters that it keeps."""
Way = Literal["exact", "iterated"]
Numbers = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Choices:
    """The widths that a group may have, ascending, and the importance that it keeps with each."""

    widths: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class CostTerm:
    """The cost of a part of a network, such as a convolution, by the widths of these groups; it makes the first one."""

    groups: tuple[str, ...]
    cost: Callable[..., Numbers]
    """Of one array of widths per group, broadcast together; at least 0."""


@dataclass(frozen=True, kw_only=True)
class Solution:
    """The chosen widths."""

    widths: Widths
    value: float  # sum of the importance that is kept
    cost: float  # not rounded, with what no group changes
    way: Way


def solve(
    choices: Mapping[str, Choices],
    terms: Sequence[CostTerm],
    budget: float,
    constant: float = 0.0,
    finer: Mapping[str, Choices] | None = None,
) -> Solution:
    """Return the widths with the largest importance whose cost is at most the budget; of equal ones the cheapest.

    With `finer`, groups take the next of these widths while there is room, also where no importance is gained.

    >>> choices = {"a": Choices(widths=(1, 2), values=(1.0, 3.0)), "b": Choices(widths=(1, 2), values=(1.0, 1.5))}
    >>> terms = [CostTerm(groups=("b", "a"), cost=lambda b, a: 1.0 * a * b)]
    >>> solve(choices, terms, budget=2.0).widths
    {'a': 2, 'b': 1}

    Args:
        choices: group -> its widths.
        terms: each reads only groups in `choices`.
        budget: in any unit.
        constant: the cost of what no group changes, in the same unit.
        finer: of each group all widths of `choices`, and others.

    Raises:
        ConfigError: no widths are within the budget.
    """
    costs = _Ticks(choices, terms, budget - constant)
    if budget <= constant:
        raise unreachable(costs, budget, constant)
    order = elimination_order(choices, [term.groups for term in terms])
    way: Way = "iterated" if order is None else "exact"
    chosen = _iterate(costs) if order is None else _eliminate(costs, order)
    if chosen is None:
        raise unreachable(costs, budget, constant)
    if finer is not None:
        widths = {name: choices[name].widths[number] for name, number in chosen.items()}
        choices, costs = finer, _Ticks(finer, terms, budget - constant)
        chosen = _widened(costs, {name: finer[name].widths.index(width) for name, width in widths.items()})
    return Solution(
        widths={name: choices[name].widths[chosen[name]] for name in choices},
        value=sum(choices[name].values[chosen[name]] for name in choices),
        cost=constant + costs.cost(chosen),
        way=way,
    )


def unreachable(costs: "_Ticks", budget: float, constant: float) -> ConfigError:
    """Return the error for a budget that no widths meet."""
    least = constant + costs.cost(dict.fromkeys(costs.choices, 0))
    return ConfigError(
        f"the budget is {budget:.6g}, and with each group at its smallest width {least:.6g} are left, of which "
        f"{constant:.6g} do not depend on any width; choose a larger budget, a smaller "
        "pruning.minimum_filters_fraction, or what is not yet set of pruning.residual = 'coupled' and "
        "pruning.linear = true"
    )


def elimination_order(choices: Mapping[str, Choices], scopes: Iterable[Sequence[str]]) -> list[str] | None:
    """Return the groups in the order of their elimination; None if too many widths would be combined at once.

    The next one is always the group with the fewest combinations of its own widths and those of its neighbours.
    """
    neighbours: dict[str, set[str]] = {name: set() for name in choices}
    for scope in scopes:
        for name in scope:
            neighbours[name] |= set(scope) - {name}

    def combinations(name: str) -> int:
        return math.prod(len(choices[other].widths) for other in (name, *neighbours[name]))

    order = []
    while neighbours:
        name = min(neighbours, key=combinations)
        if combinations(name) > MOST_ASSIGNMENTS:
            return None
        order.append(name)
        around = neighbours.pop(name)
        for other in around:
            neighbours[other] |= around
            neighbours[other] -= {name, other}
    return order


class _Ticks:
    """Terms in ticks of a budget, rounded up."""

    def __init__(self, choices: Mapping[str, Choices], terms: Sequence[CostTerm], budget: float) -> None:
        self.choices = choices
        self.terms = terms
        self.tick = budget / TICKS

    def ticks_of(self, term: CostTerm, chosen: Mapping[str, int] | None = None, free: str | None = None) -> Numbers:
        """Return ticks by the number of the width of each group; with `chosen`, only the group `free` varies."""
        if chosen is None:
            widths = np.ix_(*(np.array(self.choices[name].widths) for name in term.groups))
        else:
            widths = tuple(
                np.array(self.choices[name].widths)
                if name == free
                else np.array([self.choices[name].widths[chosen[name]]])
                for name in term.groups
            )
        costs = term.cost(*widths)
        return np.ceil(costs / self.tick - 1e-9).astype(np.int64)

    def ticks(self, chosen: Mapping[str, int]) -> int:
        """Return the ticks of all terms; `chosen` has the number of each group's width."""
        return sum(int(self.ticks_of(term, chosen).item()) for term in self.terms)

    def cost(self, chosen: Mapping[str, int]) -> float:
        """Return the cost of all terms, not rounded."""
        total = 0.0
        for term in self.terms:
            widths = [np.array([self.choices[name].widths[chosen[name]]]) for name in term.groups]
            total += float(term.cost(*widths).item())
        return total


# --- exact ---


@dataclass(frozen=True, eq=False)
class _Front:
    """Ways to choose the widths of some groups of which none beats another: ticks and values both ascend."""

    ticks: Numbers  # (ways,)
    values: Numbers  # (ways,)
    chosen: Numbers  # (ways, groups): the number of each width; -1 for groups that are not chosen yet


Table = tuple[tuple[str, ...], Numbers]
"""Groups, and a `_Front` (None: none is within the budget) for each combination of their widths, as an array."""


def _eliminate(costs: _Ticks, order: Sequence[str]) -> dict[str, int] | None:
    """Return the number of each group's width; None if no widths are within the budget."""
    columns = {name: column for column, name in enumerate(costs.choices)}
    nothing = np.full((1, len(columns)), -1, dtype=np.int16)
    tables: list[Table] = []
    for term in costs.terms:
        ticks = costs.ticks_of(term)
        fronts = np.empty(ticks.shape, dtype=object)
        for place in np.ndindex(ticks.shape):
            if ticks[place] <= TICKS:
                fronts[place] = _Front(ticks[place][None], np.zeros(1), nothing)
        tables.append((term.groups, fronts))
    for name in order:
        reading = [table for table in tables if name in table[0]]
        tables = [table for table in tables if name not in table[0]]
        tables.append(_without(name, costs.choices[name], columns[name], reading, nothing))
    front: _Front | None = _Front(np.zeros(1, dtype=np.int64), np.zeros(1), nothing)
    for _, fronts in tables:
        front = _sum(front, fronts.item())
    if front is None:
        return None
    return {name: int(front.chosen[-1, column]) for name, column in columns.items()}


def _without(name: str, of_name: Choices, column: int, tables: Sequence[Table], nothing: Numbers) -> Table:
    """Return the sum of tables as one without the group: of each combination of the others, all ways to choose it."""
    alone = [fronts for groups, fronts in tables if groups == (name,)]
    shared = [(groups, fronts) for groups, fronts in tables if groups != (name,)]
    scope = tuple(dict.fromkeys(other for groups, _ in shared for other in groups if other != name))
    sizes = {name: len(of_name.widths)}
    for groups, fronts in shared:
        sizes |= dict(zip(groups, fronts.shape, strict=True))
    own_fronts = []  # what does not depend on the others is summed once
    for number, value in enumerate(of_name.values):
        chosen = nothing.copy()
        chosen[0, column] = number
        own: _Front | None = _Front(np.zeros(1, dtype=np.int64), np.array([value]), chosen)
        for fronts in alone:
            own = _sum(own, fronts[number])
        own_fronts.append(own)
    result = np.empty([sizes[other] for other in scope], dtype=object)
    for place in np.ndindex(result.shape):
        place_of = dict(zip(scope, place, strict=True))
        ways = []
        for number, own in enumerate(own_fronts):
            front: _Front | None = None
            if own is not None:
                front = _sum_of_shared(shared, place_of | {name: number})
                front = own if not shared else _sum(own, front)
            if front is not None:
                ways.append(front)
        result[place] = _best(ways)
    return scope, result


def _sum_of_shared(tables: Sequence[Table], place_of: Mapping[str, int]) -> _Front | None:
    """Return the sum of the fronts of these tables at one combination of widths; None if there is none."""
    front: _Front | None = None
    for number, (groups, fronts) in enumerate(tables):
        at_place = fronts[tuple(place_of[group] for group in groups)]
        front = at_place if number == 0 else _sum(front, at_place)
    return front


def _sum(first: _Front | None, second: _Front | None) -> _Front | None:
    """Return all ways to choose both within TICKS, without those that another beats; None if there is none."""
    if first is None or second is None:
        return None
    if len(first.ticks) < len(second.ticks):
        first, second = second, first
    if len(second.ticks) == 1:
        ticks = first.ticks + second.ticks[0]
        fits = int(np.searchsorted(ticks, TICKS, side="right"))
        if fits == 0:
            return None
        chosen = np.maximum(first.chosen[:fits], second.chosen)
        return _Front(ticks[:fits], first.values[:fits] + second.values[0], chosen)
    padded = np.full(2 * TICKS + 1, -np.inf)  # the value of `first` at each tick, behind TICKS places of nothing
    padded[TICKS + first.ticks] = first.values
    best = np.full(TICKS + 1, -np.inf)
    second_way = np.zeros(TICKS + 1, dtype=np.int64)
    for begin in range(0, len(second.ticks), WAYS_AT_ONCE):
        ways = slice(begin, begin + WAYS_AT_ONCE)
        shifted = np.stack([padded[TICKS - ticks : 2 * TICKS + 1 - ticks] for ticks in second.ticks[ways].tolist()])
        shifted += second.values[ways, None]
        way = shifted.argmax(axis=0)
        values = shifted[way, np.arange(TICKS + 1)]
        wins = values > best
        best[wins] = values[wins]
        second_way[wins] = begin + way[wins]
    ticks = _undominated(best)
    if len(ticks) == 0:
        return None
    ways_of_second = second_way[ticks]
    ways_of_first = np.searchsorted(first.ticks, ticks - second.ticks[ways_of_second])
    chosen = np.maximum(first.chosen[ways_of_first], second.chosen[ways_of_second])
    return _Front(ticks, best[ticks], chosen)


def _best(fronts: Sequence[_Front]) -> _Front | None:
    """Return the ways of all fronts without those that another beats; None if there is none."""
    if len(fronts) < 2:
        return fronts[0] if fronts else None
    ticks = np.concatenate([front.ticks for front in fronts])
    values = np.concatenate([front.values for front in fronts])
    chosen = np.concatenate([front.chosen for front in fronts])
    order = np.lexsort((-values, ticks))
    highest = np.maximum.accumulate(values[order])
    is_first = np.ones(len(order), dtype=bool)
    is_first[1:] = values[order][1:] > highest[:-1]
    kept = order[is_first]
    return _Front(ticks[kept], values[kept], chosen[kept])


def _undominated(best: Numbers) -> Numbers:
    """Return the ticks at which the value is larger than at all smaller ticks."""
    before = np.concatenate([[-np.inf], np.maximum.accumulate(best)[:-1]])
    return np.flatnonzero(best > before)


# --- where an exact solution would take too long ---


def _iterate(costs: _Ticks) -> dict[str, int] | None:
    """Return the number of each group's width; None if none was found within the budget.

    Each term counts for the group that it makes, with what it reads at its present width. The next round begins halfway
    between these widths and the chosen ones, and has more room if the budget was not used up, less if it was exceeded.
    At the end, groups are widened one after the other while there is room.
    """
    choices = costs.choices
    present = {name: len(of_name.widths) - 1 for name, of_name in choices.items()}
    smallest = dict.fromkeys(choices, 0)
    best: dict[str, int] | None = smallest if costs.ticks(smallest) <= TICKS else None
    capacity_fraction = 1.0
    for _ in range(ROUNDS):
        chosen = _choose_apart(costs, present, capacity_fraction)
        if chosen is None:  # what is read is still too wide
            chosen = smallest
        ticks = costs.ticks(chosen)
        if ticks <= TICKS and (best is None or _value(choices, chosen) > _value(choices, best)):
            best = chosen
        capacity_fraction *= math.sqrt(TICKS / max(1, ticks))
        present = {name: (present[name] + chosen[name]) // 2 for name in choices}
    return None if best is None else _widened(costs, best)


def _widened(costs: _Ticks, chosen: dict[str, int]) -> dict[str, int]:
    """Return the same widths or larger ones until none fits: first where importance is cheapest."""
    choices = costs.choices
    reading: dict[str, list[CostTerm]] = {name: [] for name in choices}
    for term in costs.terms:
        for name in term.groups:
            reading[name].append(term)

    def one_wider(name: str) -> tuple[float, int]:
        """Return the importance and the ticks that the group's next width adds."""
        number = chosen[name]
        wider = chosen | {name: number + 1}
        added_ticks = sum(
            int(costs.ticks_of(term, wider).item()) - int(costs.ticks_of(term, chosen).item()) for term in reading[name]
        )
        return choices[name].values[number + 1] - choices[name].values[number], added_ticks

    room = TICKS - costs.ticks(chosen)
    before = None
    while before != chosen:
        before = chosen
        gains = {name: one_wider(name) for name in choices if chosen[name] + 1 < len(choices[name].widths)}
        for name in sorted(gains, key=lambda name: -gains[name][0] / max(1, gains[name][1])):
            value, added_ticks = one_wider(name)
            if value >= 0.0 and added_ticks <= room:
                chosen = chosen | {name: chosen[name] + 1}
                room -= added_ticks
    return chosen


def _choose_apart(costs: _Ticks, present: Mapping[str, int], capacity_fraction: float) -> dict[str, int] | None:
    """Solve the knapsack in which each term has the present widths but of the group that it makes."""
    apart = []
    for term in costs.terms:
        name = term.groups[0]
        scaled = np.ceil(costs.ticks_of(term, present, name) / capacity_fraction) * costs.tick
        widths = costs.choices[name].widths
        cost_of = dict(zip(widths, np.broadcast_to(scaled, len(widths)).tolist(), strict=True))
        apart.append(CostTerm(groups=(name,), cost=_lookup(cost_of)))
    costs_apart = _Ticks(costs.choices, apart, costs.tick * TICKS)
    return _eliminate(costs_apart, list(costs.choices))


def _lookup(cost_of: Mapping[int, float]) -> Callable[[Numbers], Numbers]:
    """Return the function from widths to costs that a mapping has."""
    return lambda widths: np.array([cost_of[width] for width in widths.tolist()])


def _value(choices: Mapping[str, Choices], chosen: Mapping[str, int]) -> float:
    return sum(choices[name].values[number] for name, number in chosen.items())
