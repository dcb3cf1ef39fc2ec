"""A page as text for a terminal, Markdown or LaTeX; and its tables and notes, for programs, as JSON, CSV or Parquet."""

import csv
import io
import json
import math
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len, set_cell_size

from results.columns import Column
from results.text.page import Heading, Note, Page, Strong, Table, TableRecord
from transtailor.terminal import printable

if TYPE_CHECKING:
    import pandas
    import pyarrow as pa

LEAST_WIDTH = 16  # characters that a column of texts keeps on a narrow screen: a trial's id
GAP = "  "
STAR = " *"
TABLE_KEY = "table"  # the column that names a record's table, in one file of several tables
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
        if isinstance(part, Table):
            if part.shown:
                yield from _markdown_table(part)
        elif isinstance(part, Heading):
            yield f"### {escape_markdown(part.text)}"
        elif isinstance(part, Note):
            yield f"- {escape_markdown(part.text)}"
        else:
            yield part


def _markdown_table(table: Table) -> Iterator[str]:
    escape = lru_cache(escape_markdown)  # most columns of a long table repeat a few texts
    left = table.texts
    rules = ["---" if place in left else "---:" for place in range(len(table.headings))]
    yield f"| {' | '.join(map(escape, table.headings))} |"
    yield f"| {' | '.join(rules)} |"
    for row in table.rows:
        yield f"| {' | '.join(_mark(cell, '**{}**', escape) for cell in row)} |"


def escape_markdown(text: str) -> str:
    """Escape a text, in one line, for a cell or a sentence in Markdown."""
    return _MARKDOWN.sub(lambda match: f"\\{match[0]}", " ".join(text.split()))


def latex_lines(page: Page) -> Iterator[str]:
    """Write each table as a `tabular` for the package booktabs; all else as comments, one line each."""
    for part in page:
        if isinstance(part, Table):
            if part.shown:
                yield from _latex_table(part)
        else:
            text = part if isinstance(part, str) else part.text
            yield f"% {' '.join(text.split())}" if text else ""


def _latex_table(table: Table) -> Iterator[str]:
    left = table.texts
    alignment = "".join("l" if place in left else "r" for place in range(len(table.headings)))
    yield rf"\begin{{tabular}}{{{alignment}}}"
    yield r"\toprule"
    yield _latex_row(map(latex_escaped, table.headings))
    yield r"\midrule"
    for row in table.rows:
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
        if isinstance(part, Table):
            if not part.shown:
                continue
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


def _has_strong_cell(table: Table) -> bool:
    for row in table.rows:
        for cell in row:
            if isinstance(cell, Strong):
                return True
    return False


@dataclass(frozen=True)
class Answer:
    """What programs get of a page: its tables by name, each with all of its records, and its notes."""

    tables: Mapping[str, Table]
    notes: Sequence[str]


def answer_of(page: Page) -> Answer:
    """Return what programs get of a page. A note about one of several problems begins with that problem."""
    tables: dict[str, Table] = {}
    notes = []
    for part in page:
        if isinstance(part, Note):
            notes.append(f"{part.about}: {part.text}" if part.about else part.text)
        elif isinstance(part, Table) and part.name:
            before = tables[part.name].records if part.name in tables else ()
            tables[part.name] = replace(part, records=[*before, *part.records])
    return Answer(tables, notes)


def json_lines(page: Page) -> Iterator[str]:
    """Write one JSON object, {"tables": {name: [record, ...]}, "notes": [...]}; not finite numbers are null."""
    answer = answer_of(page)
    tables = {}
    for name, table in answer.tables.items():
        names = [column.name for column in table.columns]
        tables[name] = [{name: _finite(record[name]) for name in names} for record in table.records]
    yield json.dumps({"tables": tables, "notes": answer.notes}, ensure_ascii=False, indent=1, default=_json_text)


def csv_lines(page: Page) -> Iterator[str]:
    """Write a header and one line per record as CSV, `table` first if there are several; texts may have line breaks."""
    table = one_table(answer_of(page))
    names = [column.name for column in table.columns]
    yield _csv_line(names)
    for record in table.records:
        yield _csv_line([record.get(name) for name in names])


def one_table(answer: Answer) -> Table:
    """Join the tables of an answer: with the column `table`, if they are several, and the columns of all of them."""
    if len(answer.tables) == 1:
        (table,) = answer.tables.values()
        return table
    columns = {TABLE_KEY: Column(TABLE_KEY, "string", meaning="name of the record's table")}
    records: list[TableRecord] = []
    for name, table in answer.tables.items():
        names = [column.name for column in table.columns]
        for column in table.columns:
            columns.setdefault(column.name, column)
        for record in table.records:
            records.append({TABLE_KEY: name} | {key: record[key] for key in names})
    return Table(columns=list(columns.values()), records=records)


