"""The output of a command before it has a format: headings, tables, notes, and plain lines, possibly empty."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any


class Strong(str):
    """A cell that is emphasised."""


@dataclass(frozen=True)
class Heading:
    """The title of what follows; plain text."""

    text: str


@dataclass(frozen=True)
class Note:
    """A sentence to be read with the tables; plain text."""

    text: str


@dataclass(frozen=True, kw_only=True)
class PageTable:
    """A table.

    Attributes:
        words: places of the text columns, which are aligned left; None: those with anything but numbers.
        records: the same for programs, with all digits; None: programs get the rows.
    """

    columns: Sequence[str]  # their names; two may be the same
    rows: Sequence[Sequence[object]]  # numbers, plain text, or None
    words: Collection[int] | None = (0,)
    usual: Sequence[int] = ()  # places of the columns to show on a narrow screen, in that order; empty: all of them
    records: Sequence[Mapping[str, Any]] | None = None


Part = str | Heading | Note | PageTable
Page = Iterable[Part]


def limit_rows(page: Page, rows: int) -> Iterator[Part]:
    """Limit the page to this many rows of each table; a line says how many are left out."""
    for part in page:
        if not isinstance(part, PageTable) or len(part.rows) <= rows:
            yield part
            continue
        records = None if part.records is None else part.records[:rows]
        yield replace(part, rows=part.rows[:rows], records=records)
        yield f"... {len(part.rows) - rows} more rows of {len(part.rows)}"
