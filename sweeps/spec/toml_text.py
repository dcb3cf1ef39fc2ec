"""One TOML value as it is typed after `key = `; whole documents are written by tomli-w."""

import shlex
from collections.abc import Mapping
from typing import Any

import tomli_w

from sweeps.errors import SpecError
from sweeps.spec.nested import check_plain
from transtailor.documents import DocumentError, read_toml


def toml_value(value: Any) -> str:
    """Write a value on one line, also a list or a table (tomli-w writes each element of a list on its own line).

    Raises:
        TypeError: a value that TOML does not have (None, a set).
    """
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(element) for element in value) + "]"
    if isinstance(value, Mapping):
        entries = []
        for key, inner in value.items():
            key_and_equals = _line(key, 0).removesuffix("0")
            entries.append(key_and_equals + toml_value(inner))
        return "{ " + ", ".join(entries) + " }" if entries else "{}"
    return _line("value", value).removeprefix("value = ")


def literal(text: str) -> Any:
    """Return a text as a TOML value, such as `3`, `[0, 1]` or `true`; else the text itself, such as `l1`."""
    try:
        parsed = read_toml(f"value = {text}")
        check_plain(parsed, "")
    except (DocumentError, SpecError):
        return text
    return parsed["value"] if len(parsed) == 1 else text


def set_option(assignment: str) -> str:
    """Write `--set` with `key=value`, quoted for a shell."""
    return f"--set {shlex.quote(assignment)}"


def _line(key: str, value: Any) -> str:
    return tomli_w.dumps({key: value}).rstrip("\n")
