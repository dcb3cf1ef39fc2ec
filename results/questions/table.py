"""Methods x data sets, as for a paper.

A table to publish: methods down, data sets across, mean with interval, the best and its ties marked by a test.

The best of a column is the arm with the highest mean; every arm that the test cannot tell from it is a tie. An arm that
lost seeds is shown, but not compared. If several problems have one metric, a last column averages them within each
seed: the seed is the unit of every column.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np

from results.arms.comparison import Arm, Pairing, budget_order, compare, mean_by_seed
from results.arms.counts import trials_line
from results.arms.flags import Facts, flag_lines, flags_of
from results.arms.looks import is_settled_run, last_looks
from results.arms.problem import Problem
from results.arms.selection import Selection, not_at_budget, select_arms
from results.command_options import at_option, over_option
from results.question import question
from results.sign_flip import SIGNIFICANCE, pairs_needed, smallest_p
from results.statistics.means import Mean, mean_interval
from results.statistics.with_best import with_best_p
from results.store.reader import Run
from results.text.number_format import NOTHING, SCALES
from results.text.page import Part, Shown, Strong, Table, TableRecord, answer_table, notes
from transtailor import cli
from transtailor.plural import counted

Place = Literal["best", "tie", "behind", "unsettled", "not equally tuned", "incomplete", "looked at"]

RowModels = frozenset[tuple[Problem, int, frozenset[str]]]
TOGETHER = (
    "all together: each seed's mean over the networks and data sets, all with the same weight, over the seeds that all"
    " of them have; of arms that all of them have. The data sets are fixed: the interval covers other seeds only."
)


@dataclass(frozen=True)
class Cell:
    """One arm in one column.

    Attributes:
        place: best, a tie with it, or behind it; unsettled in a column whose tests cannot reach `SIGNIFICANCE`;
            not equally tuned, and not compared, if the best was chosen from another number of settings;
            incomplete, and not compared, if seeds failed; looked at, if only the looks of [settle] have a verdict.
        flags: of `results.arms.flags`.
        p: against the best, corrected for all comparisons of the column (`with_best_p`); None for the best itself and
            if nothing is compared.
    """

    value: Mean
    failed: int  # how many trials failed or gave a score that is not a number
    place: Place
    flags: tuple[str, ...]
    p: float | None = None
    smallest_p: float | None = None  # the smallest p that the test can reach


@dataclass(frozen=True)
class PublishedColumn:
    """One problem, or all together if `problem` is None."""

    problem: Problem | None
    metric: str

    @property
    def title(self) -> str:
        """The heading of the column."""
        return "all together" if self.problem is None else str(self.problem)


@dataclass(frozen=True)
class PublishedRow:
    """One arm at a budget over all columns; None for an empty cell."""

    name: str
    cells: tuple[Cell | None, ...]
    arm: str
    asked: float | None


@dataclass(frozen=True)
class Published:
    """The table and the notes below it."""

    columns: tuple[PublishedColumn, ...]
    rows: tuple[PublishedRow, ...]
    notes: tuple[str, ...]
    score: str  # which one is in the cells


def published_table(run: Run, *, score: str = "test_score", asked: float | None = None) -> Published:
    """Compute the table of a run.

    Args:
        score, asked: as for `select_arms`.

    Raises:
        ResultsError: as `select_arms`.
    """
    chosen = select_arms(run, score=score, asked=asked)
    arms = chosen.arms
    columns = _columns(arms)
    is_settled = is_settled_run(run)
    generator = np.random.default_rng(0)  # fixed, so that the same rows give the same table
    facts = Facts(run)
    cells: dict[tuple[str, PublishedColumn], Cell] = {}
    lines: list[str] = []
    for column in columns:
        cells_by_row, notes_on_column = _column(column, chosen, generator, facts, is_settled=is_settled)
        for name, cell in cells_by_row.items():
            cells[name, column] = cell
        lines += notes_on_column
    keys = {(arm.name, arm.asked, str(arm)) for arm in arms}
    names = sorted(keys, key=lambda key: (budget_order(key[1]), key[0]))
    rows = []
    for arm, arm_asked, name in names:
        cells_of_row = [cells.get((name, column)) for column in columns]
        rows.append(PublishedRow(name, tuple(cells_of_row), arm, arm_asked))
    if asked is not None:
        lines += not_at_budget(select_arms(run, score=score).arms, asked)
    lines.append(f"{chosen.score.split('_')[0]} scores; mean ± half of the 95% t interval over seeds, n in brackets.")
    if is_settled:
        against = next((key.against for key in last_looks(run)), "ARM")
        lines.append(
            "No best of a column is marked: numbers of seeds depend on the scores. For the verdicts of the looks, type:"
            f" {run.to_type('compare', '--against', against)}"
        )
    else:
        lines.append(
            "Bold: the highest of the column, and (marked =) every arm that cannot be distinguished from it: the"
            " sign-flip test, corrected for the choice of the best among all arms of the column (max-T), gives p >"
            f" {SIGNIFICANCE}, or the 95% interval of the difference contains 0."
        )
    if any(cell.value.low is None for cell in cells.values()):
        lines.append("A number without an interval has one seed: no interval can be given.")
    lines += [
        *flag_lines({"flags": cell.flags} for cell in cells.values()),
        *chosen.without_score,
        trials_line(run),
    ]
    return Published(tuple(columns), tuple(rows), tuple(lines), chosen.score)


def _columns(arms: Sequence[Arm]) -> list[PublishedColumn]:
    metrics = {arm.problem: arm.metric for arm in arms}
    columns = [PublishedColumn(problem, metric) for problem, metric in sorted(metrics.items())]
    if len(columns) > 1 and len(set(metrics.values())) == 1:
        columns.append(PublishedColumn(None, columns[0].metric))
    return columns


def _column(
    column: PublishedColumn, chosen: Selection, generator: np.random.Generator, facts: Facts, *, is_settled: bool
) -> tuple[dict[str, Cell], list[str]]:
    """Compute the cells of a column by the names of their rows, and its notes.

    Args:
        is_settled: whether looks chose the seeds, so that no best of a column is tested.
    """
    groups = _groups(column, chosen.arms)
    cells = {}
    complete = {}
    for name, arms in groups.items():
        failed = sum(arm.failed.total() for arm in arms)
        mean = mean_interval(list(mean_by_seed(arms).values()))
        flags = tuple(flags_of([(arm, None) for arm in arms], facts))
        cells[name] = Cell(mean, failed, "incomplete" if failed else "looked at", flags)
        if not failed:
            complete[name] = arms
    lines = [TOGETHER] if groups and column.problem is None else []
    if is_settled:
        return cells, lines
    if complete:
        lines += _mark(column, cells, complete, generator)
    return cells, lines


def _mark(
    column: PublishedColumn,
    cells: dict[str, Cell],
    complete: Mapping[str, Sequence[Arm]],
    generator: np.random.Generator,
) -> list[str]:
    """Compare the best of a column with its other complete rows, set their cells, and return the notes."""
    best = max(complete, key=lambda name: (_mean_or_least(cells[name]), name))
    family = {_row_of(complete[best]): best}  # the rows to compare, equal ones once, the best first
    for name, arms in complete.items():
        family.setdefault(_row_of(arms), name)
    tables = [mean_by_seed(complete[name]) for name in family.values()]
    seeds = sorted(set(tables[0]).intersection(*tables[1:]))
    p_values: Mapping[RowModels, float | None] = dict.fromkeys(family)
    reach = 1.0  # the smallest p that the test can give
    if seeds:
        scores = np.array([[of_row[seed] for of_row in tables] for seed in seeds])
        p_values = dict(zip(family, with_best_p(scores, 0, generator).tolist(), strict=True))
        reach = smallest_p(len(seeds))
    settles = len(family) == 1 or reach <= SIGNIFICANCE
    cells[best] = replace(cells[best], place="best" if settles else "unsettled")
    longer = 0
    for name, arms in complete.items():
        if name == best:
            continue
        others = {arm.problem: arm for arm in arms}
        pairing = compare([(arm, others[arm.problem]) for arm in complete[best] if arm.problem in others])
        longer += pairing.trained_longer
        p = p_values[_row_of(arms)]
        place = _place(pairing, p) if settles else "unsettled"
        cells[name] = replace(cells[name], place=place, p=p, smallest_p=reach)
    lines = []
    if len(complete) > 1:
        of_best = counted(len(family) - 1, "comparison")
        none = ""
        if reach > SIGNIFICANCE:
            none = f", so no arm can be distinguished from the best and none is marked; {pairs_needed()} seeds could"
        lines.append(
            f"{column.title}: over {counted(len(seeds), 'seed')} that all have, {of_best} with the best can reach p ="
            f" {reach:.3g} at best{none}."
        )
    if longer:
        lines.append(f"{column.title}: {counted(longer, 'arm')} trained for fewer epochs than the best.")
    return lines


def _mean_or_least(cell: Cell) -> float:
    return -math.inf if cell.value.mean is None else cell.value.mean


def _place(pairing: Pairing, p: float | None) -> Place:
    """Place the second arm of a pairing relative to the first, which is the best of its column."""
    if pairing.tuning_budgets_differ:
        return "not equally tuned"
    # The best has the highest mean over all its seeds; over those of the pair it need not.
    ahead = pairing.result.difference.mean
    is_behind = ahead is not None and ahead > 0 and p is not None and p <= SIGNIFICANCE
    return "behind" if is_behind and not pairing.doubts else "tie"


def _groups(column: PublishedColumn, arms: Sequence[Arm]) -> dict[str, list[Arm]]:
    """Group the arms of a column by the names of their rows; over all problems only those that each has at a seed."""
    groups: dict[str, list[Arm]] = {}
    for arm in arms:
        if column.problem in (None, arm.problem):
            groups.setdefault(str(arm), []).append(arm)
    if column.problem is not None:
        return groups
    problems = {arm.problem for arm in arms}
    everywhere = {}
    for name, of_name in groups.items():
        if {arm.problem for arm in of_name} == problems and mean_by_seed(of_name):
            everywhere[name] = of_name
    return everywhere


def _row_of(arms: Sequence[Arm]) -> RowModels:
    """Return the models of a row; two rows with the same models count once in a family."""
    models_of_row = set()
    for arm in arms:
        for seed, models in arm.models_by_seed.items():
            models_of_row.add((arm.problem, seed, models))
    return frozenset(models_of_row)


def published_page(table: Published) -> Iterator[Part]:
    """Yield the table with its notes; the best of a column and its ties are bold. For programs: one record per cell."""
    heads = [f"{column.title}, {SCALES[column.metric].mark}" for column in table.columns]
    shown = [Shown("row", text=lambda row: row["row"].name, is_text=True)]
    for place, (head, column) in enumerate(zip(heads, table.columns, strict=True)):
        shown.append(Shown(head, head, partial(_cell_text, place=place, column=column)))
    yield Table(records=[{"row": row} for row in table.rows], shown=shown)
    records = []
    for row in table.rows:
        for cell, column in zip(row.cells, table.columns, strict=True):
            if cell is not None:
                problem = column.problem
                of_problem = (
                    dict.fromkeys(("network", "dataset", "train_images")) if problem is None else problem.record
                )
                records.append({
                    "row": row.name, "arm": row.arm, "asked_removed_macs_fraction": row.asked,
                    "scored_by": table.score, **of_problem, "metric": column.metric, "score": cell.value.mean,
                    "score_low": cell.value.low, "score_high": cell.value.high, "seeds": cell.value.n,
                    "place": cell.place, "p_adjusted": cell.p, "smallest_p": cell.smallest_p,
                    "failed_trials": cell.failed, "flags": list(cell.flags),
                })  # fmt: skip
    yield answer_table("table", records)
    yield ""
    yield from notes(table.notes)


def _cell_text(record: TableRecord, place: int, column: PublishedColumn) -> str:
    cell: Cell | None = record["row"].cells[place]
    if cell is None:
        return NOTHING
    scale = SCALES[column.metric]
    text = scale.value(cell.value.mean)
    if cell.value.low is not None and cell.value.high is not None:
        text += f" ± {scale.value((cell.value.high - cell.value.low) / 2)}"
    of_seeds = f"{cell.value.n}, {cell.failed} failed or NaN" if cell.failed else f"{cell.value.n}"
    of_seeds += f", {cell.place}" if cell.place == "not equally tuned" else ""
    text = f"{text} ({of_seeds}){' =' if cell.place == 'tie' else ''}"
    return Strong(text) if cell.place in ("best", "tie") else text


@question(example="runs/demo --format latex")
@cli.option("--by", default="test_score", metavar="SCORE", help="test_score or validation_score")
@at_option
@over_option
def table(run: Run, by: str = "test_score", at: float | None = None) -> Iterator[Part]:
    """A table of methods x data sets with intervals; marks the best and its ties."""
    return published_page(published_table(run, score=by, asked=at))
