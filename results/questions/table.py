"""Methods x data sets, as for a paper.

A table to publish: methods down, data sets across, mean with interval, the best and its ties marked by a test.

The best of a column is the arm with the highest mean; every arm that the test cannot tell from it is a tie. An arm that
lost seeds is shown, but not compared. If several problems have one metric, a last column averages them within each
seed: the seed is the unit of every column.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np

from results.arms.below_head import below_head_lines
from results.arms.comparison import Arm, Pairing, budget_order, compare, mean_by_seed
from results.arms.counts import PlannedSeeds, planned_seeds
from results.arms.extensions import extension_notes
from results.arms.looks import RecordedLook, is_settled_run
from results.arms.one_class import one_class_lines
from results.arms.printed import PrintedPoint, belongs_to, numbers_at_budget, printed_numbers, rows_by_name
from results.arms.problem import Problem
from results.arms.selection import Selection, not_at_budget, select_arms
from results.arms.shared_training import support_lines
from results.command_options import at_option, over_option
from results.question import question
from results.questions.settled import settled_verdicts
from results.sign_flip import SIGNIFICANCE, pairs_needed, smallest_p
from results.statistics.means import BOOTSTRAP_FROM, Summary, statistic_of, summary
from results.statistics.with_best import with_best_p
from results.store.reader import Run
from results.text.number_format import NOTHING, SCALES
from results.text.page import Part, Shown, Strong, Table, TableRecord, answer_table, notes
from transtailor import cli
from transtailor.plural import counted

Place = Literal["best", "tie", "behind", "unsettled", "not equally tuned", "incomplete", "looked at"]


Looks = Mapping[tuple[Problem, str, float | None], RecordedLook]
RowModels = frozenset[tuple[Problem, int, frozenset[str]]]

_OF_MEASURED = (
    "score_low", "score_high", "seeds", "planned_seeds", "place", "verdict", "p_adjusted", "smallest_p",
    "failed_trials",
)  # fmt: skip
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
        verdict: of the last look; empty without one.
        p: against the best, corrected for all comparisons of the column (`with_best_p`); None for the best itself and
            if nothing is compared.
    """

    value: Summary
    seeds: tuple[int, int]  # (seeds in the mean, planned seeds); the second is 0 if nothing was planned
    failed: int  # how many trials failed or gave a score that is not a number
    place: Place
    p: float | None
    smallest_p: float | None  # the smallest p that the test can reach
    verdict: str = ""


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
    """One arm at a budget over all columns, or one row of printed numbers; None for an empty cell."""

    name: str
    cells: tuple[Cell | PrintedPoint | None, ...]
    arm: str | None = None  # its name; None: printed numbers
    asked: float | None = None


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
    planned = planned_seeds(run)
    columns = _columns(arms)
    looks = settled_verdicts(run) if is_settled_run(run) else None
    generator = np.random.default_rng(0)  # fixed, so that the same rows give the same table
    cells: dict[tuple[str, PublishedColumn], Cell] = {}
    lines: list[str] = []
    for column in columns:
        cells_by_row, notes_on_column = _column(column, chosen, planned, generator)
        if looks is not None:
            cells_by_row = _take_verdicts_of_looks(cells_by_row, column, arms, looks)
            notes_on_column = [TOGETHER] if column.problem is None else []
        for name, cell in cells_by_row.items():
            cells[name, column] = cell
        lines += notes_on_column
    keys = {(arm.name, arm.asked, str(arm)) for arm in arms}
    names = sorted(keys, key=lambda key: (budget_order(key[1]), key[0]))
    rows = []
    for arm, arm_asked, name in names:
        cells_of_row = [cells.get((name, column)) for column in columns]
        rows.append(PublishedRow(name, tuple(cells_of_row), arm, arm_asked))
    printed = numbers_at_budget(printed_numbers(run), asked)
    shown = [number for number in printed if any(_belongs(number, column) for column in columns)]
    rows += [_printed_row(name, numbers, columns) for name, numbers in rows_by_name(shown).items()]
    problems = [column.problem for column in columns if column.problem is not None]
    if asked is not None:
        lines += not_at_budget(select_arms(run, score=score).arms, asked)
    lines += _notes(run, chosen, cells.values())
    if looks is None:
        lines += extension_notes(run, [arm.name for arm in arms])
    lines += [*below_head_lines(run, problems), *one_class_lines(arms), *support_lines(run, problems)]
    left = len(printed) - len(shown)
    if left:
        lines.append(f"{left} printed numbers are of networks or data sets that were not measured here.")
    return Published(tuple(columns), tuple(rows), tuple(lines), chosen.score)


