"""Pydantic's errors in terms of the TOML that a user wrote: keys of tables, and the value given there."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from transtailor.names import closest

if TYPE_CHECKING:
    from pydantic import ValidationError

_BRANCH_OF_UNION = re.compile(r"[\[(]|^(int|bool|str)$")  # pydantic adds it to the keys of a fault; it is no key


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
    """All mistakes, in pydantic's order."""
    kinds: dict[str, Literal["unknown", "missing"]] = {"extra_forbidden": "unknown", "missing": "missing"}
    return [
        Fault(
            keys=tuple(str(part) for part in fault["loc"] if not _BRANCH_OF_UNION.search(str(part))),
            kind=kinds.get(fault["type"], "wrong"),
            expected=fault["msg"].removeprefix("Value error, ").replace("a valid tuple", "a list, in [ ]")
            + _percentage(fault)
            + _choice(fault),
            given=fault["input"],
        )
        for fault in error.errors()
    ]


def fraction(text: str) -> float:
    """Parse a number from 0 to below 1 that was typed after an option.

        >>> fraction("0.2")
        0.2

    Raises:
        ValueError: it is not; for a percentage the text says what to type.
    """
    typed = re.fullmatch(r"\s*(\d*\.?\d+(?:[eE][-+]?\d+)?)\s*(%?)\s*", text)
    number = float(typed[1]) if typed else -1.0
    if typed and not typed[2] and number < 1:
        return number
    is_percentage = typed and number < 100 and (typed[2] or number > 1)
    hint = f"; for {number:g}% type {number / 100:g}" if is_percentage else ""
    raise ValueError(f"{text!r}: expected a fraction from 0 to below 1{hint}")


def _choice(fault: Any) -> str:
    """The nearest of the words that a text may be: "Adam" for 'sgd' or 'adam'."""
    if fault["type"] != "literal_error" or not isinstance(fault["input"], str):
        return ""
    close = closest(fault["input"], re.findall(r"'([^']*)'", fault["ctx"]["expected"]))
    return "" if close is None else f"; did you mean {close!r}?"


def _percentage(fault: Any) -> str:
    """What to type if a fraction was given in per cent: 20, "20%"."""
    given = fault["input"]
    if isinstance(given, str) and fault["type"].startswith("float"):
        per_cent = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", given)
        return f"; type {float(per_cent[1]) / 100:g}" if per_cent else ""
    limit = fault.get("ctx", {}).get("lt", fault.get("ctx", {}).get("le"))
    is_one = isinstance(given, int | float) and limit == 1 and 2 <= given <= 100
    return f"; it is a fraction: for {given:g}% type {given / 100:g}" if is_one else ""
