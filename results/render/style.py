"""The look of figures: a colour and a shape for each arm, the same in all figures of a run."""

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from results.arms.comparison import TRANSTAILOR
from results.arms.names import BASELINE
from results.text.number_format import Scale

PALETTE = (
    *("#2f78c8", "#d9651f", "#2a9368", "#b352a0", "#a27b06"),
    *("#6f63d9", "#cf3f45", "#4c98a8", "#7d8a3a", "#b5718a"),
)
SHAPES = ("circle", "square", "diamond", "triangle-up", "cross", "triangle-right", "triangle-left")
SIGNS = "●■◆▲✚▶◀"
"""The shapes as letters, for tables."""
GREY = "#76808c"
WIDTH = 1000
"""Pixels of a figure without its labels; the report's page fits it to the window."""
_LETTER = 6.4  # pixels of a letter, on average
_MOST_NAME = 400  # pixels of a name; an arm's has at most 60 letters
_MOST_TICKS = 10  # of an axis of whole numbers

CONFIG: dict[str, Any] = {
    "font": "system-ui, -apple-system, Segoe UI, Roboto, Helvetica Neue, Arial, sans-serif",
    "axis": {"labelFontSize": 11, "titleFontSize": 12, "titleFontWeight": "normal", "gridColor": "#e1e5ea"},
    "view": {"stroke": None},
    "title": {"anchor": "start", "fontSize": 13, "subtitleFontSize": 11},
    "legend": {"labelLimit": _MOST_NAME, "symbolOpacity": 1, "symbolLimit": 0, "orient": "top"},
    "header": {"labelFontWeight": "bold", "labelAnchor": "start", "labelLimit": WIDTH},
}
"""Of a figure on white; the report's page has one of its own, by day and by night."""


def order_arms(methods: Mapping[str, str]) -> list[str]:
    """Return the arms in the order of their colours: TransTailor and full fine-tuning look alike in every report."""
    return sorted(methods, key=lambda arm: (methods[arm] != TRANSTAILOR, methods[arm] != BASELINE, arm))


def arm_channels(
    methods: Mapping[str, str], shown: Collection[str], *, with_shape: bool = True, legend: bool = True
) -> dict[str, Any]:
    """Return the channels `color` and `shape` by arm; ten colours and seven shapes tell 70 arms apart.

    Args:
        methods: name of an arm -> method, of the whole run.
        shown: arms of this figure; others are not in its legend. One that the run does not have is grey.
    """
    numbers = {arm: number for number, arm in enumerate(order_arms(methods))}
    arms = sorted(shown, key=lambda arm: numbers.get(arm, len(numbers)))
    colours = [PALETTE[numbers[arm] % len(PALETTE)] if arm in numbers else GREY for arm in arms]
    shapes = [SHAPES[numbers.get(arm, 0) % len(SHAPES)] for arm in arms]
    shared = {"field": "arm", "type": "nominal"}
    box = {"title": None, "columns": 6} if legend else None
    channels = {"color": shared | {"scale": {"domain": arms, "range": colours}, "legend": box}}
    if with_shape:
        channels["shape"] = shared | {"scale": {"domain": arms, "range": shapes}, "legend": box}
    return channels


def names_width(names: Collection[str]) -> float:
    """Return the pixels that these names need to the left of a figure."""
    return min(max(map(len, names), default=0) * _LETTER + 20, _MOST_NAME)


def row_axis(*, labels: bool = True) -> dict[str, Any] | None:
    """Return the axis of rows with names, from the top; None, which is no axis, without labels."""
    if not labels:
        return None
    return {"title": None, "labelLimit": _MOST_NAME, "ticks": False, "domain": False}


def quantity(field: str, title: str | None = None, **more: Any) -> dict[str, Any]:
    """Return a channel of numbers whose axis need not begin at 0."""
    return {"field": field, "type": "quantitative", "title": title, "scale": {"zero": False}, **more}


def score_domain(scale: Scale, low: float, high: float) -> list[float]:
    """Return the ends of an axis of scores with some air, in their unit; an axis of accuracies stays in 0 to 100%."""
    air = 0.04 * (high - low) or 0.01
    lowest = low - air
    highest = high + air
    is_accuracy = scale.factor != 1.0
    if is_accuracy:
        lowest = max(lowest, 0.0)
    if is_accuracy or high <= 1.0:
        highest = min(highest, 1.0)
    return [round(scale.factor * lowest, 6), round(scale.factor * highest, 6)]


def score_channel(field: str, title: str, scale: Scale, scores: Iterable[float | None], **more: Any) -> dict[str, Any]:
    """Return a channel of scores whose axis has all of these, as fractions; None and what is not finite is left out.

    The ends of an interval can be above 100%. They are cut off there, so a mark of them needs `"clip": True`.
    """
    shown = [score for score in scores if score is not None and math.isfinite(score)]
    if not shown:
        return quantity(field, title, **more)
    axis_scale = {"zero": False, "domain": score_domain(scale, min(shown), max(shown))}
    return quantity(field, title, scale=axis_scale, **more)


def whole_axis(numbers: Iterable[int]) -> dict[str, Any]:
    """Return an axis from the least to the largest of these numbers, with each tick a whole number.

    Vega chooses steps of a half where there is room, even with `tickMinStep`, and `"format": "d"` then repeats numbers.
    """
    values = sorted(set(numbers))
    if not values:
        return {"format": "d"}
    low, high = values[0], values[-1]
    step = whole_step(high - low)
    first = -(-low // step) * step  # the least multiple that is not below `low`
    return {"values": list(range(first, high + 1, step)), "format": "d"}


def whole_step(span: int) -> int:
    """Return the least of 1, 2, 5, 10, 20, 50, ... that has at most ten steps in the span.

    >>> [whole_step(span) for span in (0, 10, 11, 60, 200)]
    [1, 1, 2, 10, 20]
    """
    power = 1
    while True:
        for factor in (1, 2, 5):
            if span <= _MOST_TICKS * factor * power:
                return factor * power
        power *= 10


def shading(share: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the colours of cells, and of the text in them, by a field with a share from 0 to 1."""
    fill = {"field": share, "type": "quantitative", "legend": None,
            "scale": {"domain": [0, 1], "clamp": True, "range": ["#f2f5f9", PALETTE[0]]}}  # fmt: skip
    ink = {"condition": {"test": f"datum.{share} > 0.55", "value": "white"}, "value": "#1b2330"}
    return fill, ink


def tooltip(**fields: str) -> list[dict[str, Any]]:
    """Return what is shown when a mark is pointed at: field -> its name, with a format behind "|" for a number."""
    lines = []
    for field, words in fields.items():
        title, _, form = words.partition("|")
        kind = {"type": "quantitative", "format": form} if form else {"type": "nominal"}
        lines.append({"field": field, "title": title, **kind})
    return lines