def _columns(arms: Sequence[Arm]) -> list[PublishedColumn]:
    metrics = {arm.problem: arm.metric for arm in arms}
    columns = [PublishedColumn(problem, metric) for problem, metric in sorted(metrics.items())]
    if len(columns) > 1 and len(set(metrics.values())) == 1:
        columns.append(PublishedColumn(None, columns[0].metric))
    return columns


def _column(
    column: PublishedColumn, chosen: Selection, planned: PlannedSeeds, generator: np.random.Generator
) -> tuple[dict[str, Cell], list[str]]:
    """Compute the cells of a column by the names of their rows, and its notes."""
    groups = _groups(column, chosen.arms)
    if not groups:
        return {}, []
    values = _values(groups, generator)
    cells = {}
    complete = {}
    for name, arms in groups.items():
        failed = sum(arm.failed for arm in arms)
        cells[name] = Cell(values[name], _seeds(arms, planned), failed, "incomplete", None, None)
        if not failed:
            complete[name] = arms
    lines = [] if column.problem is not None else [TOGETHER]
    lines += _notes_on_incomplete(column, len(groups) - len(complete))
    if not complete:
        return cells, lines
    best = max(complete, key=lambda name: (values[name].value or 0.0, name))
    family = _family(complete, best)
    p_values, smallest, seeds = _with_best(family, complete, generator)
    settles = len(family) == 1 or smallest <= SIGNIFICANCE
    cells[best] = replace(cells[best], place="best" if settles else "unsettled")
    pairings = []
    for name, arms in complete.items():
        if name == best:
            continue
        pairing = _pair_arms(complete[best], arms)
        pairings.append(pairing)
        p = p_values[_row_of(arms)]
        place_of_arm = _place(pairing, p) if settles else "unsettled"
        cells[name] = replace(cells[name], place=place_of_arm, p=p, smallest_p=smallest)
    lines += _column_notes(column, pairings, len(family) - 1, seeds)
    return cells, lines


def _take_verdicts_of_looks(
    cells: Mapping[str, Cell], column: PublishedColumn, arms: Sequence[Arm], looks: Looks
) -> dict[str, Cell]:
    """Return the cells with the verdicts of looks: where these chose the seeds, no best of a column is tested."""
    verdicts: dict[str, str] = {}
    for arm in arms:
        look = looks.get((arm.problem, arm.name, arm.asked))
        if arm.problem == column.problem and look is not None:
            verdicts[str(arm)] = look.verdict
    looked_at = {}
    for name, cell in cells.items():
        place: Place = cell.place if cell.place == "incomplete" else "looked at"
        looked_at[name] = replace(cell, place=place, p=None, smallest_p=None, verdict=verdicts.get(name, ""))
    return looked_at


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


def _family(complete: Mapping[str, Sequence[Arm]], best: str) -> dict[RowModels, str]:
    """Return the rows to compare, equal ones once, the best first: models -> name of a row."""
    family = {_row_of(complete[best]): best}
    for name, arms in complete.items():
        family.setdefault(_row_of(arms), name)
    return family


def _with_best(
    family: Mapping[RowModels, str], complete: Mapping[str, Sequence[Arm]], generator: np.random.Generator
) -> tuple[dict[RowModels, float | None], float, int]:
    """Return the corrected p of each row of a family against the first, the smallest possible p, and the seeds."""
    tables = [mean_by_seed(complete[name]) for name in family.values()]
    seeds = sorted(set(tables[0]).intersection(*tables[1:]))
    if not seeds:
        return {models: None for models in family}, 1.0, 0
    scores = []
    for seed in seeds:
        scores.append([scores_by_seed[seed] for scores_by_seed in tables])
    p_values = with_best_p(np.array(scores), 0, generator).tolist()
    return dict(zip(family, p_values, strict=True)), smallest_p(len(seeds)), len(seeds)


