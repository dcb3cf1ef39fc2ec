"""A drawing: SVG elements, and the places on it that a reader can point at.

Colours are in the page's style sheet: a drawing only names classes, `c0` to `c9` for series, so one drawing serves
light, dark and print. Lengths are in pixels of a page on a laptop; the browser scales them.
"""

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

WIDTH = 1040
"""The width of every figure, so that all have the same text size."""
TEXT_PX = 6.6
"""Mean width of a letter of the figures' text."""

Hit = tuple[float, float, float, float, int]
"""Left, top, width and height of a place that can be pointed at (a dot has no size), and what it shows: from 0, a row
of the figure's data; -1 is the first of the figure's notes, -2 the second."""


@dataclass(frozen=True)
class Drawing:
    """A figure without its frame: the SVG element, the places that can be pointed at, and their notes.

    `beyond` is the number of values outside the axes; they are drawn at the edge.
    """

    svg: str
    hits: list[Hit]
    notes: list[str]
    beyond: int = 0


@dataclass(frozen=True)
class Key:
    """One entry of a legend: the series' number in the figure, its name, its colour class and its form."""

    series: int
    name: str
    colour: str
    form: str = "dot"  # or "ring", "bar"


class Svg:
    """Collects elements from the back to the front."""

    def __init__(self, height: float, width: float = WIDTH) -> None:
        self.width = width
        self.height = height
        self.hits: list[Hit] = []
        self.notes: list[str] = []
        self.beyond = 0
        self._parts: list[str] = []

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str) -> None:
        """Draw a straight line; `kind` is a class of the style sheet."""
        self._parts.append(f'<path class="{kind}" d="M{_px(x1)} {_px(y1)}L{_px(x2)} {_px(y2)}"/>')

    def polyline(self, places: Sequence[tuple[float, float]], kind: str, *, closed: bool = False) -> None:
        """Draw a line through these places, or the area inside them."""
        if places:
            middle = "L".join(f"{_px(x)} {_px(y)}" for x, y in places)
            self._parts.append(f'<path class="{kind}" d="M{middle}{"Z" if closed else ""}"/>')

    def dots(self, places: Iterable[tuple[float, float]], kind: str) -> None:
        """Draw many round dots as one element: thousands of elements would make the page slow."""
        if path := "".join(f"M{_px(x)} {_px(y)}h0" for x, y in places):
            self._parts.append(f'<path class="{kind}" d="{path}"/>')

    def bars(self, spans: Iterable[tuple[float, float, float]], kind: str, height: float) -> None:
        """Draw many horizontal bars (left, right, middle) as one element."""
        if path := "".join(f"M{_px(x1)} {_px(y)}H{_px(max(x2, x1 + 0.6))}" for x1, x2, y in spans):
            self._parts.append(f'<path class="{kind}" stroke-width="{_px(height)}" d="{path}"/>')

    def rect(self, x: float, y: float, width: float, height: float, kind: str, opacity: float | None = None) -> None:
        """Draw a filled rectangle."""
        faint = "" if opacity is None else f' fill-opacity="{opacity:.2f}"'
        self._parts.append(
            f'<rect class="{kind}"{faint} x="{_px(x)}" y="{_px(y)}" width="{_px(width)}" height="{_px(height)}"/>'
        )

    def circle(self, x: float, y: float, radius: float, kind: str) -> None:
        """Draw one dot."""
        self._parts.append(f'<circle class="{kind}" cx="{_px(x)}" cy="{_px(y)}" r="{_px(radius)}"/>')

    def wedge(self, x: float, y: float, right: float, down: float, kind: str) -> None:
        """Draw a small triangle that points to a value outside the axis, `right` or `down` pixels long."""
        across, along = (0.0, 4.0) if right else (4.0, 0.0)
        self.polyline([(x + right, y + down), (x - across, y - along), (x + across, y + along)], kind, closed=True)

    def text(self, x: float, y: float, words: str, anchor: str = "start", kind: str = "", turned: bool = False) -> None:
        """Write text at a place; `turned` reads upwards."""
        turn = f' transform="rotate(-90 {_px(x)} {_px(y)})"' if turned else ""
        named = f' class="{kind}"' if kind else ""
        self._parts.append(
            f'<text{named} x="{_px(x)}" y="{_px(y)}" text-anchor="{anchor}"{turn}>{html.escape(words)}</text>'
        )

    def series(self, number: int, colour: str) -> None:
        """Begin the elements of a series, which the legend can bring to the front."""
        self._parts.append(f'<g class="series {colour}" data-series="{number}">')

    def end(self) -> None:
        """End the elements of a series."""
        self._parts.append("</g>")

    def hit(self, x: float, y: float, row: int, width: float = 0.0, height: float = 0.0) -> None:
        """Make a place show a row of the data."""
        self.hits.append((round(x, 1), round(y, 1), round(width, 1), round(height, 1), row))

    def note(self, x: float, y: float, words: str, width: float = 0.0, height: float = 0.0) -> None:
        """Make a place show this text."""
        self.notes.append(words)
        self.hit(x, y, -len(self.notes), width, height)

    def drawing(self, title: str) -> Drawing:
        """Return the whole drawing; the title is for screen readers."""
        opening = (
            f'<svg viewBox="0 0 {_px(self.width)} {_px(self.height)}" role="img" aria-label="{html.escape(title)}">'
        )
        return Drawing(f"{opening}{''.join(self._parts)}</svg>", self.hits, self.notes, self.beyond)


def shorten(words: str, width: float) -> str:
    """Cut a text so that it fits into this many pixels."""
    letters = max(int(width / TEXT_PX), 2)
    return words if len(words) <= letters else words[: letters - 1].rstrip() + "…"


def _px(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
