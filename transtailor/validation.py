"""Translate pydantic's errors into the terms of the TOML that a user wrote: the keys, and the value given there."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from transtailor.names import closest

if TYPE_CHECKING:
    from pydantic import ValidationError

TABLE = "a table of settings"
# Pydantic adds it to the keys of a fault; it is no key.
_BRANCH_OF_UNION = re.compile(r"[\[(]|^(int|bool|str|constrained-\w+)$")


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One mistake.

    Attributes:
        kind: a key that does not exist, a required key that is absent, or a wrong value.
    """

    keys: tuple[str, ...]  # those of the tables above it and its own; empty if only the combination of values is wrong
    kind: Literal["unknown", "missing", "wrong"]
    expected: str  # what is wrong with the value, as a message
    given: Any  # the value

    @property
    def key(self) -> str:
        """The key as it is typed after `--set`."""
        return ".".join(self.keys)


def list_faults(error: "ValidationError") -> list[Fault]:
    """Return all mistakes, in pydantic's order."""
    return [_fault_of(details) for details in error.errors()]


def _fault_of(details: Any) -> Fault:
    """Return a mistake that pydantic describes with a dictionary."""
    kinds: dict[str, Literal["unknown", "missing"]] = {"extra_forbidden": "unknown", "missing": "missing"}
    location = [str(part) for part in details["loc"]]
    message = details["msg"].removeprefix("Value error, ").replace("a valid tuple", "a list, in [ ]")
    message = re.sub(r"a valid dictionary or instance of \w+", TABLE, message)
    return Fault(
        keys=tuple(part for part in location if not _BRANCH_OF_UNION.search(part)),
        kind=kinds.get(details["type"], "wrong"),
        expected=message + _percentage_hint(details) + _choice_hint(details),
        given=details["input"],
    )


def fraction(text: str) -> float:
    """Parse a number from 0 to below 1 that was typed after an option.

        >>> fraction("0.2")
        0.2

    Raises:
        ValueError: it is not; for a percentage the text says what to type.
    """
    mistake = f"{text!r}: expected a fraction below 1, such as 0.2"
    typed = re.fullmatch(r"\s*(\d*[.,]?\d+(?:[eE][-+]?\d+)?)\s*(%?)\s*", text)
    if typed is None:
        raise ValueError(mistake)
    number = float(typed[1].replace(",", "."))
    has_percent_sign = typed[2] == "%"
    if number < 1 and not has_percent_sign:
        if "," in text:
            raise ValueError(f"{mistake}; type {number:g}")
        return number
    is_percentage = number < 100 and (has_percent_sign or number > 1)
    if is_percentage:
        mistake += f"; for {number:g}% type {number / 100:g}"
    raise ValueError(mistake)


def _choice_hint(details: Any) -> str:
    """Return a hint at the nearest of the words that a text may be, such as 'adam' for "Adam"; "" if none is near."""
    if details["type"] != "literal_error" or not isinstance(details["input"], str):
        return ""
    words = re.findall(r"'([^']*)'", details["ctx"]["expected"])
    close = closest(details["input"], words)
    return "" if close is None else f"; did you mean {close!r}?"


def _percentage_hint(details: Any) -> str:
    """Return what to type for a fraction in per cent (20, "20%"), or a number in quotes; "" for others."""
    value = details["input"]
    if isinstance(value, str) and details["type"].startswith("int"):
        return f"; type {int(value)}, without quotes" if re.fullmatch(r"\s*-?\d+\s*", value) else ""
    if isinstance(value, str) and details["type"].startswith("float"):
        number = re.fullmatch(r"\s*(-?\d*[.,]?\d+(?:[eE][-+]?\d+)?)\s*(%?)\s*", value)
        return f"; type {float(number[1].replace(',', '.')) / (100 if number[2] else 1):g}" if number else ""
    context = details.get("ctx", {})
    limit = context.get("lt", context.get("le"))
    is_percentage = isinstance(value, int | float) and limit == 1 and 2 <= value <= 100
    return f"; it is a fraction: for {value:g}% type {value / 100:g}" if is_percentage else ""