def _place(pairing: Pairing, p: float | None) -> Place:
    """Place the second arm of a pairing relative to the first, which is the best of its column."""
    if pairing.tuning_budgets_differ:
        return "not equally tuned"
    best_is_ahead = (pairing.result.difference.mean or 0.0) > 0  # the best by IQM need not have the higher mean
    is_significant = p is not None and p <= SIGNIFICANCE
    return "behind" if best_is_ahead and is_significant and not pairing.doubts else "tie"


def _pair_arms(best: Sequence[Arm], other: Sequence[Arm]) -> Pairing:
    others = {arm.problem: arm for arm in other}
    return compare([(arm, others[arm.problem]) for arm in best if arm.problem in others])


def _values(groups: Mapping[str, Sequence[Arm]], generator: np.random.Generator) -> dict[str, Summary]:
    """Compute one number per group with one statistic per column: the IQM only if each group has enough seeds."""
    scores = {name: list(mean_by_seed(arms).values()) for name, arms in groups.items()}
    statistic = statistic_of(min(map(len, scores.values())))
    return {name: summary(of_group, generator, statistic) for name, of_group in scores.items()}


def _seeds(arms: Sequence[Arm], planned: PlannedSeeds) -> tuple[int, int]:
    """Return how many seeds have a score, and how many were planned."""
    seeds = set[int]().union(*(planned.get((arm.problem, arm.name), ()) for arm in arms))
    return len(mean_by_seed(arms)), len(seeds)


def _notes_on_incomplete(column: PublishedColumn, rows: int) -> list[str]:
    if not rows:
        return []
    return [
        f"{column.title}: {counted(rows, 'row')} with failed trials or NaN scores."
        " A mean over the others is not compared."
    ]


def _column_notes(column: PublishedColumn, pairings: Sequence[Pairing], comparisons: int, seeds: int) -> list[str]:
    """Say what a column's tests can reach, and which comparisons to read with care."""
    if not pairings:
        return []
    reach = smallest_p(seeds) if seeds else 1.0
    text = (
        f"{column.title}: over {counted(seeds, 'seed')}, {counted(comparisons, 'comparison')} with the best can reach"
        f" p = {reach:.3g} at best"
    )
    if reach > SIGNIFICANCE:
        text += f", so no arm can be distinguished from the best and none is marked; {pairs_needed()} seeds could"
    lines = [f"{text}."]
    marks = {
        "computed on mixed hardware, ranks or torch versions":
            sum(pairing.is_mixed for pairing in pairings),
        "of arms that were chosen from different numbers of settings":
            sum(pairing.tuning_budgets_differ for pairing in pairings),
        "of arms that trained for fewer epochs than it":
            sum(pairing.trained_longer for pairing in pairings),
        "with seeds that only one of the two has; no test reads those":
            sum(pairing.result.unpaired > 0 for pairing in pairings),
        "of which a seed's scores are means over different numbers of trials":
            sum(pairing.repeats_differ for pairing in pairings),
        "with fewer distinct models than pairs":
            sum(pairing.shares_models for pairing in pairings),
    }  # fmt: skip
    for mark, count in marks.items():
        if count:
            lines.append(f"{column.title}: {counted(count, 'comparison')} with the best, {mark}.")
    return lines


def _notes(run: Run, chosen: Selection, cells: Iterable[Cell]) -> list[str]:
    """Explain the numbers, and say which are missing."""
    shown = list(cells)
    kinds = {cell.value.statistic for cell in shown}
    what = "mean ± half of the 95% t interval over seeds, n" if "mean" in kinds else "n, of seeds,"
    lines = [f"{chosen.score.split('_')[0]} scores; {what} in brackets."]
    if "IQM" in kinds:
        lines.append(
            "IQM: mean of the middle half of the seeds, with its 95% bootstrap interval;"
            f" given if every arm of a column has {BOOTSTRAP_FROM} seeds or more."
        )
    if any(cell.place == "looked at" for cell in shown):
        lines.append(
            "In brackets: the verdict of the looks, against the arm that this run was settled against. No best of a"
            " column is marked: numbers of seeds depend on the scores. For intervals that count all looks, type:"
            f" {run.to_type('settled')}"
        )
        return lines + _notes_on_missing(chosen, shown)
    lines.append(
        "Bold: the highest of the column, and (marked =) every arm that cannot be distinguished from it: the sign-flip "
        f"test, corrected for the choice of the best among all arms of the column (max-T), gives p > {SIGNIFICANCE}, "
        "or the 95% interval of the difference contains 0."
    )
    return lines + _notes_on_missing(chosen, shown)


