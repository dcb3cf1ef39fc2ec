"""Chooses widths: the largest sum of importance whose cost is within a budget. The cost is a sum of terms.

A network has *groups*, each of which keeps one of several widths, and its cost has *terms*, such as that of a
convolution: each depends on the widths of the groups that it reads and makes. This is a knapsack with multiple choices,
whose costs depend on several of them; it is solved as an integer program by HiGHS (`scipy.optimize.milp`).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tailor.common.errors import ConfigError

GAP = 1e-4
"""Share of the importance by which widths may be worse than the best ones (C)."""
MOST_NODES = 1000
"""Nodes of the tree that the solver searches (C): no limit in seconds, so that equal scores give equal widths."""
MOST_CELLS = 1000
"""Costs of a term with more groups than two that enter as they are (C): 8 widths of 3 groups have 512."""
ROUNDS = 12
"""Times that a solution whose true cost exceeds the budget is looked for again, with less room (C)."""
ROUNDING = 1e-9
"""Share of a budget by which a cost that equals it may exceed it as a sum of floats."""

Widths = dict[str, int]
"""Name of a group -> filters that it keeps."""
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

    def at(self, widths: Widths) -> float:
        """Return the cost at these widths."""
        return float(self.cost(*(np.array([widths[name]]) for name in self.groups)).item())


@dataclass(frozen=True, kw_only=True)
class Solution:
    """The chosen widths."""

    widths: Widths
    value: float  # sum of the importance that is kept
    cost: float  # with what no group changes


def solve(
    choices: Mapping[str, Choices],
    terms: Sequence[CostTerm],
    budget: float,
    constant: float = 0.0,
    finer: Mapping[str, Choices] | None = None,
) -> Solution:
    """Return the widths with the largest importance (less GAP) whose cost is at most the budget.

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
    room = budget - constant
    smallest = {name: of_name.widths[0] for name, of_name in choices.items()}
    widths = None
    if room > 0.0:
        widths = _best_widths(choices, terms, room)
        if widths is None and _cost(terms, smallest) <= room * (1.0 + ROUNDING):  # MOST_NODES or ROUNDS were too few
            widths = _widened(choices, terms, room, smallest)
    if widths is None:
        least = constant + _cost(terms, smallest)
        raise ConfigError(
            f"the budget is {budget:.6g}, and with each group at its smallest width {least:.6g} are left, of which "
            f"{constant:.6g} do not depend on any width; choose a larger budget, a smaller "
            "pruning.minimum_filters_fraction, or what is not yet set of pruning.residual = 'coupled' and "
            "pruning.linear = true"
        )
    if finer is not None:
        choices, widths = finer, _widened(finer, terms, room, widths)
    return Solution(
        widths=widths,
        value=sum(choices[name].values[choices[name].widths.index(widths[name])] for name in choices),
        cost=constant + _cost(terms, widths),
    )


def _cost(terms: Sequence[CostTerm], widths: Widths) -> float:
    return sum(term.at(widths) for term in terms)


def _best_widths(choices: Mapping[str, Choices], terms: Sequence[CostTerm], room: float) -> Widths | None:
    """Return the widths with the largest importance whose terms cost at most `room`; None if none were found.

    The costs that the solver sees may differ from the true ones (see `_Program`); then it gets less room, again and
    again.
    """
    program = _Program(choices, terms, room)
    capacity = 1.0
    for _ in range(ROUNDS):
        widths = program.solved(capacity)
        if widths is None:
            return None
        excess = _cost(terms, widths) / room - 1.0
        if excess <= ROUNDING:
            return widths
        capacity -= excess
    return None


class _Row(NamedTuple):
    """A condition: the sum of these variables, each times its factor, is between two numbers."""

    factors: dict[int, float]
    least: float
    most: float


