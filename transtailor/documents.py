"""Read JSON and TOML that others may have written; a refusal explains the mistake, with its line where that helps."""

import json
import os
import re
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import lru_cache
from pathlib import Path
from stat import S_ISREG
from typing import Any, ClassVar, Self

from transtailor.errors import UserError
from transtailor.lines import lines_of
from transtailor.validation import list_faults

DEEPEST = 64  # levels of nested tables and lists: code that walks through a document is recursive
REFUSED = "is not valid TOML: "
_HEADER = re.compile(r"\s*(\[\[?)([^\[\]]+)\]")
_ASSIGNED = re.compile(r"\s*([\w.\"' -]+?)\s*=")
_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # .xlsx and .ods, which are zip files; .xls
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")  # byte order marks
_AT_LINE = re.compile(r" \(at line (\d+), column (\d+)\)")
BRACES = "a table in { } is on one line, without a comma before }; or type [table], and each key on a line of its own"
BACKSLASH = "write / in place of \\, or put the text into single quotes"
_VALUES = (  # how a value begins, or what stands where a line should end -> what to type
    (r"[+-]?\.\d", "a number has a digit before its point, as in 0.01"),
    (r"\.(?![\d.])", "a number has digits behind its point, as in 1.0"),
    (r"(none|null|nil)\b", "TOML has no such value: leave the key out"),
    (r"(true|false|yes|no|on|off)\b", "type true or false, in lower case"),
    (r"(nan|inf)\b", "type nan or inf, in lower case"),
    (r"%", "a share is a fraction: for 20% type 0.2"),
    ("[\u201c\u201d\u201e\u2018\u2019]", 'a text stands in straight quotes, as in name = "demo"'),
    (r",\d", "the decimal point is a point, as in 0.5"),
    (r"(?<=\b0)\d", "a number does not begin with 0, unless a point follows"),
    (r"((?<=\d)\s*(-|\.{2,3})\s*\d|range\()", "several values are a list, as in [0, 1, 2], or { from = 0, to = 2 }"),
)
_HINTS = (
    ("Unclosed inline table", BRACES),
    ("Invalid initial character for a key part", BRACES),
    (r"Illegal character '\n'", "a quote is opened there and not closed"),
    ("Unterminated string", "a quote is opened and not closed"),
    ("Invalid hex value", BACKSLASH),
    ("Unescaped '\\'", BACKSLASH),
    ("Invalid value", 'text needs quotes, as in name = "demo"'),
    (
        "Cannot mutate immutable namespace",
        "a table in { } takes no key from another line: write it in { }; a list of values is an axis: axes.KEY = [...]",
    ),
    ("Expected '=' after a key", "each line is a key, =, and a value"),
    ("Invalid statement", "each line is a key, =, and a value; a comment begins with #"),
    ("Unclosed array", "a list ends with ], and has commas between its values"),
    (
        "Cannot overwrite a value",
        "the key is set twice, or has a value and keys of its own, as method = ... and method.KEY = ... (write "
        "method.name = ...), or a table of a list lacks a bracket: it begins as in [[variants]]",
    ),
    ("Cannot declare", "a table is there once; each table of a list begins with two brackets, as in [[variants]]"),
)


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
    if content.startswith(_WORKBOOKS):
        raise DocumentError(
            "not text in UTF-8: it is a workbook of Excel or LibreOffice; save its sheet as CSV in UTF-8"
        )
    if b"\0" in content and not content.startswith(_UTF_16):
        raise DocumentError("not text in UTF-8: it has bytes 0, as UTF-16 without a mark has; save the file as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if content.startswith(_UTF_16):
            what = "it is in UTF-16, as PowerShell writes it"
        else:
            line = content.count(b"\n", 0, error.start) + 1
            what = f"line {line} has the byte 0x{content[error.start]:02x}"
        raise DocumentError(f"not text in UTF-8: {what}; save the file as UTF-8") from error


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
            faults = [f"{fault.key or 'all of it'}: {fault.expected} ({fault.kind})" for fault in list_faults(error)]
            raise DocumentError(f"is no {cls.__name__}: {'; '.join(faults)}") from error
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
    """Explain why `read_toml` refused a file: the number of the line, its text, and a hint."""
    message = str(error)
    if not message.startswith(REFUSED):
        return message
    problem = message.removeprefix(REFUSED)
    hint = next((f"; {advice}" for words, advice in _HINTS if problem.startswith(words)), "")
    position = _AT_LINE.search(problem)
    if position is None:
        return f"{message}{hint}"
    number = int(position[1])
    lines = lines_of(read_text(path))
    column = int(position[2])
    whole_line = lines[number - 1] if number <= len(lines) else ""  # the end of the text is after the last line
    if problem.startswith("Expected '='") and re.search(r"=\s*[+-]?\d+,\d+\s*$", whole_line[: column - 1]):
        hint = "; the decimal point is a point, as in 0.5"
    if problem.startswith("Unclosed inline") and re.match(r"[\w.\"'-]+\s*=", whole_line[column - 1 :]):
        hint = "; a comma stands between two keys in { }"
    if problem.startswith(
        ("Invalid value", "Expected newline or end of document", "Unclosed array", "Unclosed inline")
    ):
        begins = (advice for pattern, advice in _VALUES if re.compile(pattern, re.I).match(whole_line, column - 1))
        hint = next((f"; {advice}" for advice in begins), hint)
    return f"line {number} {REFUSED}{whole_line.strip()}   ({_AT_LINE.sub('', problem)}{hint})"


def find_line(text: str, keys: Sequence[str]) -> int | None:
    r"""Return the number of the line that sets `keys`, or else of the table around it; None if the text has neither.

        >>> find_line("[data]\nname = 'digits'", ["data", "name"])
        2

    `keys`: those of the tables above it and its own; for an array of tables its name, then the number from 1.
    """
    best_line = None
    most_keys_in_common = 0
    for number, line_keys in _keys_by_line(text):
        in_common = min(len(line_keys), len(keys))
        is_on_the_way = line_keys[:in_common] == tuple(keys[:in_common])
        if is_on_the_way and in_common > most_keys_in_common:
            best_line = number
            most_keys_in_common = in_common
    return best_line


def _keys_by_line(text: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield each line that begins a table or sets a key: its number from 1, and all keys that lead to what it sets."""
    tables_of_array: Counter[str] = Counter()
    table: tuple[str, ...] = ()
    for number, line in enumerate(lines_of(text), start=1):
        header = _HEADER.match(line)
        assignment = _ASSIGNED.match(line)
        if header is not None:
            table = _split(header[2])
            array = table[0]
            if header[1] == "[[":
                tables_of_array[array] += 1
            if array in tables_of_array:
                table = (array, str(tables_of_array[array]), *table[1:])
            yield number, table
        elif assignment is not None:
            yield number, (*table, *_split(assignment[1]))


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


def _split(dotted: str) -> tuple[str, ...]:
    """Return the parts of a dotted key, without quotes."""
    return tuple(part.strip(" \"'") for part in dotted.split("."))