def _csv_line(values: Iterable[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(["" if value is None else _csv_cell(value) for value in values])
    return text.getvalue()


def arrow_table(table: Table, notes: Sequence[str] = ()) -> "pa.Table":
    """Return the records as a table of Arrow, whose metadata have the notes as JSON."""
    import pyarrow as pa

    from results.arrow_types import TYPES

    fields = []
    columns = []
    for column in table.columns:
        values = [record.get(column.name) for record in table.records]
        array = pa.array(values) if column.type_name not in TYPES else pa.array(values, column.type)
        columns.append(array)
        fields.append(pa.field(column.name, array.type, metadata={"unit": column.unit, "meaning": column.meaning}))
    return pa.table(columns, pa.schema(fields, {"notes": json.dumps(notes, ensure_ascii=False)}))


def frame_of(table: Table) -> "pandas.DataFrame":
    """Return the records as a pandas table, in which a number that is null is not a number."""
    frame: pandas.DataFrame = arrow_table(table).to_pandas()
    return frame


def parquet_bytes(page: Page) -> bytes:
    """Write the records as one Parquet file, with the columns of `one_table`; its metadata have the notes as JSON."""
    from pyarrow import parquet

    answer = answer_of(page)
    sink = io.BytesIO()
    parquet.write_table(arrow_table(one_table(answer), answer.notes), sink)
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


def _align(table: Table, width: int, *, wide: bool) -> tuple[list[str], list[str]]:
    """Align a table, numbers right and all else left; return its lines and the headings of the columns left out."""
    columns = range(len(table.headings))
    shown = table.usual_places
    if wide:
        shown += [column for column in columns if column not in shown]
    left = table.texts
    headings = list(map(one_line, table.headings))
    rows = [list(map(one_line, row)) for row in table.rows]
    whole, uncut, least = [], [], []  # widths: of all in a line; of a heading in lines of words; of texts that are cut
    for column in columns:
        cells = max((cell_len(row[column]) for row in rows), default=0)
        word = max(map(cell_len, headings[column].split()), default=1)
        whole.append(max(cells, word, cell_len(headings[column])))
        uncut.append(max(cells, word))
        least.append(max(min(cells, LEAST_WIDTH), word) if column in left else max(cells, word))
    widths = whole
    while not wide:
        widths = _fit(_fit(whole, uncut, shown, width), least, shown, width)
        if _line_width(widths, shown) <= width or len(shown) == 1:
            break
        shown.pop()
    words = [textwrap.wrap(headings[column], widths[column]) if column in shown else [] for column in columns]
    height = max(map(len, words), default=0)
    ending_together = [[""] * (height - len(of_column)) + of_column for of_column in words]
    lines = []
    for cells_of_line in [*zip(*ending_together, strict=True), *rows]:
        padded = [_pad(cells_of_line[column], widths[column], right=column not in left) for column in shown]
        lines.append(GAP.join(padded).rstrip())
    lines.insert(height, "─" * _line_width(widths, shown))
    return lines, [table.headings[column] for column in columns if column not in shown]


def _fit(widths: Sequence[int], least: Sequence[int], shown: Sequence[int], width: int) -> list[int]:
    """Return the widths with columns cut to these least ones, the widest first, so that a line fits if it can."""
    fitted = list(widths)
    while (too_much := _line_width(fitted, shown) - width) > 0:
        may_be_cut = [column for column in shown if fitted[column] > least[column]]
        if not may_be_cut:
            break
        widest = max(may_be_cut, key=fitted.__getitem__)
        fitted[widest] = max(least[widest], fitted[widest] - too_much)
    return fitted


def _line_width(widths: Sequence[int], shown: Sequence[int]) -> int:
    return sum(widths[column] + len(GAP) for column in shown) - len(GAP)


def _pad(text: str, width: int, *, right: bool) -> str:
    if cell_len(text) > width:
        begin = (width - 1) // 2  # both ends stay: names that begin alike differ at their ends
        text = set_cell_size(text, begin) + "…" + set_cell_size(text[::-1], width - 1 - begin)[::-1]
    space = " " * (width - cell_len(text))
    return space + text if right else text + space


def _mark(cell: object, strong: str, escape: Callable[[str], str]) -> str:
    text = escape("" if cell is None else str(cell))
    return strong.format(text) if isinstance(cell, Strong) else text


def _csv_cell(value: object) -> object:
    """Put an apostrophe before a text that a spreadsheet would take for a formula; "+1.5" stays a number."""
    if not isinstance(value, str) or not value.startswith(FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def _json_text(value: object) -> str:
    """Write what JSON has no kind of value for: a moment in ISO 8601, all else as its text."""
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _finite(value: Any) -> Any:
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
