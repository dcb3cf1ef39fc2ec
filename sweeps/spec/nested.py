"""Nested tables of settings: merged, changed at a path, and checked for what a spec cannot have."""

from collections.abc import Mapping, Sequence
from datetime import date, time
from typing import Any

from sweeps.errors import SpecError


def merge_tables(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merge the settings of `over` on `base`: tables key by key, all else is replaced.

    A table with another `name` than the base's (a method) replaces it: the settings of one have no meaning for another.
    Those of a data set have: its folder, its training images and what is cut from an image. A name alone is a table.
    """
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        if key == "class_weights":  # of which one may be called `name`
            result[key] = {**old, **value} if isinstance(value, Mapping) and isinstance(old, Mapping) else value
            continue
        if isinstance(value, Mapping) and isinstance(old, str):
            old = {"name": old}
        elif isinstance(value, str) and isinstance(old, Mapping) and "name" in old:
            value = {"name": value}
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            is_replaced = key != "data" and "name" in old and value.get("name", old["name"]) != old["name"]
            result[key] = value if is_replaced else merge_tables(old, value)
        else:
            result[key] = value
    return result


ABSENT = object()


def value_at(table: Any, dotted: str) -> Any:
    """Return the value at a dotted key of nested tables; `ABSENT` if there is none. A name alone is a table."""
    for key in dotted.split("."):
        if isinstance(table, str) and key == "name":
            return table
        if not isinstance(table, Mapping) or key not in table:
            return ABSENT
        table = table[key]
    return table


def set_value(table: dict[str, Any], path: Sequence[str], value: Any) -> None:
    """Set the value at `path` of nested tables; missing tables are made (changes `table`).

    Raises:
        KeyError: a value on the path is no table.
    """
    for key in path[:-1]:
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            raise KeyError(key)
    table[path[-1]] = value


def check_plain(value: Any, where: str) -> None:
    """Raise SpecError if a date, a time or, in Python, an object of another type is among the values."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            check_plain(inner, f"{where} {key}")
    elif isinstance(value, list):
        for inner in value:
            check_plain(inner, where)
    elif isinstance(value, date | time):
        raise SpecError(f"{where}: {value} is a date or time, which a spec cannot have: put it in quotes")
    elif not isinstance(value, str | int | float | bool):
        raise SpecError(
            f"{where}: {value} is a {type(value).__name__}, which a spec cannot have: "
            "give text, a number, true or false, a list or a table"
        )
