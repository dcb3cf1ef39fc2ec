"""Translate pydantic's errors into the terms of the TOML that a user wrote: the keys, and the value given there."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from transtailor.names import closest, nearest

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

TABLE = "a table of settings"
LONGEST_SHOWN = 200  # characters of a value
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


def model_in(annotation: Any) -> "type[BaseModel] | None":
    """Return the model of a table by the annotation of its field, also if optional or in a list; None: no table."""
    if hasattr(annotation, "model_fields"):
        return cast("type[BaseModel]", annotation)
    return next(filter(None, map(model_in, get_args(annotation))), None)


def explained(
    error: "ValidationError",
    where: Callable[[Fault], tuple[str, str]],
    valid_keys: Callable[[Sequence[str]], Iterable[str]],
    elsewhere: Mapping[str, str] = MappingProxyType({}),
    gone: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Return a line for each mistake: where, its key, what was given, what is expected, and the nearest name.

    Args:
        where: returns the place of a mistake, such as the file, and the key as it is typed there.
        valid_keys: returns the keys of the table at a path.
        elsewhere: as in `nearest`.
        gone: key that there was -> what takes its place.
    """
    lines = []
    for fault in list_faults(error):
        place, key = where(fault)
        if fault.kind == "unknown" and fault.key in gone:
            text = f"{key} is gone; {gone[fault.key]}"
        elif fault.kind == "unknown":
            others = {name: dotted for name, dotted in elsewhere.items() if len(fault.keys) == 1 or dotted != key}
            text = f"unknown key {key!r}{nearest(fault.keys[-1], valid_keys(fault.keys[:-1]), others)}"
        elif fault.kind == "missing":
            text = f"{key} is missing; add a line {key} = ..."
        else:
            is_table = isinstance(fault.given, Mapping) or hasattr(type(fault.given), "model_fields")
            expected = fault.expected.replace("Input should", "input should", 1)
            shown = repr(fault.given)
            shown = f"{shown[:LONGEST_SHOWN]}..." if len(shown) > LONGEST_SHOWN else shown
            text = expected if is_table else f"given {shown}; {expected}"  # a table is too long for a message
            text = f"{key}: {text}" if key else text
        lines.append(f"{place}: {text}")
    return "\n".join(lines)


def keys_of(model: "type[BaseModel]", path: Sequence[str]) -> Iterable[str]:
    """Return the keys of the table at a path below a model."""
    for key in path:
        field = model.model_fields.get(key)
        model = (model_in(field.annotation) if field else None) or model
    return model.model_fields


def list_faults(error: "ValidationError") -> list[Fault]:
    """Return all mistakes, in pydantic's order."""
    return [_fault_of(details) for details in error.errors()]


def _fault_of(details: Any) -> Fault:
    """Return a mistake that pydantic describes with a dictionary."""
    kinds: dict[str, Literal["unknown", "missing"]] = {"extra_forbidden": "unknown", "missing": "missing"}
    location = [str(part) for part in details["loc"]]
    message = details["msg"].removeprefix("Value error, ")
    message = re.sub(r"a valid (tuple|list)", "a list, in [ ]", message)
    message = re.sub(r"a valid dictionary( or instance of \w+)?", TABLE, message)
    return Fault(
        keys=tuple(part for part in location if not _BRANCH_OF_UNION.search(part)),
        kind=kinds.get(details["type"], "wrong"),
        expected=message + _choice_hint(details),
        given=details["input"],
    )


def _choice_hint(details: Any) -> str:
    """Return a hint at the nearest of the words that a text may be, such as 'adam' for "Adam"; "" if none is near."""
    if details["type"] != "literal_error" or not isinstance(details["input"], str):
        return ""
    words = re.findall(r"'([^']*)'", details["ctx"]["expected"])
    close = closest(details["input"], words)
    return "" if close is None else f"; did you mean {close!r}?"
