"""A table to publish as Markdown, as LaTeX and as CSV; what users or papers wrote is escaped."""

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from results.arms.printed import Printed
from results.publish.published_table import Cell, Column, Published
from results.text import csv_cells
from results.text.markdown import escaped, note_lines, table_lines
from results.text.number_format import NOTHING, SCALES

_LATEX = MappingProxyType(
    {
        "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "_": r"\_", "%": r"\%",
        "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
        "|": r"\textbar{}", "±": r"$\pm$", "²": r"$^2$", "–": "--", "…": r"\ldots{}", "\n": " ", "\r": " ",
        '"': r"\textquotedbl{}", "[": "{[}", "]": "{]}",
    }
)  # fmt: skip
CSV_COLUMNS = (
    "row", "network", "dataset", "train_images", "metric", "statistic", "n", "planned_seeds", "value", "low", "high",
    "place", "p_adjusted", "smallest_p", "failed_seeds", "printed_in",
)  # fmt: skip


def latex_escaped(text: str) -> str:
    """The same text for LaTeX: no sign of it is a command; brackets are grouped, or one after `\\\\` were an option."""
    return "".join(_LATEX.get(sign, sign) for sign in text)


def markdown_lines(table: Published) -> Iterator[str]:
    """A Markdown table with its notes as a list."""
    rows = [
        [
            escaped(row.name),
            *(_marked(cell, column, "**{}**", escaped) for cell, column in zip(row.cells, table.columns, strict=True)),
        ]
        for row in table.rows
    ]
    yield from table_lines(["", *(escaped(_head(column)) for column in table.columns)], rows)
    yield ""
    yield from note_lines(table.notes)


def latex_lines(table: Published) -> Iterator[str]:
    """A LaTeX `tabular` for the package booktabs; the notes are comments below it, one line each."""
    yield rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}"
    yield r"\toprule"
    yield rf" & {' & '.join(latex_escaped(_head(column)) for column in table.columns)} \\"
    yield r"\midrule"
    for row in table.rows:
        pairs = zip(row.cells, table.columns, strict=True)
        cells = [_marked(cell, column, r"\textbf{{{}}}", latex_escaped) for cell, column in pairs]
        yield rf"{latex_escaped(row.name)} & {' & '.join(cells)} \\"
    yield r"\bottomrule"
    yield r"\end{tabular}"
    for note in table.notes:
        yield f"% {' '.join(note.split())}"


def csv_lines(table: Published) -> Iterator[str]:
    """One record per cell with all digits; the notes are not in it."""
    yield _record(CSV_COLUMNS)
    for row in table.rows:
        for cell, column in zip(row.cells, table.columns, strict=True):
            if cell is not None:
                yield _record((row.name, *_where(column), *_fields(cell)))


FORMATS: Mapping[str, Callable[[Published], Iterator[str]]] = MappingProxyType(
    {"markdown": markdown_lines, "latex": latex_lines, "csv": csv_lines}
)
"""Name of a format -> what writes it."""


def _head(column: Column) -> str:
    return f"{column.title}, {SCALES[column.metric].mark}"


def _marked(cell: Cell | Printed | None, column: Column, bold: str, escape: Callable[[str], str]) -> str:
    """A cell as text; bold where it is the best or a tie."""
    text = escape(_text(cell, column))
    return bold.format(text) if isinstance(cell, Cell) and cell.place in ("best", "tie") else text


def _text(cell: Cell | Printed | None, column: Column) -> str:
    scale = SCALES[column.metric]
    if cell is None:
        return NOTHING
    if isinstance(cell, Printed):
        return scale.value(cell.value)
    found, (seeds, planned) = cell.value, cell.seeds
    text = scale.value(found.value)
    if found.value is not None and found.low is not None and found.high is not None:
        if found.statistic == "mean":
            text += f" ± {scale.value((found.high - found.low) / 2)}"
        else:
            text += f" IQM, {scale.value(found.low)} … {scale.value(found.high)}"
    counted = f"{seeds} of {planned}" if seeds < planned else str(seeds)
    counted += f", {cell.failed} failed" if cell.failed else ""
    return f"{text} ({counted}){' =' if cell.place == 'tie' else ''}"


def _where(column: Column) -> tuple[object, ...]:
    problem = column.problem
    return (
        *(("", "", "") if problem is None else (problem.network, problem.dataset, problem.train_images or "")),
        column.metric,
    )


def _fields(cell: Cell | Printed) -> tuple[object, ...]:
    if isinstance(cell, Printed):
        return ("printed", "", "", cell.value, "", "", "", "", "", "", f"{cell.paper}, {cell.place}")
    found = cell.value
    return (
        found.statistic, found.n, cell.seeds[1], found.value, found.low, found.high,
        cell.place, cell.p, cell.smallest_p, cell.failed, "",
    )  # fmt: skip


def _record(values: tuple[object, ...]) -> str:
    """One CSV record, which may have line breaks inside quotes."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(["" if value is None else csv_cells.cell(value) for value in values])
    return text.getvalue()
