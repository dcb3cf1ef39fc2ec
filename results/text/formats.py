"""A page as text for a terminal, Markdown or LaTeX; and only its tables, for programs, as CSV, JSON or Parquet."""

import csv
import io
import json
import math
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from numbers import Number
from types import MappingProxyType
from typing import Any

from rich.cells import cell_len, set_cell_size

from results.text.page import Heading, Note, Page, PageTable, Strong
from transtailor.terminal import printable

LEAST_WIDTH = 16  # characters that a column of texts keeps on a narrow screen: a trial's id
GAP = "  "
STAR = " *"
TABLE_KEY = "table"  # the column that names a record's table, on a page with headings
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First characters of texts that a spreadsheet would run as a formula, which could send data elsewhere."""
_MARKDOWN = re.compile(r"[\\`*<>\[\]|~]|(?<![^\W_])_|_(?![^\W_])")
"""Characters that are markup anywhere, and underscores that are not inside a word."""
_LATEX = MappingProxyType(
    {
        "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "_": r"\_", "%": r"\%",
        "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
        "|": r"\textbar{}", "±": r"$\pm$", "²": r"$^2$", "–": "--", "…": r"\ldots{}", "\n": " ", "\r": " ",
        '"': r"\textquotedbl{}", "[": "{[}", "]": "{]}", "η": r"$\eta$", "ω": r"$\omega$",
    }
)  # fmt: skip


def markdown_lines(page: Page) -> Iterator[str]:
    """Write the page as Markdown; texts of users are escaped."""
    for part in page:
        if isinstance(part, PageTable):
            escape = lru_cache(escape_markdown)  # most columns of a long table repeat a few texts
            rows = [[_mark(cell, "**{}**", escape) for cell in row] for row in part.rows]
            left = _text_columns(part)
            yield f"| {' | '.join(map(escape_markdown, part.columns))} |"
            yield f"| {' | '.join('---' if place in left else '---:' for place in range(len(part.columns)))} |"
            yield from (f"| {' | '.join(row)} |" for row in rows)
        elif isinstance(part, Heading):
            yield f"### {escape_markdown(part.text)}"
        elif isinstance(part, Note):
            yield f"- {escape_markdown(part.text)}"
        else:
            yield part


def escape_markdown(text: str) -> str:
    """Escape a text, in one line, for a cell or a sentence in Markdown."""
    return _MARKDOWN.sub(lambda found: f"\\{found[0]}", " ".join(text.split()))


def latex_lines(page: Page) -> Iterator[str]:
    """Write each table as a `tabular` for the package booktabs; all else as comments, one line each."""
    for part in page:
        if not isinstance(part, PageTable):
            text = part if isinstance(part, str) else part.text
            yield f"% {' '.join(text.split())}" if text else ""
            continue
        left = _text_columns(part)
        yield rf"\begin{{tabular}}{{{''.join('l' if place in left else 'r' for place in range(len(part.columns)))}}}"
        yield r"\toprule"
        yield _latex_row(map(latex_escaped, part.columns))
        yield r"\midrule"
        for row in part.rows:
            yield _latex_row(_mark(cell, r"\textbf{{{}}}", latex_escaped) for cell in row)
        yield r"\bottomrule"
        yield r"\end{tabular}"


def _latex_row(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def latex_escaped(text: str) -> str:
    """Escape a text for LaTeX; brackets are grouped, because one after `\\\\` would be an option."""
    return "".join(_LATEX.get(sign, sign) for sign in text)


def terminal_lines(page: Page, width: int, *, wide: bool = False) -> Iterator[str]:
    """Write the page for a screen of this width: the usual columns, cut if they do not fit; `wide`: all, uncut."""
    hidden: dict[str, None] = {}
    has_best = False
    for part in page:
        if isinstance(part, PageTable):
            lines, left_out = _align(part, width, wide=wide)
            yield from lines
            hidden.update(dict.fromkeys(left_out))
            has_best = has_best or any(isinstance(cell, Strong) for row in part.rows for cell in row)
        elif isinstance(part, Note):
            yield from textwrap.wrap(one_line(part.text), width, initial_indent="- ", subsequent_indent="  ")
        else:
            yield one_line(part.text if isinstance(part, Heading) else part)
    if has_best:
        yield f"{STAR.strip()} the best of its column, or a tie with it"
    if hidden:
        yield f"not shown: {', '.join(hidden)}; all columns: --wide"


def records(page: Page) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the names of the fields of all tables, and their rows as records.

    The first field is the heading above the table, if any. A table without rows has fields, too.
    """
    fields: dict[str, None] = {}
    found: list[dict[str, Any]] = []
    title: dict[str, Any] = {}
    for part in page:
        if isinstance(part, Heading):
            title = {TABLE_KEY: part.text}
        elif isinstance(part, PageTable):
            names: Iterable[str] = _distinct(part.columns)
            rows: Sequence[Mapping[str, Any]] = [dict(zip(names, row, strict=True)) for row in part.rows]
            if part.records is not None:
                rows, names = part.records, (name for row in part.records for name in row)
            fields |= dict.fromkeys([*title, *names])
            found += [{**title, **row} for row in rows]
    return list(fields), found


