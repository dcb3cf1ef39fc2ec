"""The settings of two trials side by side; imports no large library, so that plans can use it."""

import json
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


def setting_lines(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[str]:
    """Yield one line for each setting in which two configurations differ, and the number of equal settings."""
    old = dict(leaves(first))
    new = dict(leaves(second))
    different = differing_keys(first, second)
    width = max((len(key) for key in different), default=0)
    for key in different:
        yield f"  {key.ljust(width)}  {_value_text(old, key)}  |  {_value_text(new, key)}"
    yield f"  all other settings ({len(old | new) - len(different)}) are the same"


def _value_text(settings: Mapping[str, Any], key: str) -> str:
    if key not in settings:
        return "(does not have it)"
    return "none" if settings[key] is None else json.dumps(settings[key], ensure_ascii=False)