def _notes_on_missing(chosen: Selection, shown: Sequence[Cell]) -> list[str]:
    """Say which intervals and which scores are missing."""
    lines = []
    if any(cell.value.low is None for cell in shown):
        lines.append("A number without an interval has one seed: no interval can be given.")
    return [*lines, *chosen.nan_lines]


def _belongs(number: PrintedPoint, column: PublishedColumn) -> bool:
    return column.problem is not None and belongs_to(
        number, column.problem.network, column.problem.dataset, column.metric
    )


def _printed_row(name: str, numbers: Sequence[PrintedPoint], columns: Sequence[PublishedColumn]) -> PublishedRow:
    """Return the row of printed numbers: for each column the first that belongs to it."""
    cells: list[PrintedPoint | None] = []
    for column in columns:
        of_column = [number for number in numbers if _belongs(number, column)]
        cells.append(of_column[0] if of_column else None)
    return PublishedRow(name, tuple(cells))


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
                of_row = {"row": row.name, "arm": row.arm, "asked_removed_macs_fraction": row.asked}
                records.append({**of_row, "scored_by": table.score, **_column_record(column), **_cell_record(cell)})
    yield answer_table("table", records)
    yield ""
    yield from notes(table.notes)


def _cell_text(record: TableRecord, place: int, column: PublishedColumn) -> str:
    cell = record["row"].cells[place]
    text = _text(cell, column)
    return Strong(text) if isinstance(cell, Cell) and cell.place in ("best", "tie") else text


def _text(cell: Cell | PrintedPoint | None, column: PublishedColumn) -> str:
    scale = SCALES[column.metric]
    if cell is None:
        return NOTHING
    if isinstance(cell, PrintedPoint):
        return scale.value(cell.value)
    summary_of_cell = cell.value
    seeds, planned = cell.seeds
    low = summary_of_cell.low
    high = summary_of_cell.high
    text = scale.value(summary_of_cell.value)
    if summary_of_cell.value is not None and low is not None and high is not None:
        if summary_of_cell.statistic == "mean":
            text += f" ± {scale.value((high - low) / 2)}"
        else:
            text += f" IQM, {scale.value(low)} … {scale.value(high)}"
    of_seeds = f"{seeds} of {planned}" if seeds < planned else str(seeds)
    of_seeds += f", {cell.failed} failed or NaN" if cell.failed else ""
    of_seeds += f", {cell.verdict}" if cell.verdict else ""
    of_seeds += f", {cell.place}" if cell.place == "not equally tuned" else ""
    return f"{text} ({of_seeds}){' =' if cell.place == 'tie' else ''}"


def _column_record(column: PublishedColumn) -> dict[str, Any]:
    """Return the network, the data set, the training images and the metric of a column; null: all together."""
    problem = column.problem
    of_problem = dict.fromkeys(("network", "dataset", "train_images")) if problem is None else problem.record
    return {**of_problem, "metric": column.metric}


def _cell_record(cell: Cell | PrintedPoint) -> dict[str, Any]:
    if isinstance(cell, PrintedPoint):
        printed = {"statistic": "printed", "score": cell.value, "printed_in": f"{cell.paper}, {cell.place}"}
        return {**dict.fromkeys(_OF_MEASURED), **printed}
    value = cell.value
    _, planned = cell.seeds
    return {
        "statistic": value.statistic, "seeds": value.n, "planned_seeds": planned, "score": value.value,
        "score_low": value.low, "score_high": value.high, "place": cell.place, "verdict": cell.verdict or None,
        "p_adjusted": cell.p, "smallest_p": cell.smallest_p, "failed_trials": cell.failed, "printed_in": None,
    }  # fmt: skip


@question(example="runs/demo --format latex")
@cli.option("--by", default="test_score", metavar="SCORE", help="test_score or validation_score")
@at_option
@over_option
def table(run: Run, by: str = "test_score", at: float | None = None) -> Iterator[Part]:
    """A table of methods x data sets with intervals; marks the best and its ties."""
    return published_page(published_table(run, score=by, asked=at))
