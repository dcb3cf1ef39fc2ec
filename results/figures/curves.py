"""Curves with bands, in panels."""

from collections.abc import Sequence
from dataclasses import dataclass

from results.figures.axes import Axis, axis, frame
from results.figures.svg import WIDTH, Drawing, Svg

_HEIGHT, _TOP, _BOTTOM, _LEFT, _ABOVE = 270, 30, 46, 62, 10
_COLUMNS = 2


@dataclass(frozen=True)
class Curve:
    """One curve: positions across, values, the two ends of the band, and the row of the data of each position."""

    series: int
    colour: str
    across: Sequence[float]
    values: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    rows: Sequence[int]


@dataclass(frozen=True)
class Panel:
    """Curves that share their axes."""

    name: str
    across: str  # counted in whole numbers
    up: str
    curves: Sequence[Curve]


def curves(title: str, panels: Sequence[Panel]) -> Drawing:
    """Draw all panels, two in a row."""
    lines = -(-len(panels) // _COLUMNS)
    svg = Svg(lines * _HEIGHT + _ABOVE)
    columns = min(len(panels), _COLUMNS)
    width = WIDTH / columns
    for place, panel in enumerate(panels):
        left = (place % columns) * width
        top = (place // columns) * _HEIGHT + _ABOVE
        svg.text(left + _LEFT, top + 14, panel.name, "start", "heading")
        ends = (top + _HEIGHT - _BOTTOM, top + _TOP)
        xs = [x for curve in panel.curves for x in curve.across]
        across = axis(xs, left + _LEFT, left + width - 14, panel.across, whole=True)
        up = axis([y for curve in panel.curves for y in (*curve.low, *curve.high)], *ends, panel.up)
        frame(svg, across, up)
        for curve in panel.curves:
            _curve(svg, across, up, curve, bands=len(panel.curves) <= 12)
    return svg.drawing(title)


def _curve(svg: Svg, across: Axis, up: Axis, curve: Curve, *, bands: bool) -> None:
    """Draw one curve; without `bands` its band is only shown when it is pointed at."""
    svg.series(curve.series, curve.colour)
    xs = [across(x) for x in curve.across]
    low = [(x, up(y)) for x, y in zip(xs, curve.low, strict=True)]
    high = [(x, up(y)) for x, y in zip(xs, curve.high, strict=True)]
    svg.polyline([*low, *reversed(high)], "band" if bands else "band many", closed=True)
    places = [(x, up(y)) for x, y in zip(xs, curve.values, strict=True)]
    svg.polyline(places, "curve" if bands else "curve many")
    if len(places) == 1:
        svg.dots(places, "faint")
    for (x, y), row in zip(places, curve.rows, strict=True):
        svg.hit(x, y, row)
    svg.end()
