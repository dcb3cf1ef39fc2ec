"""A spec as TOML text again, so that a run folder keeps what was meant after `extends` and `--set`."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def to_toml(document: Mapping[str, Any]) -> str:
    """TOML text that reads back as `document`; tables in the order given, a table's own values before its sub-tables.

    Args:
        document: tables, lists of tables (`[[...]]`), and values: strings, numbers, booleans, lists and inline tables.

    Raises:
        TypeError: a value that TOML does not have (None, a set).
    """
    return "\n".join(_table_lines(document, ())).strip() + "\n"


def _table_lines(table: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    inner = {key: value for key, value in table.items() if isinstance(value, Mapping) or _is_table_list(value, path)}
    for key, value in table.items():
        if key not in inner:
            yield f"{toml_key(key)} = {toml_value(value)}"
    for key, value in inner.items():
        here = (*path, key)
        name = ".".join(toml_key(part) for part in here)
        for element in [value] if isinstance(value, Mapping) else value:
            if not isinstance(value, Mapping):
                yield from ("", f"[[{name}]]")
            elif not element or not all(isinstance(below, Mapping) for below in element.values()):
                yield from ("", f"[{name}]")  # a table of tables alone needs no line of its own
            yield from _table_lines(element, here)


def _is_table_list(value: Any, path: tuple[str, ...]) -> bool:
    return not path and isinstance(value, list | tuple) and bool(value) and all(isinstance(v, Mapping) for v in value)


def toml_key(key: str) -> str:
    """The key as TOML writes it: bare where that is allowed, else quoted."""
    return key if _BARE_KEY.fullmatch(key) else _string(key)


def toml_value(value: Any) -> str:
    """One value on one line, as one would type it behind `key = `."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else str(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(element) for element in value) + "]"
    if isinstance(value, Mapping):
        inside = ", ".join(f"{toml_key(key)} = {toml_value(element)}" for key, element in value.items())
        return "{ " + inside + " }" if inside else "{}"
    raise TypeError(f"TOML has no value for {value!r} of type {type(value).__name__}")


def _string(text: str) -> str:
    # JSON's escapes are TOML's too, but for the one control character that JSON leaves as it is.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
