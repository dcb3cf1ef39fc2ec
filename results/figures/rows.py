"""Rows of dots: a name on the left, and in each panel a value with its interval."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from results.figures.axes import Axis, axis_of_most, tick
from results.figures.svg import TEXT_PX, WIDTH, Drawing, Svg, shorten

_ROW, _TOP, _BOTTOM, _GAP, _MOST_NAME = 21, 14, 46, 22, 320
_BESIDE = 8
"""Pixels between the marks of one row."""
_BELOW = 5.5
"""Single values are drawn this many pixels below their mean, so that its interval does not hide them."""


@dataclass(frozen=True)
class Mark:
    """One value in a row.

    Attributes:
        value: as drawn; a value that is not finite is left out.
        series: number in the legend.
        colour: its colour class.
        row: of the data, or None; shown when pointed at, unless `words` are given.
        low, high: ends of its interval, or None.
        dots: single values behind it, each with its row of the data.
        hollow: drawn as a ring, for a result that is not settled.
    """

    value: float
    series: int
    colour: str
    row: int | None = None
    words: str = ""
    low: float | None = None
    high: float | None = None
    dots: Sequence[tuple[float, int]] = ()
    hollow: bool = False


@dataclass(frozen=True)
class Line:
    """One row: its name, and the marks of each panel. Without marks it is a heading."""

    name: str
    marks: Sequence[Sequence[Mark]] = ()


def rows_of_dots(
    title: str, panels: Sequence[str], lines: Sequence[Line], *, zero: bool = False, shared: bool = False
) -> Drawing:
    """Draw the figure.

    Args:
        title: for screen readers.
        panels: what each shows across, with the unit; at least one.
        lines: from top to bottom; each has marks for all panels, or is a heading.
        zero: whether to draw a line at 0.
        shared: whether all panels have the same scale.
    """
    heights = [_height(line) for line in lines]
    middles = [_TOP + sum(heights[:place]) + height / 2 for place, height in enumerate(heights)]
    svg = Svg(_TOP + sum(heights) + _BOTTOM)
    left = min(max((len(line.name) for line in lines), default=0) * TEXT_PX + 18, _MOST_NAME)
    width = (WIDTH - left - 12 - _GAP * (len(panels) - 1)) / len(panels)
    marks = [_finite(lines, number) for number in range(len(panels))]
    for number, label in enumerate(panels):
        start = left + number * (width + _GAP)
        of_panel = [mark for one in marks for mark in one] if shared else marks[number]
        across = axis_of_most([*_extent(of_panel), *([0.0] if zero else [])], start, start + width, label)
        svg.beyond = across.beyond if shared else svg.beyond + across.beyond
        _panel(svg, across, svg.height - _BOTTOM + 4, zero=zero)
        for line, middle in zip(lines, middles, strict=True):
            if line.marks:
                _draw(svg, across, middle, line.marks[number])
    for line, middle in zip(lines, middles, strict=True):
        if line.marks:
            svg.text(left - 10, middle + 4, shorten(line.name, left), "end", "name")
        else:
            svg.text(0.0, middle + 4, shorten(line.name, WIDTH), "start", "heading")
    return svg.drawing(title)


def _height(line: Line) -> float:
    most = max((len(marks) for marks in line.marks), default=1)
    return max(_ROW, _BESIDE * most + 8)


def _finite(lines: Sequence[Line], panel: int) -> list[Mark]:
    return [mark for line in lines if line.marks for mark in line.marks[panel] if math.isfinite(mark.value)]


def _extent(marks: Sequence[Mark]) -> list[float]:
    found = [mark.value for mark in marks]
    found += [value for mark in marks for value in (mark.low, mark.high) if value is not None and math.isfinite(value)]
    return found + [value for mark in marks for value, _ in mark.dots if math.isfinite(value)]


def _panel(svg: Svg, across: Axis, bottom: float, *, zero: bool) -> None:
    for value in across.ticks(max(2, int((across.end - across.start) / 48))):
        svg.line(across(value), _TOP - 4, across(value), bottom, "grid")
        svg.text(across(value), bottom + 16, tick(value), "middle", "tick")
    if zero:
        svg.line(across(0.0), _TOP - 4, across(0.0), bottom, "zero")
    svg.text((across.start + across.end) / 2, bottom + 35, across.label, "middle", "label")


def _draw(svg: Svg, across: Axis, middle: float, marks: Sequence[Mark]) -> None:
    """Draw the marks of one row, each a little below the one before it."""
    for place, mark in enumerate(marks):
        if not math.isfinite(mark.value):
            continue
        y = middle + _BESIDE * (place - (len(marks) - 1) / 2)
        svg.series(mark.series, mark.colour)
        single = [(across(value), row) for value, row in mark.dots if math.isfinite(value)]
        svg.dots([(x, y + _BELOW) for x, _ in single], "faint small")
        for x, row in single:
            svg.hit(x, y + _BELOW, row)
        if mark.low is not None and mark.high is not None:
            svg.line(across(mark.low), y, across(mark.high), y, "interval")
        kind = "mean hollow" if mark.hollow else "mean"
        if across.low <= mark.value <= across.high:
            svg.circle(across(mark.value), y, 4.2, kind)
        else:
            svg.wedge(across(mark.value), y, -6.0 if mark.value < across.low else 6.0, 0.0, kind)
        if mark.words:
            svg.note(across(mark.value), y, mark.words)
        elif mark.row is not None:
            svg.hit(across(mark.value), y, mark.row)
        svg.end()
