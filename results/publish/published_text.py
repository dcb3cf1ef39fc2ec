"""A table to publish as a page, and as one record per cell for programs."""

from collections.abc import Iterator

from results.arms.printed import PrintedPoint
from results.publish.published_table import Cell, Published, PublishedColumn
from results.text.number_format import NOTHING, SCALES
from results.text.page import Note, PageTable, Part, Strong

RECORD = (
    "row", "network", "dataset", "train_images", "metric", "statistic", "n", "planned_seeds", "value", "low", "high",
    "place", "p_adjusted", "smallest_p", "failed_seeds", "printed_in",
)  # fmt: skip


def published_page(table: Published) -> Iterator[Part]:
    """Yield the table with its notes; the best of a column and its ties are bold. For programs: one record per cell."""
    rows = [
        (row.name, *(_mark_best(cell, column) for cell, column in zip(row.cells, table.columns, strict=True)))
        for row in table.rows
    ]
    cells = [
        dict(zip(RECORD, (row.name, *_column_place(column), *_fields(cell)), strict=True))
        for row in table.rows
        for cell, column in zip(row.cells, table.columns, strict=True)
        if cell is not None
    ]
    heads = [f"{column.title}, {SCALES[column.metric].mark}" for column in table.columns]
    yield PageTable(columns=["", *heads], rows=rows, records=cells)
    yield ""
    yield from map(Note, table.notes)


def _mark_best(cell: Cell | PrintedPoint | None, column: PublishedColumn) -> str:
    text = _text(cell, column)
    return Strong(text) if isinstance(cell, Cell) and cell.place in ("best", "tie") else text


def _text(cell: Cell | PrintedPoint | None, column: PublishedColumn) -> str:
    scale = SCALES[column.metric]
    if cell is None:
        return NOTHING
    if isinstance(cell, PrintedPoint):
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


def _column_place(column: PublishedColumn) -> tuple[object, ...]:
    problem = column.problem
    return (
        *((None, None, None) if problem is None else (problem.network, problem.dataset, problem.train_images or None)),
        column.metric,
    )


def _fields(cell: Cell | PrintedPoint) -> tuple[object, ...]:
    if isinstance(cell, PrintedPoint):
        return ("printed", None, None, cell.value, *[None] * 6, f"{cell.paper}, {cell.place}")
    found = cell.value
    return (
        found.statistic, found.n, cell.seeds[1], found.value, found.low, found.high,
        cell.place, cell.p, cell.smallest_p, cell.failed, None,
    )  # fmt: skip
