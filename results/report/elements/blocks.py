"""The building blocks of a page: sections with texts, tables and figures, and the query results behind them."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from markupsafe import Markup

from results.figures.svg import Drawing, Key
from results.report.elements.tables import HtmlTable, TableRow
from results.store.reader import Run
from results.text.number_format import NOTHING

MOST_ROWS = 100_000
"""A page has at most this many rows of one figure's data; the query gives them all."""
_DIGITS = 6


@dataclass(frozen=True)
class Answer:
    """The result of a query: the data of a figure. `rows` are tuples in the order of `columns`."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    sql: str

    def column(self, name: str) -> list[Any]:
        """Return the values of a column, row by row."""
        place = self.columns.index(name)
        return [row[place] for row in self.rows]

    def records(self) -> list[dict[str, Any]]:
        """Return the rows as records."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


@dataclass(frozen=True)
class Figure:
    """A drawing with its data and the query that gave them.

    Attributes:
        name: its id on the page; letters, digits and dashes.
        titled_by: columns whose values are the title of a row that is pointed at.
    """

    name: str
    title: str
    drawing: Drawing
    answer: Answer
    legend: Sequence[Key] = ()
    titled_by: tuple[str, ...] = ("label",)
    note: str = ""

    @property
    def svg(self) -> Markup:
        """The drawing, whose texts are already escaped."""
        return Markup(self.drawing.svg)

    @property
    def data(self) -> Markup:
        """The data for the page's script: hits, notes, and the rows column by column."""
        rows = self.answer.rows[:MOST_ROWS]
        hits = [hit for hit in self.drawing.hits if hit[4] < len(rows)]
        columns = [
            {"name": name, **packed([row[place] for row in rows])} for place, name in enumerate(self.answer.columns)
        ]
        return script_json(
            {
                "hits": [value for hit in hits for value in hit],
                "notes": self.drawing.notes,
                "columns": columns,
                "rows": len(rows),
                "left_out": len(self.answer.rows) - len(rows),
                "titled_by": [self.answer.columns.index(name) for name in self.titled_by],
            }
        )


@dataclass(frozen=True)
class TableBlock:
    """A table. `derived`: it is computed from the result of its query, not the result itself."""

    table: HtmlTable
    title: str = ""
    derived: bool = False
    folded: bool = False


@dataclass(frozen=True)
class Words:
    """A paragraph; `bold` is a short title before it."""

    text: str
    bold: str = ""


@dataclass
class Section:
    """A section of the page. Without blocks it shows `empty`; `short` is its title in the table of contents."""

    name: str
    title: str
    text: str = ""
    blocks: list[Figure | TableBlock | Words] = field(default_factory=list)
    empty: str = "No data yet."
    short: str = ""


def answer(run: Run, sql: str) -> Answer:
    """Run a query; lists and moments become texts."""
    found = run.arrow(sql)
    columns = [[plain(value) for value in column.to_pylist()] for column in found.columns]
    return Answer(tuple(found.column_names), list(zip(*columns, strict=True)), sql.strip())


def listing(run: Run, sql: str, title: str = "", *, folded: bool = False) -> TableBlock:
    """Run a query and return its result as a table."""
    found = run.arrow(sql)
    numeric = tuple(str(kind).startswith(("int", "double", "decimal")) for kind in found.schema.types)
    rows = [TableRow(tuple(cell(value) for value in row.values())) for row in found.to_pylist()]
    table = HtmlTable(tuple(name.replace("_", " ") for name in found.column_names), numeric, rows, sql.strip())
    return TableBlock(table, title, folded=folded)


def plain(value: object) -> Any:
    """Return a value of a query as a number, a text, or None."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    return cell(value)


def cell(value: object) -> str:
    """Write a value for a table."""
    if value is None:
        return NOTHING
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S UTC")
    if isinstance(value, float):
        return f"{value:.{_DIGITS}g}"
    return str(value)


def packed(values: Sequence[Any]) -> dict[str, Any]:
    """Pack a column for the page: each text once, with its places; numbers with six digits.

    NaN and the infinities, which JSON does not have, become texts.
    """
    if any(isinstance(value, str) for value in values):
        texts: dict[Any, int] = {}
        places = [texts.setdefault(value, len(texts)) for value in values]
        return {"texts": list(texts), "places": places}
    return {"values": [_number(value) for value in values]}


def script_json(value: object) -> Markup:
    """Write JSON that is safe inside a script element, with any texts in it."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)


def literal(value: str) -> str:
    """Quote a text for a query."""
    return "'" + value.replace("'", "''") + "'"


def _number(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        return str(value)
    short = float(f"{value:.{_DIGITS}g}")
    return int(short) if short == int(short) and abs(short) < 1e15 else short
