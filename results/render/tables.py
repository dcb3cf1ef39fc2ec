"""The tables of the report: cells as text, with the query that gives the numbers behind them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from results.arms.comparison import Pairing
from results.arms.cost import SharingSavings
from results.arms.tuning import Count, setting_text
from results.arms.verdict import verdict_word
from results.sharing import BASELINES
from results.text.number_format import SCALES, number, p_text, percent


@dataclass(frozen=True)
class TableRow:
    """The cells of one row; `marks` explain why to read the row with care."""

    cells: tuple[str, ...]
    marks: tuple[str, ...] = ()


@dataclass(frozen=True)
class HtmlTable:
    """A table of text. `numeric` has one flag per column: numbers are aligned right. `sql` is shown below it."""

    columns: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: list[TableRow] = field(default_factory=list)
    sql: str = ""
    note: str = ""

    @cached_property
    def footnotes(self) -> list[str]:
        """The texts of all marks, each once; a row refers to them by number, from 1."""
        texts: list[str] = []
        for row in self.rows:
            texts += [mark for mark in row.marks if mark not in texts]
        return texts

    def references(self, row: TableRow) -> str:
        """Return the numbers of a row's footnotes, such as "1,3"."""
        return ",".join(str(number) for number, note in enumerate(self.footnotes, 1) if note in row.marks)


@dataclass(frozen=True)
class ArmRow:
    """An arm on the first screen: its name, the sign of its mark, numbers as text, and what failed of it.

    `is_first`: whether it is the first budget of its arm, which is named there only.
    """

    name: str
    colour: int
    sign: str
    cells: tuple[str, ...]
    failed: str
    is_first: bool


@dataclass(frozen=True)
class ArmsTable:
    """The arms of one problem."""

    title: str
    columns: tuple[str, ...]
    rows: list[ArmRow]


def pairings_table(pairings: Sequence[Pairing], sql: str, *, where: bool) -> HtmlTable:
    """Build the table of paired differences, one comparison per row; `where` adds a column for the problem."""
    columns = (
        "where", "arm", "budget %", "against", "pairs", "difference", "95%", "won–lost–tied", "p", "smallest p",
        "verdict",
    )  # fmt: skip
    numeric = (False, False, True, False, True, True, True, True, True, True, False)
    first_column = 0 if where else 1
    rows = []
    for pairing in pairings:
        row = _pairing_row(pairing)
        rows.append(TableRow(row.cells[first_column:], row.marks))
    return HtmlTable(columns[first_column:], numeric[first_column:], rows, sql)


def _pairing_row(pairing: Pairing) -> TableRow:
    result = pairing.result
    scale = SCALES[pairing.metric]
    marks = []
    if pairing.tuning_budgets_differ:
        marks.append(pairing.doubts[0])
    if pairing.is_mixed:
        marks.append("computed on mixed hardware, ranks or torch versions")
    if pairing.shares_models:
        models = f"{len(pairing.first_models)} and {len(pairing.second_models)}"
        marks.append(f"the {result.difference.n} pairs have only {models} distinct models: n is smaller than it looks")
    if result.unpaired:
        seeds = "1 seed has" if result.unpaired == 1 else f"{result.unpaired} seeds have"
        marks.append(f"{seeds} only one of the two arms: left out")
    cells = (
        str(pairing.problem or "pooled"),
        pairing.arm,
        percent(pairing.asked, 1),
        pairing.second,
        str(result.difference.n),
        scale.difference(result.difference.mean),
        scale.interval(result.difference, signed=True),
        f"{result.wins}–{result.losses}–{result.ties}",
        p_text(result.p),
        p_text(result.smallest_p),
        verdict_word(pairing),
    )
    return TableRow(cells, tuple(marks))


def settings_table(counts: Sequence[Count], sql: str) -> HtmlTable:
    """Build the table of how often each setting of [tuning] was chosen, arm by arm."""
    columns = ("where", "arm", "budget %", "setting", "chosen in seeds", "best of")
    rows = []
    for count in counts:
        cells = (
            str(count.problem),
            count.arm,
            percent(count.asked, 1),
            setting_text(count.setting),
            str(count.seeds),
            " or ".join(str(number) for number in sorted(count.best_of)),
        )
        is_uneven = len(count.best_of) > 1
        marks = ("chosen from different numbers of settings: some trials are missing",) if is_uneven else ()
        rows.append(TableRow(cells, marks))
    return HtmlTable(columns, (False, False, True, False, True, True), rows, sql)


def cost_table(whole: SharingSavings, arms: dict[str, SharingSavings], unit: tuple[float, str], sql: str) -> HtmlTable:
    """Build the table of the time of stages, and what sharing saves; `unit`: its number per hour, its name."""
    columns = (
        "arm",
        "stages",
        "operating points",
        f"each stage once ({unit[1]})",
        *(f"factor against {name}" for name in BASELINES),
    )
    per_hour, _ = unit
    rows = [_cost_row("all together", whole, per_hour)]
    rows += [_cost_row(name, cost, per_hour) for name, cost in arms.items()]
    return HtmlTable(columns, (False, *(True for _ in columns[1:])), rows, sql)


def _cost_row(name: str, cost: SharingSavings, per_hour: float) -> TableRow:
    found = cost.baselines
    cells = (
        name,
        f"{cost.stages:,}",
        f"{cost.points:,}",
        number(found.one_script.shared / 3600 * per_hour, 1),
        *(baseline.factor_text for baseline in (found.one_script, found.source_given, found.each_point_alone)),
    )
    marks = (f"{cost.unrecorded} stages have no row and count as 0 s",) if cost.unrecorded else ()
    return TableRow(cells, marks)
