"""A table to publish: methods down, data sets across, mean with interval, the best and its ties marked by test.

The best of a column is the arm with the highest mean; a tie is every arm that the data cannot tell from it. With more
than one problem of one metric a last column takes all of them together, block by block.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from results.arms.comparison import Arm, Pairing, Problem, budget_order, compare
from results.arms.counts import CountsByArm, count_lines, trial_counts
from results.arms.draws import draw_lines, shared_draws
from results.arms.printed import Printed, at_budget, is_of, printed_numbers, rows_of
from results.arms.selection import Selection, selected
from results.statistics import (
    BOOTSTRAP_FROM,
    SIGNIFICANCE,
    Summary,
    holm,
    pairs_needed,
    smallest_p,
    stratified_mean,
    summary,
)
from results.store.reader import Run

Place = Literal["best", "tie", "behind", "unsettled"]


@dataclass(frozen=True)
class Cell:
    """One arm in one column.

    Attributes:
        seeds: (those in the number, those planned); the second is 0 where nothing was planned.
        place: best, a tie with it, or behind it; unsettled in a column whose tests cannot reach `SIGNIFICANCE`.
        p: of the sign-flip test against the best, corrected by Holm over the column; None for the best itself and
            where no seed has both.
        smallest_p: the smallest that p could have become, corrected in the same way.
    """

    value: Summary
    seeds: tuple[int, int]
    place: Place
    p: float | None
    smallest_p: float | None


@dataclass(frozen=True)
class Column:
    """One problem, or all together where `problem` is None."""

    problem: Problem | None
    metric: str

    @property
    def title(self) -> str:
        """What stands above it."""
        return "all together" if self.problem is None else str(self.problem)


@dataclass(frozen=True)
class Row:
    """One arm over all columns, or one row of printed numbers; None where there is nothing."""

    name: str
    cells: tuple[Cell | Printed | None, ...]


@dataclass(frozen=True)
class Published:
    """The table and what has to be said below it."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


def published(
    run: Run, *, score: str = "test_score", asked: float | None = None, equal_cost: bool = False
) -> Published:
    """The table of a run.

    Args:
        run: an opened run.
        score: as `selected`; so are `asked` and `equal_cost`.

    Raises:
        ResultsError: as `selected`.
    """
    chosen = selected(run, score=score, asked=asked, equal_cost=equal_cost)
    arms = chosen.arms
    counts = trial_counts(run)
    columns = _columns(arms)
    generator = np.random.default_rng(0)  # fixed, so that the same rows give the same table
    cells: dict[tuple[str, Column], Cell] = {}
    notes: list[str] = []
    for column in columns:
        found, said = _column(column, arms, counts, generator)
        cells |= {(name, column): cell for name, cell in found.items()}
        notes += said
    names = sorted({_key(arm) for arm in arms}, key=lambda key: (budget_order(key[1]), key[0]))
    rows = [Row(name, tuple(cells.get((name, column)) for column in columns)) for *_, name in names]
    printed = at_budget(printed_numbers(run), asked)
    rows += [_printed_row(name, several, columns) for name, several in rows_of(_placed(printed, columns)).items()]
    problems = [column.problem for column in columns if column.problem is not None]
    notes += _notes(chosen, cells.values(), problems)
    notes += count_lines(counts, problems)
    notes += draw_lines(shared_draws(run), problems)
    if left := len(printed) - len(_placed(printed, columns)):
        notes.append(f"{left} printed numbers are of networks or data sets that were not measured here.")
    return Published(tuple(columns), tuple(rows), tuple(notes))


def _key(arm: Arm) -> tuple[str, float | None, str]:
    return arm.label, arm.asked, str(arm)


def _columns(arms: Sequence[Arm]) -> list[Column]:
    metrics = {arm.problem: arm.metric for arm in arms}
    columns = [Column(problem, metric) for problem, metric in sorted(metrics.items())]
    if len(columns) > 1 and len(set(metrics.values())) == 1:
        columns.append(Column(None, columns[0].metric))
    return columns


def _column(
    column: Column, arms: Sequence[Arm], counts: CountsByArm, generator: np.random.Generator
) -> tuple[dict[str, Cell], list[str]]:
    """The cells of a column by the names of their rows, and what has to be said of it."""
    groups: dict[str, list[Arm]] = {}
    for arm in arms:
        if column.problem in (None, arm.problem):
            groups.setdefault(str(arm), []).append(arm)
    if column.problem is None:  # only what was measured everywhere can be compared over all
        everywhere = {arm.problem for arm in arms}
        groups = {name: several for name, several in groups.items() if {arm.problem for arm in several} == everywhere}
    if not groups:
        return {}, []
    values = _values(groups, generator)
    best = max(groups, key=lambda name: (values[name].value or 0.0, name))
    others = [name for name in groups if name != best]
    pairings = [_against(groups[best], groups[name]) for name in others]
    corrected = holm([pairing.result.p for pairing in pairings])
    settles = len(others) == 0 or _reach(pairings) <= SIGNIFICANCE
    cells = {best: Cell(values[best], _seeds(groups[best], counts), "best" if settles else "unsettled", None, None)}
    for name, pairing, p in zip(others, pairings, corrected, strict=True):
        smallest = 1.0 if pairing.result.smallest_p is None else pairing.result.smallest_p
        cells[name] = Cell(
            values[name],
            _seeds(groups[name], counts),
            _place(pairing, p) if settles else "unsettled",
            p,
            min(1.0, smallest * len(others)),
        )
    return cells, _said_of(column, pairings)