def csv_lines(page: Page) -> Iterator[str]:
    """Write a header and one record per row as CSV; a record may have line breaks inside quotes."""
    names, rows = records(page)
    lines: list[list[object]] = [[*names], *([row.get(name) for name in names] for row in rows)]
    for values in lines:
        text = io.StringIO()
        csv.writer(text, lineterminator="").writerow(["" if value is None else _csv_cell(value) for value in values])
        yield text.getvalue()


def json_lines(page: Page) -> Iterator[str]:
    """Write one JSON list of objects; numbers that are not finite are null."""
    _, found = records(page)
    rows = [{name: _finite(value) for name, value in row.items()} for row in found]
    yield json.dumps(rows, ensure_ascii=False, indent=1, default=str)


def parquet_bytes(page: Page) -> bytes:
    """Write the records as one Parquet file."""
    import pyarrow as pa
    from pyarrow import parquet

    names, rows = records(page)
    sink = io.BytesIO()
    parquet.write_table(pa.table({name: [row.get(name) for row in rows] for name in names}), sink)
    return sink.getvalue()


TEXTS: Mapping[str, Callable[[Page], Iterator[str]]] = MappingProxyType(
    {"markdown": markdown_lines, "latex": latex_lines, "csv": csv_lines, "json": json_lines}
)
"""Name of a text format -> the function that writes it; the terminal and Parquet are separate."""


def one_line(value: object) -> str:
    """Write a value in one line, without terminal control sequences."""
    if value is None:
        return ""
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return printable(text).replace("\n", "\\n").replace("\t", "\\t") + (STAR if isinstance(value, Strong) else "")


def _align(table: PageTable, width: int, *, wide: bool) -> tuple[list[str], list[str]]:
    """Align a table, numbers right and all else left; return its lines and the names of the columns left out."""
    every = range(len(table.columns))
    shown = [*(table.usual or every), *(place for place in every if wide and table.usual and place not in table.usual)]
    left = _text_columns(table)
    cells = [[one_line(row[place]) for place in every] for row in (table.columns, *table.rows)]
    widths = {place: max(cell_len(row[place]) for row in cells) for place in every}
    while not wide and (excess := sum(widths[place] + len(GAP) for place in shown) - len(GAP) - width) > 0:
        widest = max((place for place in shown if place in left), key=widths.__getitem__, default=None)
        if widest is not None and widths[widest] > LEAST_WIDTH:
            widths[widest] = max(LEAST_WIDTH, widths[widest] - excess)
        elif len(shown) > 1:
            shown.pop()
        else:
            break
    lines = [
        GAP.join(_pad(row[place], widths[place], right=place not in left) for place in shown).rstrip() for row in cells
    ]
    lines.insert(1, "─" * (sum(widths[place] + len(GAP) for place in shown) - len(GAP)))
    return lines, [table.columns[place] for place in every if place not in shown]


def _text_columns(table: PageTable) -> Sequence[int]:
    if table.words is not None:
        return [*table.words]
    places = range(len(table.columns))
    return [place for place in places if not all(isinstance(row[place], Number | None) for row in table.rows)]


def _pad(text: str, width: int, *, right: bool) -> str:
    if cell_len(text) > width:
        text = set_cell_size(text, width - 1) + "…"
    space = " " * (width - cell_len(text))
    return space + text if right else text + space


def _mark(cell: object, strong: str, escape: Callable[[str], str]) -> str:
    text = escape("" if cell is None else str(cell))
    return strong.format(text) if isinstance(cell, Strong) else text


def _distinct(names: Sequence[str]) -> list[str]:
    """Make names distinct: the second of two equal ones gets the name before it in brackets, or else its number."""
    found: list[str] = []
    for place, name in enumerate(names):
        offered = (name, f"{name} ({names[place - 1]})", *(f"{name} ({number})" for number in range(2, place + 2)))
        found.append(next(one for one in offered if one not in found))
    return found


def _csv_cell(value: object) -> object:
    """Put an apostrophe before a text that a spreadsheet would take for a formula; "+1.5" stays a number."""
    if not isinstance(value, str) or not value.startswith(FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
