"""The report's figures, as SVG to stand inside a page: their ink is the page's own colour, by day and by night."""

import contextlib
import html
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from results.comparison import BASELINE, TRANSTAILOR, Arm, Pairing, Point
from results.scale import SCALES, Scale

_INK = "#010203"
"""Stands for the page's text colour: drawn as this, then replaced by `currentColor`."""
_COLOURS = ("#2a7fd4", "#e0701a", "#1a9e77", "#c44fa8", "#b58a00", "#7a6ff0", "#d43f3f", "#5f8f9f")
_MARKERS = (("o", "●"), ("s", "■"), ("^", "▲"), ("D", "◆"), ("v", "▼"), ("P", "✚"), ("X", "✖"), ("*", "★"))
_MOST_VECTOR_POINTS = 3_000
"""Above so many faint points they are drawn as one picture, or the page would become slow."""
_APART = 1.2
"""Percentage points of MACs over which the labels' means are set apart, or their bars would hide each other."""
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "results",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10.5,
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}


@dataclass(frozen=True)
class LineStyle:
    """How a label is drawn in all figures: a colour, a marker, and the same marker as a letter for the legend."""

    colour: str
    marker: str
    letter: str


def styles_of(labels: Iterable[str]) -> dict[str, LineStyle]:
    """A style per label; full fine-tuning and TransTailor come first, so they look alike in every report."""
    ordered = sorted(set(labels), key=lambda label: (label != BASELINE, label != TRANSTAILOR, label))
    return {
        # The marker moves on by one more after each round of colours, so 64 labels stay apart.
        label: LineStyle(_COLOURS[place % 8], *_MARKERS[(place + place // 8) % 8])
        for place, label in enumerate(ordered)
    }


def score_against_macs(name: str, points: Sequence[Point], arms: Sequence[Arm], styles: dict[str, LineStyle]) -> str:
    """Test score against removed MACs in one problem: faint points, and the mean of each label with its interval.

    Args:
        name: distinguishes the figure from the others on the page; letters, digits and dashes.
        points: all operating points of the problem, at least one; their metric names the axis.
        arms: its arms; each is one mean, the arms of one label are joined.
        styles: from `styles_of`.
    """
    tips: dict[str, str] = {}
    scale = SCALES[points[0].metric]
    with _house_style():
        figure = Figure(figsize=(7.6, 4.4), layout="constrained")
        axes = figure.add_subplot()
        many = len(points) > _MOST_VECTOR_POINTS
        labels = sorted({arm.label for arm in arms})
        for place, label in enumerate(labels):
            style = styles[label]
            of_label = [point for point in points if point.label == label and point.test is not None]
            axes.plot(
                [100 * point.removed for point in of_label],
                [scale.factor * point.test for point in of_label if point.test is not None],
                linestyle="none", marker=style.marker, markersize=3.5, markeredgewidth=0,
                color=style.colour, alpha=0.3, rasterized=many,
            )  # fmt: skip
            aside = _APART * ((place + 0.5) / len(labels) - 0.5)
            _mean_line(axes, name, [arm for arm in arms if arm.label == label], scale, style, tips, aside)
        axes.set_xlabel("removed MACs (% of the unpruned network's)")
        axes.set_ylabel(f"test {scale.noun}{scale.axis_unit}")
        axes.grid(color=_INK, alpha=0.12, linewidth=0.6)
        return _svg(figure, name, f"Test {scale.noun} against removed MACs", tips)


def differences(name: str, pairings: Sequence[Pairing]) -> str:
    """Mean paired difference of each comparison with its 95% interval; what is settled is drawn full.

    Args:
        name: as above.
        pairings: of one metric; at least one, each with one pair or more.
    """
    tips: dict[str, str] = {}
    scale = SCALES[pairings[0].metric]
    with _house_style():
        figure = Figure(figsize=(7.6, 0.8 + 0.27 * len(pairings)), layout="constrained")
        axes = figure.add_subplot()
        axes.axvline(0, color=_INK, linewidth=0.8, alpha=0.6)
        for row, pairing in enumerate(pairings):
            found = pairing.result.difference
            centre = scale.factor * (found.mean or 0.0)
            colour = _COLOURS[0] if centre > 0 else _COLOURS[1]
            if found.low is not None and found.high is not None:
                ends = [scale.factor * found.low, scale.factor * found.high]
                axes.plot(ends, [row, row], color=colour, linewidth=1.6, alpha=0.8)
            fill = "none" if pairing.doubts else colour
            (dot,) = axes.plot([centre], [row], marker="o", markersize=6, color=colour, markerfacecolor=fill)
            dot.set_gid(f"tip{row}")
            tips[f"{name}-tip{row}"] = (
                f"{pairing.first}: {scale.difference(found.mean)}{scale.difference_unit}, n = {found.n}"
            )
        shown = [
            pairing.label if pairing.asked is None else f"{pairing.label}, {100 * pairing.asked:g}%"
            for pairing in pairings
        ]
        axes.set_yticks(range(len(pairings)), shown)
        for text in axes.get_yticklabels():
            text.set_parse_math(False)
        axes.set_ylim(len(pairings) - 0.4, -0.6)
        axes.set_xlabel(f"difference in test {scale.noun}{scale.difference_axis_unit}", loc="right")
        axes.grid(axis="x", color=_INK, alpha=0.12, linewidth=0.6)
        axes.tick_params(axis="y", length=0)
        return _svg(figure, name, f"Differences in test {scale.noun}", tips)


@contextlib.contextmanager
def _house_style() -> Iterator[None]:
    """Inside, figures look the same whatever the user's matplotlibrc says; afterwards all settings are as before."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def _mean_line(
    axes: Axes, name: str, arms: list[Arm], scale: Scale, style: LineStyle, tips: dict[str, str], aside: float
) -> None:
    """Draws the means of one label, joined in the order of their MACs, and notes what each tells on hovering."""
    drawn = sorted((arm for arm in arms if arm.test.mean is not None), key=lambda arm: arm.removed)
    across = [100 * arm.removed + aside for arm in drawn]
    up = [scale.factor * (arm.test.mean or 0.0) for arm in drawn]
    axes.plot(across, up, color=style.colour, linewidth=1.6)
    for arm, x, y in zip(drawn, across, up, strict=True):
        if arm.test.low is not None and arm.test.high is not None:
            low, high = scale.factor * arm.test.low, scale.factor * arm.test.high
            axes.errorbar(
                [x], [y], yerr=[[y - low], [high - y]], color=style.colour, capsize=2.5, linewidth=1, alpha=0.7
            )
        (dot,) = axes.plot([x], [y], marker=style.marker, markersize=6.5, color=style.colour)
        dot.set_gid(f"tip{len(tips)}")
        value = f"{scale.value(arm.test.mean)}{scale.unit}"
        tips[f"{name}-tip{len(tips)}"] = f"{arm}: {value} at {100 * arm.removed:.1f}% removed, n = {arm.test.n}"


def _svg(figure: Figure, name: str, title: str, tips: dict[str, str]) -> str:
    """The figure as an SVG element whose ids are its own on the page; the same numbers give the same bytes."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None}, dpi=150)
    text = stream.getvalue()
    text = text[text.index("<svg") :].replace(_INK, "currentColor")
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    text = re.sub(r'^<svg [^>]*?(viewBox="[^"]*")[^>]*>', rf'<svg \1 role="img" aria-label="{title}">', text, count=1)
    for gid, tip in tips.items():
        text = text.replace(f'<g id="{gid}">', f'<g id="{gid}"><title>{html.escape(tip)}</title>', 1)
    return text
