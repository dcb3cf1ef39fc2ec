"""Read JSON and TOML that others may have written; a refusal explains the mistake, with its line where that helps."""

import json
import os
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from functools import lru_cache
from pathlib import Path
from stat import S_ISREG
from typing import Any, ClassVar, Self

from transtailor.errors import UserError
from transtailor.lines import lines_of
from transtailor.validation import explained

DEEPEST = 64  # levels of nested tables and lists: code that walks through a document is recursive
REFUSED = "is not valid TOML: "
_AT_LINE = re.compile(r" \(at line (\d+), column \d+\)")


class DocumentError(UserError, ValueError):
    """The input is not JSON or TOML, or is nested too deeply; the text says why, but does not name the file."""


def read_json(source: Path | str | bytes) -> Any:
    """Parse JSON from a file or a text.

    Raises:
        DocumentError: it is not valid JSON, is nested too deeply, or is not a regular file.
        OSError: the file cannot be read.
    """
    if not isinstance(source, Path):
        return _parse("JSON", json.loads, source)
    handle = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # the reader of a pipe would wait
    with os.fdopen(handle, "rb") as file:
        if not S_ISREG(os.fstat(file.fileno()).st_mode):
            raise DocumentError("is no file")
        content = file.read()
    return _parse("JSON", json.loads, content)


def read_toml(source: Path | str | bytes) -> dict[str, Any]:
    """Parse TOML from a file or a text. Raises the errors of `read_json`."""
    content = source.read_bytes() if isinstance(source, Path) else source
    document: dict[str, Any] = _parse("TOML", tomllib.loads, content)
    return document


def read_text(path: Path) -> str:
    """Return the text of a file that a user wrote. Raises OSError, and DocumentError as `decode_text`."""
    return decode_text(path.read_bytes())


def decode_text(content: bytes) -> str:
    r"""Return text in UTF-8, without the byte order mark that editors on Windows put before it.

        >>> decode_text(b"\xef\xbb\xbfname")
        'name'

    Raises:
        DocumentError: it is in another encoding; the text says where.
    """
    if b"\0" in content:
        raise DocumentError("not text in UTF-8: it has bytes 0, as UTF-16 and workbooks have; save the file as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = content[error.start]
        raise DocumentError(
            f"not text in UTF-8: line {line} has the byte 0x{byte:02x}; save the file as UTF-8"
        ) from error


@dataclass(frozen=True, kw_only=True)
class Record:
    """Base class of frozen dataclasses that other processes read as JSON."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    def to_json(self) -> str:
        """Return the record as JSON, for `from_json`."""
        return json.dumps(self, default=_plain)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Return the record that `to_json` wrote. Raises as `from_values`."""
        return cls.from_values(read_json(text))

    @classmethod
    def from_values(cls, values: object) -> Self:
        """Make a record of JSON values.

        Raises:
            DocumentError: a field is missing, unknown or has another type; the text names it.
        """
        from pydantic import ValidationError  # 0.1 s

        try:
            record: Self = _adapter(cls).validate_python(values)  # type: ignore[arg-type]  # a class is hashable
        except ValidationError as error:
            name = f"is no {cls.__name__}"
            text = explained(
                error, lambda fault: (name, fault.key), lambda _path: [field.name for field in fields(cls)]
            )
            raise DocumentError(text.replace("\n", "; ")) from error
        return record


@lru_cache
def _adapter(kind: type[Record]) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def check_depth(document: object) -> None:
    """Raise DocumentError if a value, such as a number, is inside `DEEPEST` or more tables and lists."""
    level = [document]
    for _ in range(DEEPEST):
        level = [inner for outer in level for inner in _values_in(outer)]
        if not level:
            return
    raise DocumentError(f"is nested more than {DEEPEST} levels deep")


def walk(document: object) -> Iterator[Any]:
    """Yield a document and all values in its tables and lists.

    >>> list(walk({"a": [1, 2]}))
    [{'a': [1, 2]}, [1, 2], 1, 2]
    """
    yield document
    for inner in _values_in(document):
        yield from walk(inner)


def describe_fault(path: Path, error: DocumentError) -> str:
    """Explain why `read_toml` refused a file, with the number of the line and its text."""
    message = str(error)
    position = _AT_LINE.search(message)
    if position is None:
        return message
    number = int(position[1])
    lines = lines_of(read_text(path))
    whole_line = lines[number - 1] if number <= len(lines) else ""  # the end of the text is after the last line
    problem = _AT_LINE.sub("", message.removeprefix(REFUSED))
    return f"line {number} {REFUSED}{whole_line.strip()}   ({problem})"


def _values_in(value: object) -> list[Any]:
    """Return the values of a table or a list; none for anything else."""
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, list | tuple):
        return list(value)
    return []


def _plain(value: Any) -> Any:
    """Return the fields of a record, or a path as text: what `json.dumps` cannot write itself."""
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    return os.fspath(value)


def _parse(kind: str, parse: Any, content: str | bytes) -> Any:
    try:
        document = parse(content if isinstance(content, str) else decode_text(content))
    except RecursionError:
        raise DocumentError(f"is nested more than {DEEPEST} levels deep") from None
    except ValueError as error:  # also for other encodings, and for numbers of thousands of digits
        raise DocumentError(f"is not valid {kind}: {error}") from error
    check_depth(document)
    return document
