"""The settings of trials, and in which two differ; imports no large library, so that plans can use it."""

from collections.abc import Iterator, Mapping
from typing import Any

_NO_TABLES = (str, int, float, list, type(None))  # asked first: a question about an abstract class takes long


def leaves(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted key and value of every setting in nested tables, in their order."""
    for key, value in table.items():
        if not isinstance(value, _NO_TABLES) and isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def differing_keys(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """Return the dotted keys of the settings in which two configurations differ, or which only one of them has.

    >>> differing_keys({"seed": 0, "data": {"name": "digits"}}, {"seed": 1, "data": {"name": "digits"}})
    ['seed']
    """
    old = dict(leaves(first))
    new = dict(leaves(second))
    return [key for key in old | new if key not in old or key not in new or old[key] != new[key]]
