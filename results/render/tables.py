"""The tables of the report: cells as text, with the query that gives the numbers behind them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from results.arms.comparison import Pairing
from results.arms.cost import SharingSavings
from results.arms.tuning import Count, setting_text
from results.arms.verdict import verdict_word
from results.text.number_format import NOTHING, SCALES, number, p_text, percent


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
        return list(dict.fromkeys(mark for row in self.rows for mark in row.marks))

    def references(self, row: TableRow) -> str:
        """Return the numbers of a row's footnotes, such as "1,3"."""
        return ",".join(str(place) for place, note in enumerate(self.footnotes, 1) if note in row.marks)


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
        "where", "arm", "asked %", "against", "pairs", "difference", "95%", "won–lost–tied", "p", "smallest p",
        "it says",
    )  # fmt: skip
    numeric = (False, False, True, False, True, True, True, True, True, True, False)
    start = 0 if where else 1
    rows = [_pairing_row(pairing) for pairing in pairings]
    return HtmlTable(columns[start:], numeric[start:], [TableRow(row.cells[start:], row.marks) for row in rows], sql)


def _pairing_row(pairing: Pairing) -> TableRow:
    found, scale = pairing.result, SCALES[pairing.metric]
    marks = []
    if pairing.tuning_budgets_differ:
        marks.append(pairing.doubts[0])
    if len(pairing.environments) > 1:
        marks.append("computed on mixed hardware, ranks or torch versions")
    if pairing.shares_models:
        models = f"{len(pairing.first_models)} and {len(pairing.second_models)}"
        marks.append(f"the {found.difference.n} pairs have only {models} distinct models: n is smaller than it looks")
    if found.unpaired:
        seeds = "1 seed has" if found.unpaired == 1 else f"{found.unpaired} seeds have"
        marks.append(f"{seeds} only one of the two arms: left out")
    cells = (
        str(pairing.problem or "pooled"),
        pairing.arm,
        percent(pairing.asked, 1),
        pairing.second,
        str(found.difference.n),
        scale.difference(found.difference.mean),
        scale.interval(found.difference, signed=True),
        f"{found.wins}–{found.losses}–{found.ties}",
        p_text(found.p),
        p_text(found.smallest_p),
        verdict_word(pairing),
    )
    return TableRow(cells, tuple(marks))


def settings_table(counts: Sequence[Count], sql: str) -> HtmlTable:
    """Build the table of how often each setting of [tuning] was chosen, arm by arm."""
    columns = ("where", "arm", "asked %", "setting", "chosen in seeds", "best of")
    rows = [
        TableRow(
            (
                str(count.problem),
                count.arm,
                percent(count.asked, 1),
                setting_text(count.setting),
                str(count.seeds),
                " or ".join(str(several) for several in sorted(count.best_of)),
            ),
            ("chosen from different numbers of settings: some trials are missing",) if len(count.best_of) > 1 else (),
        )
        for count in counts
    ]
    return HtmlTable(columns, (False, False, True, False, True, True), rows, sql)


def cost_table(whole: SharingSavings, arms: dict[str, SharingSavings], unit: tuple[float, str], sql: str) -> HtmlTable:
    """Build the table of the time of stages, shared and point by point; `unit`: its number per hour, its name."""
    columns = ("arm", "stages", "operating points", f"each once ({unit[1]})", f"point by point ({unit[1]})", "ratio")
    rows = [_cost_row(name, cost, unit[0]) for name, cost in ({"all together": whole} | arms).items()]
    return HtmlTable(columns, (False, *[True] * 5), rows, sql)


def _cost_row(name: str, cost: SharingSavings, per_hour: float) -> TableRow:
    cells = (
        name,
        f"{cost.stages:,}",
        f"{cost.points:,}",
        number(cost.shared_s / 3600 * per_hour, 1),
        number(cost.separate_s / 3600 * per_hour, 1),
        NOTHING if cost.ratio is None else f"{cost.ratio:.2f}",
    )
    marks = (f"{cost.unrecorded} stages have no row and count as 0 s",) if cost.unrecorded else ()
    return TableRow(cells, marks)
