"""The building blocks of a page: sections with texts, tables and figures, and the query results behind them."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from results.render.chart import Chart
from results.store.query_table import query_table
from results.store.reader import Run
from results.text.page import Table
from results.text.scales import DIGITS

MOST_ROWS = 100_000
"""A page has at most this many rows of one figure's data; the query gives them all."""


@dataclass(frozen=True)
class Figure:
    """A figure with its data. `name` distinguishes it on the page: letters, digits and dashes."""

    name: str
    chart: Chart

    @property
    def data(self) -> Markup:
        """What the page's script reads: the specification, and its data column by column."""
        chart = self.chart
        records = chart.data.records[:MOST_ROWS]
        names = list(records[0]) if records else []
        values_of_rows = [[record[name] for record in records] for name in names]
        extra = [values[:MOST_ROWS] for values in chart.extra.values()]
        tables = {}
        for name, rows in chart.tables.items():
            if rows:
                values = zip(*(row.values() for row in rows), strict=True)
                tables[name] = _columns(rows[0], values)
        return script_json(
            {
                "spec": chart.spec,
                "columns": _columns(names, values_of_rows),
                "extra": _columns(chart.extra, extra),
                "tables": tables,
                "rows": len(records),
                "left_out": len(chart.data.records) - len(records),
            }
        )


def _columns(names: Iterable[str], columns: Iterable[Sequence[Any]]) -> list[dict[str, Any]]:
    return [{"name": name, **packed(values)} for name, values in zip(names, columns, strict=True)]


@dataclass(frozen=True)
class TableBlock:
    """A table. `derived`: it is computed from the result of its query, not the result itself."""

    table: Table
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


def listing(run: Run, sql: str, title: str = "", *, folded: bool = False) -> TableBlock:
    """Run a query and return its result as a table."""
    return TableBlock(query_table(run, sql), title, folded=folded)


def packed(values: Sequence[Any]) -> dict[str, Any]:
    """Pack a column for the page: each text once, and for each row which text it has; numbers with six digits.

    NaN and the infinities, which JSON does not have, become texts.
    """
    if any(isinstance(value, str) for value in values):
        index_of: dict[Any, int] = {}
        indices = []
        for value in values:
            indices.append(index_of.setdefault(value, len(index_of)))
        return {"texts": list(index_of), "places": indices}
    return {"values": [_number(value) for value in values]}


def script_json(value: object) -> Markup:
    """Write JSON that is safe inside a script element, with any texts in it."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)


def _number(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        return str(value)
    short = float(f"{value:.{DIGITS}g}")
    return int(short) if short == int(short) and abs(short) < 1e15 else short
