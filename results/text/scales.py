"""The values of columns as people read them: each column in `columns.json` names its scale."""

from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

from results.text.number_format import NOTHING, SCALES, number, p_text, percent

DIGITS = 6
"""Significant digits of a number without a scale."""


def scaled(value: Any, scale: str, metric: str | None = None) -> str:
    """Write a value of a column; a dash for None.

    Args:
        scale: a key of `SCALED`, with the number of decimals where it takes one: "number:3".
        metric: what the scores of its record are.

    >>> scaled(0.8512, "score", "accuracy"), scaled(-0.01, "difference", "accuracy"), scaled(0.2, "percent:1")
    ('85.12', '-1.00', '20.0')
    """
    if value is None:
        return NOTHING
    name, _, digits = scale.partition(":")
    return SCALED[name](value, digits or metric)


def cell(value: object) -> str:
    """Write a value without a scale."""
    if value is None:
        return NOTHING
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value)
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S UTC")
    if isinstance(value, float):
        return f"{value:.{DIGITS}g}"
    return str(value)


def _large(value: float) -> str:
    """Write a number of any size: whole from 1,000 on, below with four digits."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


SCALED: Mapping[str, Callable[[Any, Any], str]] = MappingProxyType(
    {
        "": lambda value, _: cell(value),
        "score": lambda value, metric: SCALES[metric].value(value),
        "difference": lambda value, metric: SCALES[metric].difference(value),
        "percent": lambda value, digits: percent(value, int(digits)),
        "number": lambda value, digits: number(value, int(digits)),
        "count": lambda value, _: f"{value:,}",
        "large": lambda value, _: _large(value),
        "p": lambda value, _: p_text(value),
        "flag": lambda value, _: "yes" if value else "",
    }
)
"""Name of a scale -> how it writes a value, with the decimals asked for or the metric of the record."""
