"""What a command prints, before it is known where: headings, tables, notes, and plain lines, "" among them."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any


class Strong(str):
    """A cell that stands out."""


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
        columns: their names; two may be the same.
        rows: numbers, plain text, or None.
        words: places of the columns that hold words and stand left; None: those with anything but numbers.
        usual: places of the columns that are enough on a narrow screen, in that order; empty: all of them.
        records: the same for programs, with all digits; None: the rows are all there is.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    words: Collection[int] | None = (0,)
    usual: Sequence[int] = ()
    records: Sequence[Mapping[str, Any]] | None = None


Part = str | Heading | Note | PageTable
Page = Iterable[Part]


def limit_rows(page: Page, rows: int) -> Iterator[Part]:
    """The page with at most this many rows of each table, and a line that says how many are left out."""
    for part in page:
        if not isinstance(part, PageTable) or len(part.rows) <= rows:
            yield part
            continue
        records = None if part.records is None else part.records[:rows]
        yield replace(part, rows=part.rows[:rows], records=records)
        yield f"... {len(part.rows) - rows} more rows of {len(part.rows)}"
