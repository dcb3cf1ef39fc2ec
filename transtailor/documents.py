"""JSON and TOML that others may have written: read, or refused in words."""

import json
import tomllib
from pathlib import Path
from typing import Any

from transtailor.errors import UserError

DEEPEST = 64  # tables and lists in each other; whoever walks through a document calls itself as often


class DocumentError(UserError, ValueError):
    """What was given is no JSON or TOML, or cannot be worked with; the text says why, and not where it stood."""


def read_json(given: Path | str | bytes) -> Any:
    """What a file, or a text, of JSON says.

    Raises:
        DocumentError: it is not valid JSON, or nested too deeply.
        OSError: the file cannot be read.
    """
    return _read("JSON", json.loads, given)


def read_toml(given: Path | str | bytes) -> dict[str, Any]:
    """What a file, or a text, of TOML says. Raises as `read_json`."""
    found: dict[str, Any] = _read("TOML", tomllib.loads, given)
    return found


def check_depth(document: object) -> None:
    """Raises DocumentError if tables and lists stand in each other more than `DEEPEST` times."""
    level = [document]
    for _ in range(DEEPEST):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return
    raise DocumentError(f"is nested more than {DEEPEST} levels deep")


def _inside(value: object) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []


def _read(kind: str, parse: Any, given: Path | str | bytes) -> Any:
    content = given.read_bytes() if isinstance(given, Path) else given
    try:
        document = parse(content if isinstance(content, str) else content.decode())
    except RecursionError:
        raise DocumentError(f"is nested more than {DEEPEST} levels deep") from None
    except ValueError as error:  # among them bytes that are no text, and numbers of thousands of digits
        raise DocumentError(f"is not valid {kind}: {error}") from error
    check_depth(document)
    return document
