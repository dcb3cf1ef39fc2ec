"""Stacked bars: an amount in parts, row by row."""

from collections.abc import Sequence
from dataclasses import dataclass

from results.figures.axes import axis, tick
from results.figures.svg import TEXT_PX, WIDTH, Drawing, Svg, shorten

_ROW, _TOP, _BOTTOM, _MOST_NAME = 25, 10, 46, 240


@dataclass(frozen=True)
class Bar:
    """One row: its name, its parts from the left (one for each series), and its row of the data."""

    name: str
    parts: Sequence[float]
    row: int


def bars(title: str, label: str, rows: Sequence[Bar], colours: Sequence[str]) -> Drawing:
    """Draw the figure; `colours` has one class for each part."""
    svg = Svg(_TOP + _ROW * len(rows) + _BOTTOM)
    left = min(max((len(row.name) for row in rows), default=0) * TEXT_PX + 16, _MOST_NAME)
    across = axis([sum(row.parts) for row in rows], left, WIDTH - 16, label, zero=True)
    bottom = _TOP + _ROW * len(rows) + 2
    for value in across.ticks(10):
        svg.line(across(value), _TOP - 4, across(value), bottom, "grid")
        svg.text(across(value), bottom + 16, tick(value), "middle", "tick")
    svg.text((across.start + across.end) / 2, bottom + 35, label, "middle", "label")
    for place, row in enumerate(rows):
        y = _TOP + _ROW * place + 3
        svg.text(left - 8, y + _ROW / 2 + 1, shorten(row.name, left), "end", "name")
        start = 0.0
        for series, part in enumerate(row.parts):
            svg.series(series, colours[series])
            svg.rect(across(start), y, across(start + part) - across(start), _ROW - 6, "block")
            svg.end()
            start += part
        svg.hit(across(0.0), y, row.row, across(start) - across(0.0), _ROW - 6)
    return svg.drawing(title)
