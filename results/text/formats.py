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
            rules = ["---" if index in left else "---:" for index in range(len(part.columns))]
            yield f"| {' | '.join(map(escape_markdown, part.columns))} |"
            yield f"| {' | '.join(rules)} |"
            for row in rows:
                yield f"| {' | '.join(row)} |"
        elif isinstance(part, Heading):
            yield f"### {escape_markdown(part.text)}"
        elif isinstance(part, Note):
            yield f"- {escape_markdown(part.text)}"
        else:
            yield part


def escape_markdown(text: str) -> str:
    """Escape a text, in one line, for a cell or a sentence in Markdown."""
    return _MARKDOWN.sub(lambda match: f"\\{match[0]}", " ".join(text.split()))


def latex_lines(page: Page) -> Iterator[str]:
    """Write each table as a `tabular` for the package booktabs; all else as comments, one line each."""
    for part in page:
        if not isinstance(part, PageTable):
            text = part if isinstance(part, str) else part.text
            yield f"% {' '.join(text.split())}" if text else ""
            continue
        left = _text_columns(part)
        alignment = "".join("l" if index in left else "r" for index in range(len(part.columns)))
        yield rf"\begin{{tabular}}{{{alignment}}}"
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
    hidden: list[str] = []
    has_best = False
    for part in page:
        if isinstance(part, PageTable):
            lines, left_out = _align(part, width, wide=wide)
            yield from lines
            for column in left_out:
                if column not in hidden:
                    hidden.append(column)
            has_best = has_best or _has_strong_cell(part)
        elif isinstance(part, Note):
            yield from textwrap.wrap(one_line(part.text), width, initial_indent="- ", subsequent_indent="  ")
        else:
            yield one_line(part.text if isinstance(part, Heading) else part)
    if has_best:
        yield f"{STAR.strip()} the best of its column, or a tie with it"
    if hidden:
        yield f"not shown: {', '.join(hidden)}; all columns: --wide"


def _has_strong_cell(table: PageTable) -> bool:
    for row in table.rows:
        for cell in row:
            if isinstance(cell, Strong):
                return True
    return False


def records(page: Page) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the names of the fields of all tables, and their rows as records.

    The first field is the heading above the table, if any. A table without rows has fields, too.
    """
    fields: dict[str, None] = {}  # in the order in which they first occur
    all_rows: list[dict[str, Any]] = []
    title: dict[str, Any] = {}
    for part in page:
        if isinstance(part, Heading):
            title = {TABLE_KEY: part.text}
        elif isinstance(part, PageTable):
            fields |= dict.fromkeys(title)
            if part.records is None:
                names = _distinct(part.columns)
                rows: Sequence[Mapping[str, Any]] = [dict(zip(names, row, strict=True)) for row in part.rows]
                fields |= dict.fromkeys(names)
            else:
                rows = part.records
            for row in rows:
                fields |= dict.fromkeys(row)
                all_rows.append({**title, **row})
    return list(fields), all_rows


def csv_lines(page: Page) -> Iterator[str]:
    """Write a header and one record per row as CSV; a record may have line breaks inside quotes."""
    names, rows = records(page)
    yield _csv_line(names)
    for row in rows:
        yield _csv_line([row.get(name) for name in names])


def _csv_line(values: Iterable[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(["" if value is None else _csv_cell(value) for value in values])
    return text.getvalue()


def json_lines(page: Page) -> Iterator[str]:
    """Write one JSON list of objects; numbers that are not finite are null."""
    _, rows = records(page)
    finite_rows = []
    for row in rows:
        finite_rows.append({name: _finite(value) for name, value in row.items()})
    yield json.dumps(finite_rows, ensure_ascii=False, indent=1, default=str)


def parquet_bytes(page: Page) -> bytes:
    """Write the records as one Parquet file."""
    import pyarrow as pa
    from pyarrow import parquet

    names, rows = records(page)
    columns = {}
    for name in names:
        columns[name] = [row.get(name) for row in rows]
    sink = io.BytesIO()
    parquet.write_table(pa.table(columns), sink)
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
    columns = range(len(table.columns))
    shown = list(table.usual or columns)
    if wide:
        shown += [column for column in columns if column not in shown]
    left = _text_columns(table)
    lines_of_cells = [[one_line(cell) for cell in row] for row in (table.columns, *table.rows)]
    widths = [max(cell_len(cells[column]) for cells in lines_of_cells) for column in columns]

    def line_width() -> int:
        return sum(widths[column] + len(GAP) for column in shown) - len(GAP)

    while not wide and line_width() > width:
        shown_texts = [column for column in shown if column in left]
        widest = max(shown_texts, key=lambda column: widths[column], default=None)
        if widest is not None and widths[widest] > LEAST_WIDTH:
            widths[widest] = max(LEAST_WIDTH, widths[widest] - (line_width() - width))
        elif len(shown) > 1:
            shown.pop()
        else:
            break
    lines = []
    for cells in lines_of_cells:
        padded = [_pad(cells[column], widths[column], right=column not in left) for column in shown]
        lines.append(GAP.join(padded).rstrip())
    lines.insert(1, "─" * line_width())
    return lines, [table.columns[column] for column in columns if column not in shown]


def _text_columns(table: PageTable) -> Sequence[int]:
    """Return the indices of the columns of texts."""
    if table.words is not None:
        return list(table.words)
    texts = []
    for column in range(len(table.columns)):
        is_numeric = all(isinstance(row[column], Number | None) for row in table.rows)
        if not is_numeric:
            texts.append(column)
    return texts


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
    distinct: list[str] = []
    for index, name in enumerate(names):
        numbered = [f"{name} ({number})" for number in range(2, index + 2)]
        candidates = [name, f"{name} ({names[index - 1]})", *numbered]
        distinct.append(next(candidate for candidate in candidates if candidate not in distinct))
    return distinct


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
