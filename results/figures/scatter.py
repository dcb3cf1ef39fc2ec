"""The score against what a sub-model costs: every operating point, the means of the arms, and their front."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from results.figures.axes import Axis, axis, axis_of_most, frame
from results.figures.svg import WIDTH, Drawing, Svg

_HEIGHT, _TOP, _BOTTOM, _LEFT, _GAP = 380, 12, 44, 62, 26


@dataclass(frozen=True)
class Series:
    """One label: its number in the legend, its colour class, and the row of the data of each of its points."""

    number: int
    colour: str
    rows: Sequence[int]


@dataclass(frozen=True)
class ArmMean:
    """The mean of an arm: the number of its series, its cost, its score as drawn, and its text when pointed at."""

    series: int
    cost: float
    score: float
    is_on_front: bool
    words: str


@dataclass(frozen=True)
class CostAxis:
    """The x axis of one panel: the cost of each row (None: not known), and the means of the arms."""

    label: str
    values: Sequence[float | None]
    means: Sequence[ArmMean]


def scatter(
    title: str, up_label: str, scores: Sequence[float | None], series: Sequence[Series], costs: Sequence[CostAxis]
) -> Drawing:
    """Draw one panel for each cost, all with the same score axis; a line joins the means on the front.

    Args:
        title: for screen readers.
        up_label: what the scores are, with the unit.
        scores: of each row of the data, as drawn; None or not finite: not drawn.
        series: the labels, drawn in this order.
        costs: at least one; `values` as long as `scores`.
    """
    svg = Svg(_HEIGHT)
    up = axis_of_most(_finite(scores), _HEIGHT - _BOTTOM, _TOP, up_label)
    svg.beyond = up.beyond
    width = (WIDTH - _LEFT - 10 - _GAP * (len(costs) - 1)) / len(costs)
    panels = []
    for place, cost in enumerate(costs):
        start = _LEFT + place * (width + _GAP)
        values = [*cost.values, *(mean.cost for mean in cost.means)]
        across = axis(_finite(values), start, start + width, cost.label)
        frame(svg, across, up, up_ticks=place == 0)
        _front(svg, across, up, [mean for mean in cost.means if mean.is_on_front])
        panels.append((across, cost))
    for one in series:
        svg.series(one.number, one.colour)
        for across, cost in panels:
            _points(svg, across, up, one.rows, cost.values, scores)
        for across, cost in panels:
            for mean in cost.means:
                if mean.series == one.number:
                    _mean(svg, across, up, mean)
        svg.end()
    return svg.drawing(title)


def _front(svg: Svg, across: Axis, up: Axis, means: Sequence[ArmMean]) -> None:
    """Draw the front as steps: the best score up to each cost."""
    places: list[tuple[float, float]] = []
    for mean in sorted(means, key=lambda mean: mean.cost):
        x, y = across(mean.cost), up(mean.score)
        if places:
            places.append((x, places[-1][1]))
        places.append((x, y))
    if places:
        svg.polyline([*places, (across.end, places[-1][1])], "front")


def _points(
    svg: Svg, across: Axis, up: Axis, rows: Sequence[int], values: Sequence[float | None],
    scores: Sequence[float | None],
) -> None:  # fmt: skip
    places = []
    for row in rows:
        value, score = values[row], scores[row]
        if value is not None and score is not None and math.isfinite(value) and math.isfinite(score):
            places.append((across(value), up(score)))
            svg.hit(*places[-1], row)
    svg.dots(places, "faint" if len(scores) < 1000 else "faint small")


def _mean(svg: Svg, across: Axis, up: Axis, mean: ArmMean) -> None:
    x, y = across(mean.cost), up(mean.score)
    if up.low <= mean.score <= up.high:
        svg.circle(x, y, 4.2, "mean")
    else:
        svg.wedge(x, y, 0.0, 6.0 if mean.score < up.low else -6.0, "mean")
    svg.note(x, y, mean.words)


def _finite(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None and math.isfinite(value)]
