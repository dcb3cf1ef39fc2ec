"""The look of figures: a colour and a shape for each arm, the same in all figures of a run."""

from collections.abc import Collection, Mapping
from typing import Any

from results.arms.comparison import BASELINE, TRANSTAILOR
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
_LETTER, _MOST_NAME = 6.4, 400  # an arm's name has at most 60 letters

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
    """Names of arms in the order of their colours: TransTailor and full fine-tuning look alike in every report."""
    return sorted(methods, key=lambda arm: (methods[arm] != TRANSTAILOR, methods[arm] != BASELINE, arm))


def arm_channels(
    methods: Mapping[str, str], shown: Collection[str], *, with_shape: bool = True, legend: bool = True
) -> dict[str, Any]:
    """The channels `color` and `shape` by arm; ten colours and seven shapes tell 70 arms apart.

    Args:
        methods: name of an arm -> method, of the whole run.
        shown: arms of this figure; others are not in its legend. One that the run does not have is grey.
    """
    places = {arm: place for place, arm in enumerate(order_arms(methods))}
    arms = sorted(shown, key=lambda arm: places.get(arm, len(places)))
    colours = [PALETTE[places[arm] % len(PALETTE)] if arm in places else GREY for arm in arms]
    shapes = [SHAPES[places.get(arm, 0) % len(SHAPES)] for arm in arms]
    shared = {"field": "arm", "type": "nominal"}
    box = {"title": None, "columns": 6} if legend else None
    channels = {"color": shared | {"scale": {"domain": arms, "range": colours}, "legend": box}}
    if with_shape:
        channels["shape"] = shared | {"scale": {"domain": arms, "range": shapes}, "legend": box}
    return channels


def names_width(names: Collection[str]) -> float:
    """Pixels that these names need to the left of a figure."""
    return min(max(map(len, names), default=0) * _LETTER + 20, _MOST_NAME)


def row_axis(*, labels: bool = True) -> dict[str, Any] | None:
    """The axis of rows with names, from the top."""
    return {"title": None, "labelLimit": _MOST_NAME, "ticks": False, "domain": False} if labels else None


def quantity(field: str, title: str | None = None, **more: Any) -> dict[str, Any]:
    """A channel of numbers whose axis need not begin at 0."""
    return {"field": field, "type": "quantitative", "title": title, "scale": {"zero": False}, **more}


def score_domain(scale: Scale, low: float, high: float) -> list[float]:
    """The ends of an axis of scores with some air, in their unit; an accuracy's ends at 100%."""
    air = 0.04 * (high - low) or 0.01
    high = min(high + air, 1.0) if scale.factor != 1.0 or high <= 1.0 else high + air
    return [round(scale.factor * end, 6) for end in (low - air, high)]


def told(**fields: str) -> list[dict[str, Any]]:
    """What is shown when a mark is pointed at: field -> its name, with a format behind "|" where it is a number."""
    shown = []
    for field, words in fields.items():
        title, _, form = words.partition("|")
        kind = {"type": "quantitative", "format": form} if form else {"type": "nominal"}
        shown.append({"field": field, "title": title, **kind})
    return shown