def _place(pairing: Pairing, p: float | None) -> Place:
    """Where the second of a pairing stands to the first, the best of its column."""
    ahead = (pairing.result.difference.mean or 0.0) > 0  # the best by IQM need not have the higher mean
    return "behind" if ahead and p is not None and p <= SIGNIFICANCE and not pairing.doubts else "tie"


def _reach(pairings: Sequence[Pairing]) -> float:
    """The smallest corrected p that the comparison with most pairs could reach."""
    n = max(pairing.result.difference.n for pairing in pairings)
    return min(1.0, smallest_p(n) * len(pairings)) if n else 1.0


def _against(best: Sequence[Arm], other: Sequence[Arm]) -> Pairing:
    others = {arm.problem: arm for arm in other}
    return compare([(arm, others[arm.problem]) for arm in best if arm.problem in others])


def _values(groups: Mapping[str, Sequence[Arm]], generator: np.random.Generator) -> dict[str, Summary]:
    """One number per group, by one statistic in the whole column: the IQM only where each has enough values."""
    tasks = {name: [list(arm.test_by_seed.values()) for arm in several] for name, several in groups.items()}
    if all(sum(map(len, several)) >= BOOTSTRAP_FROM for several in tasks.values()):
        return {name: summary(several, generator) for name, several in tasks.items()}
    return {name: stratified_mean(several) for name, several in tasks.items()}


def _seeds(arms: Sequence[Arm], counts: CountsByArm) -> tuple[int, int]:
    planned = [counts[key].seeds for arm in arms if (key := (arm.problem, arm.label)) in counts]
    return sum(len(arm.test_by_seed) for arm in arms), sum(map(len, planned))


def _said_of(column: Column, pairings: Sequence[Pairing]) -> list[str]:
    """What a column's tests can reach, and why some of them are to be read with care."""
    if not pairings:
        return []
    notes = []
    n = max(pairing.result.difference.n for pairing in pairings)
    reach = _reach(pairings)
    text = (
        f"{column.title}: {len(pairings)} comparisons with the best over {n} pairs reach p = {reach:.3g} at the least"
    )
    if reach > SIGNIFICANCE:
        needed = pairs_needed(SIGNIFICANCE / len(pairings))
        text += f", so that nothing can be told from the best and nothing is marked; {needed} pairs could"
    notes.append(f"{text}.")
    for mark, marked in (
        ("were computed on mixed hardware, ranks or torch versions", [len(one.environments) > 1 for one in pairings]),
        (
            "were chosen from different numbers of settings, so that none of them is called behind",
            [one.tuning_budgets_differ for one in pairings],
        ),
        ("lack seeds that the other has; the test leaves them out", [one.result.unpaired > 0 for one in pairings]),
        ("have fewer distinct models than pairs", [one.shares_models for one in pairings]),
    ):
        if any(marked):
            notes.append(f"{column.title}: {sum(marked)} of the comparisons with the best {mark}.")
    return notes


def _notes(chosen: Selection, cells: Iterable[Cell], problems: Sequence[Problem]) -> list[str]:
    """What the numbers are, and which are missing."""
    shown = list(cells)
    kinds = {cell.value.statistic for cell in shown}
    notes = [f"{chosen.score.split('_')[0]} scores; mean ± half of the 95% t interval over seeds, n in brackets."]
    if "IQM" in kinds:
        notes.append(
            "IQM: mean of the middle half of all values, with its 95% bootstrap interval, stratified over problems;"
            f" given where every arm of a column has {BOOTSTRAP_FROM} values or more."
        )
    notes.append(
        "Bold: the highest of the column, and (marked =) every arm whose mean the paired sign-flip test with Holm's"
        " correction over the column and the 95% interval of the difference do not both tell from it at"
        f" {SIGNIFICANCE}."
    )
    if any(cell.value.low is None for cell in shown):
        notes.append("A number without interval stands on a single seed: no interval can be given.")
    for what, found in (
        ("whose score is not a number", chosen.not_finite),
        ("whose path does not reach this cost", chosen.unreached),
    ):
        for (problem, label), count in sorted(found.items()):
            if problem in problems:
                notes.append(f"{label}, {problem}: {count} {what}, left out of the mean.")
    return notes


def _placed(printed: Sequence[Printed], columns: Sequence[Column]) -> list[Printed]:
    """The printed numbers that belong into one of the columns."""
    return [number for number in printed if any(_belongs(number, column) for column in columns)]


def _belongs(number: Printed, column: Column) -> bool:
    return column.problem is not None and is_of(number, column.problem.network, column.problem.dataset, column.metric)


def _printed_row(name: str, numbers: Sequence[Printed], columns: Sequence[Column]) -> Row:
    return Row(name, tuple(next((one for one in numbers if _belongs(one, column)), None) for column in columns))
