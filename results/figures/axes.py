"""Axes: from values to pixels, with round numbers at the ticks."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from results.figures.svg import Svg


@dataclass(frozen=True)
class Axis:
    """A straight scale.

    Attributes:
        low, high: values at its two ends.
        start, end: pixels of the two ends.
        label: what it shows, with the unit.
        whole: whether only whole numbers have a meaning.
        beyond: number of values outside its ends; they are drawn at the ends.
    """

    low: float
    high: float
    start: float
    end: float
    label: str = ""
    whole: bool = False
    beyond: int = 0

    def __call__(self, value: float) -> float:
        """Return the pixel of a value; for a value outside, that of the nearest end."""
        value = min(max(value, self.low), self.high)
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self, most: int = 6) -> list[float]:
        """Return about `most` round values on the axis."""
        step = _round_step((self.high - self.low) / most)
        if self.whole:
            step = max(step, 1.0)
        first = math.ceil(self.low / step - 1e-9)
        return [round(place * step, 12) for place in range(first, math.floor(self.high / step + 1e-9) + 1)]


def axis(
    values: Iterable[float], start: float, end: float, label: str = "", *, zero: bool = False, whole: bool = False
) -> Axis:
    """Make an axis for all these (finite) values with some space around them; with `zero` it begins at 0."""
    found = list(values)
    low, high = (min(found), max(found)) if found else (0.0, 1.0)
    if zero:
        low = min(low, 0.0)
    air = 0.05 * (high - low) if high - low > 1e-12 else abs(high) / 50 or 0.5
    return Axis(low if zero and low == 0 else low - air, high + air, start, end, label, whole)


def axis_of_most(values: Iterable[float], start: float, end: float, label: str = "") -> Axis:
    """Make an axis that a few outliers do not compress.

    Take the range of the middle four fifths, widened by 1.5 times its length on both sides. If it is less than half of
    the whole range, the axis ends with the last values inside it.
    """
    found = sorted(values)
    if len(found) < 8:
        return axis(found, start, end, label)
    low, high = found[len(found) // 10], found[-1 - len(found) // 10]
    reach = 1.5 * (high - low)
    inside = [value for value in found if low - reach <= value <= high + reach]
    if reach == 0 or inside[-1] - inside[0] > (found[-1] - found[0]) / 2:
        return axis(found, start, end, label)
    return replace(axis(inside, start, end, label), beyond=len(found) - len(inside))


def frame(svg: Svg, across: Axis, up: Axis, *, up_ticks: bool = True) -> None:
    """Draw grid, ticks and labels of a panel: `across` grows to the right, `up` to the top."""
    for value in across.ticks(max(2, int(abs(across.end - across.start) / 70))):
        svg.line(across(value), up.start, across(value), up.end, "grid")
        svg.text(across(value), up.start + 16, tick(value), "middle", "tick")
    for value in up.ticks(max(2, int(abs(up.end - up.start) / 45))):
        svg.line(across.start, up(value), across.end, up(value), "grid")
        if up_ticks:
            svg.text(across.start - 7, up(value) + 4, tick(value), "end", "tick")
    svg.line(across.start, up.start, across.end, up.start, "axis")
    svg.text((across.start + across.end) / 2, up.start + 35, across.label, "middle", "label")
    if up_ticks and up.label:
        svg.text(across.start - 44, (up.start + up.end) / 2, up.label, "middle", "label", turned=True)


def tick(value: float) -> str:
    """Write a number at a tick, shortened."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size * (10 if letter == "k" else 1):
            return f"{value / size:g}{letter}"
    return f"{value:g}".replace("-", "−")


def _round_step(least: float) -> float:
    power = 10.0 ** math.floor(math.log10(least)) if least > 0 else 1.0
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))
