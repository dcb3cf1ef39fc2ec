"""Numbers as text: scores of classes and shares of MACs in per cent, R squared as it is."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from results.statistics.means import Mean

NOTHING = "–"


def number(value: float | None, digits: int = 2, *, signed: bool = False) -> str:
    """Write a number with thousands separators; a dash for None, and "not a number" for NaN."""
    if value is None:
        return NOTHING
    if math.isnan(value):
        return "not a number"
    return f"{value:{'+' if signed else ''}z,.{digits}f}"  # z: no minus before what rounds to 0


def p_text(p: float | None) -> str:
    """Write a p value with three digits; a dash for None."""
    return NOTHING if p is None else f"{p:.3g}"


def percent(fraction: float | None, digits: int = 2) -> str:
    """Write a fraction in per cent, without the sign."""
    return number(None if fraction is None else 100 * fraction, digits)


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How the scores of one metric are written.

    Attributes:
        unit, difference_unit: follow a value, or a difference, in a text.
        axis_unit, difference_axis_unit: the same on a figure's axes, in brackets.
        is_right: SQL on a row of `predictions`; the score is the share of the images for which it holds. "": the score
            is no mean over images, so nothing can be said of single images.
        is_usual: whether scores are this where nobody chose a metric; the heads of tables name it else.
    """

    noun: str  # what a score is called
    factor: float  # a score is multiplied with it before it is shown
    digits: int  # number of decimals
    mark: str  # the unit in a table's head, after "validation" or "test"
    unit: str
    difference_unit: str
    axis_unit: str
    difference_axis_unit: str
    is_right: str = ""
    is_usual: bool = True

    def value(self, score: float | None) -> str:
        """Write a score, without its unit."""
        return number(None if score is None else self.factor * score, self.digits)

    def difference(self, difference: float | None) -> str:
        """Write a difference of scores, with its sign and without its unit."""
        return number(None if difference is None else self.factor * difference, self.digits, signed=True)

    def interval(self, mean: "Mean", *, signed: bool = False) -> str:
        """Write the 95% interval of a mean; a dash if it has none."""
        if mean.low is None or mean.high is None:
            return NOTHING
        write = self.difference if signed else self.value
        return f"{write(mean.low)} … {write(mean.high)}"


def _in_percent(noun: str, is_right: str = "", *, is_usual: bool = False) -> Scale:
    return Scale(
        noun=noun,
        factor=100.0,
        digits=2,
        mark="%" if is_usual else f"{noun} %",
        unit="%",
        difference_unit=" points",
        axis_unit=" (%)",
        difference_axis_unit=" (percentage points)",
        is_right=is_right,
        is_usual=is_usual,
    )


SCALES: Mapping[str, Scale] = MappingProxyType(
    {
        "accuracy": _in_percent("accuracy", "predictions.label = prediction", is_usual=True),
        "balanced_accuracy": _in_percent("balanced accuracy"),
        "macro_f1": _in_percent("macro F1"),
        "top_5": _in_percent("top-5 accuracy", "true_rank <= 5"),
        "r_squared": Scale(
            noun="R²",
            factor=1.0,
            digits=4,
            mark="R²",
            unit="",
            difference_unit=" in R²",
            axis_unit="",
            difference_axis_unit="",
        ),
    }
)
"""Metric (as `operating_points` names it) -> how its scores are written."""