class _Program:
    """The integer program. Its variables are a number for each width of a group, and parts of the cost.

    Of the widths of a group one is 1 and the others are 0. A term of few groups has a variable for each combination of
    their widths, which is 1 for the chosen one: those with one width of a group add up to this width's variable. A term
    of many groups, such as a convolution behind a concatenation, is taken for a product: what it makes, and the sum of
    what it reads from each group. Of this sum there is a variable for each width of what is made: it is the sum beside
    the chosen width and 0 beside the others. MACs are exactly such products.
    """

    def __init__(self, choices: Mapping[str, Choices], terms: Sequence[CostTerm], room: float) -> None:
        self.choices = choices
        self.begin: dict[str, int] = {}  # group -> the variable of its first width
        values: list[float] = []
        for name, of_name in choices.items():
            self.begin[name] = len(values)
            values += of_name.values
        self.widths = len(values)
        self.costs = [0.0] * self.widths  # of each variable, as a share of the room
        self.rows: list[_Row] = []
        for name in choices:
            self.rows.append(_Row(dict.fromkeys(self._variables(name), 1.0), 1.0, 1.0))
        for term in terms:
            if len(term.groups) <= 2 or math.prod(len(choices[name].widths) for name in term.groups) <= MOST_CELLS:
                self._add_cells(term, room)
            else:
                self._add_product(term, room)
        largest = max(map(abs, values), default=0.0) or 1.0
        self.objective = np.zeros(len(self.costs))
        self.objective[: self.widths] = -np.array(values) / largest

    def _add_cells(self, term: CostTerm, room: float) -> None:
        widths = [np.array(self.choices[name].widths) for name in term.groups]
        table = np.broadcast_to(term.cost(*np.ix_(*widths)) / room, [len(of_group) for of_group in widths])
        if table.ndim == 1:
            for variable, cost in zip(self._variables(term.groups[0]), table.tolist(), strict=True):
                self.costs[variable] += cost
            return
        cells = len(self.costs) + np.arange(table.size).reshape(table.shape)
        self.costs += table.flatten().tolist()
        for axis, name in enumerate(term.groups):
            for number, variable in enumerate(self._variables(name)):
                of_width = cells.take(number, axis).flatten().tolist()
                self.rows.append(_Row({variable: -1.0, **dict.fromkeys(of_width, 1.0)}, 0.0, 0.0))

    def _add_product(self, term: CostTerm, room: float) -> None:
        made, *read = term.groups
        widths = [np.array(self.choices[name].widths) for name in term.groups]
        largest = [of_group[-1:] for of_group in widths]
        whole = float(term.cost(*largest).item()) / room
        if whole == 0.0:
            return
        shares = term.cost(widths[0], *largest[1:]) / room / whole  # by the width of what is made
        least = most = whole
        sum_of: dict[int, float] = dict.fromkeys(self._variables(made), whole)  # what is read, by variables of widths
        for place, name in enumerate(read, start=1):
            others = [*largest]
            others[place] = widths[place]
            added = term.cost(*others) / room - whole
            sum_of |= dict(zip(self._variables(name), added.tolist(), strict=True))
            least += float(added.min())
            most += float(added.max())
        parts = list(range(len(self.costs), len(self.costs) + len(shares)))
        self.costs += shares.tolist()
        self.rows.append(
            _Row({**{variable: -share for variable, share in sum_of.items()}, **dict.fromkeys(parts, 1.0)}, 0.0, 0.0)
        )
        for part, variable in zip(parts, self._variables(made), strict=True):
            self.rows.append(_Row({part: 1.0, variable: -most}, -np.inf, 0.0))
            self.rows.append(_Row({part: 1.0, variable: -least}, 0.0, np.inf))

    def _variables(self, name: str) -> list[int]:
        return list(range(self.begin[name], self.begin[name] + len(self.choices[name].widths)))

    def solved(self, capacity: float) -> Widths | None:
        """Return the best widths whose costs add up to at most `capacity`; None if it found none."""
        rows = [*self.rows, _Row(dict(enumerate(self.costs)), -np.inf, capacity)]
        factors = [factor for row in rows for factor in row.factors.values()]
        columns = [variable for row in rows for variable in row.factors]
        begins = np.cumsum([0, *(len(row.factors) for row in rows)])
        from scipy.optimize import Bounds, LinearConstraint, milp  # half a second, also in ranks that need none of it
        from scipy.sparse import csr_array

        matrix = csr_array((factors, columns, begins), shape=(len(rows), len(self.costs)))
        result = milp(
            self.objective,
            integrality=np.arange(len(self.costs)) < self.widths,
            bounds=Bounds(0.0, np.inf),
            constraints=LinearConstraint(matrix, [row.least for row in rows], [row.most for row in rows]),
            options={"mip_rel_gap": GAP, "node_limit": MOST_NODES},
        )
        if result.x is None:
            return None
        chosen = {}
        for name, of_name in self.choices.items():
            begin = self.begin[name]
            chosen[name] = of_name.widths[int(result.x[begin : begin + len(of_name.widths)].argmax())]
        return chosen


def _widened(choices: Mapping[str, Choices], terms: Sequence[CostTerm], room: float, widths: Widths) -> Widths:
    """Return the same widths or larger ones until none fits: first where importance is cheapest."""
    reading: dict[str, list[CostTerm]] = {name: [] for name in choices}
    for term in terms:
        for name in term.groups:
            reading[name].append(term)
    number = {name: of_name.widths.index(widths[name]) for name, of_name in choices.items()}
    chosen = dict(widths)

    def one_wider(name: str) -> tuple[float, float]:
        """Return the importance and the cost that the group's next width adds."""
        of_name = choices[name]
        wider = chosen | {name: of_name.widths[number[name] + 1]}
        added_cost = _cost(reading[name], wider) - _cost(reading[name], chosen)
        return of_name.values[number[name] + 1] - of_name.values[number[name]], added_cost

    left = room * (1.0 + ROUNDING) - _cost(terms, chosen)
    before: Widths = {}
    while before != chosen:
        before = dict(chosen)
        gains = {name: one_wider(name) for name in choices if number[name] + 1 < len(choices[name].widths)}
        for name in sorted(gains, key=lambda name: -gains[name][0] / max(room * ROUNDING, gains[name][1])):
            value, added_cost = one_wider(name)
            if value >= 0.0 and added_cost <= left:
                number[name] += 1
                chosen[name] = choices[name].widths[number[name]]
                left -= added_cost
    return chosen
