"""Which trial ran where and when: one lane for each slot of each machine."""

from collections.abc import Sequence
from dataclasses import dataclass

from results.figures.axes import Axis, tick
from results.figures.svg import TEXT_PX, WIDTH, Drawing, Svg, shorten

_TOP, _BOTTOM, _MOST_NAME, _MOST_LANES = 22, 46, 170, 120


@dataclass(frozen=True)
class Span:
    """One attempt: the machine, its start and end in the figure's unit, its series and colour, its row of the data."""

    place: str
    start: float
    end: float
    series: int
    colour: str
    row: int


@dataclass(frozen=True)
class Moment:
    """Something that happened at one moment, and its text when pointed at."""

    at: float
    words: str


def lanes_of(spans: Sequence[Span]) -> list[tuple[str, list[Span]]]:
    """Assign each span to the first lane of its machine that is free when it starts; sorted by machine."""
    lanes: dict[str, list[list[Span]]] = {}
    for span in sorted(spans, key=lambda span: (span.start, span.row)):
        of_place = lanes.setdefault(span.place, [])
        free = next((lane for lane in of_place if lane[-1].end <= span.start + 1e-9), None)
        if free is None:
            of_place.append([span])
        else:
            free.append(span)
    return [(place, lane) for place in sorted(lanes) for lane in lanes[place]]


def timeline(title: str, label: str, spans: Sequence[Span], moments: Sequence[Moment]) -> Drawing:
    """Draw the figure, with at most the first 120 lanes.

    Args:
        title: for screen readers.
        label: of the axis of time.
        spans: at least one.
        moments: drawn as small marks on top.
    """
    lanes = lanes_of(spans)[:_MOST_LANES]
    row = 20 if len(lanes) <= 24 else 9
    svg = Svg(_TOP + row * len(lanes) + _BOTTOM)
    left = min(max(len(place) for place, _ in lanes) * TEXT_PX + 14, _MOST_NAME)
    end = max([span.end for span in spans] + [moment.at for moment in moments])
    across = Axis(0.0, end or 1.0, left, WIDTH - 16, label)
    bottom = _TOP + row * len(lanes) + 2
    for value in across.ticks(12):
        svg.line(across(value), _TOP - 4, across(value), bottom, "grid")
        svg.text(across(value), bottom + 16, tick(value), "middle", "tick")
    svg.text((across.start + across.end) / 2, bottom + 35, label, "middle", "label")
    for place, (name, _) in enumerate(lanes):
        y = _TOP + row * place
        svg.rect(left, y + 1, across.end - left, row - 2, "lane")
        if place == 0 or lanes[place - 1][0] != name:
            svg.text(left - 8, y + row / 2 + 4, shorten(name, left), "end", "name")
    _spans(svg, across, lanes, row)
    for moment in moments:
        x = across(moment.at)
        svg.polyline([(x - 4, _TOP - 12), (x + 4, _TOP - 12), (x, _TOP - 4)], "moment", closed=True)
        svg.note(x - 4, _TOP - 12, moment.words, 8, 8)
    return svg.drawing(title)


def _spans(svg: Svg, across: Axis, lanes: Sequence[tuple[str, Sequence[Span]]], row: float) -> None:
    """Draw all bars of a series as one element."""
    found: dict[tuple[int, str], list[tuple[float, float, float]]] = {}
    for place, (_, lane) in enumerate(lanes):
        y = _TOP + row * (place + 0.5)
        for span in lane:
            x1, x2 = across(span.start), across(span.end)
            gap = 0.6 if x2 - x1 > 3 else 0.0
            found.setdefault((span.series, span.colour), []).append((x1, x2 - gap, y))
            svg.hit(x1, y - row / 2, span.row, x2 - x1, row)
    for (series, colour), bars in sorted(found.items()):
        svg.series(series, colour)
        svg.bars(bars, "bar", row - 3)
        svg.end()
