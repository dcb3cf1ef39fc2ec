"""The output of a command before it has a format: headings, tables, notes, and plain lines, possibly empty."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from results.columns import Column, answer_columns
from results.text.number_format import SCALES
from results.text.scales import scaled

TableRecord = Mapping[str, Any]
"""Name of a column -> a number, a text, a truth value, or None."""


class Strong(str):
    """A cell that is emphasised."""


@dataclass(frozen=True)
class Heading:
    """The title of what follows; plain text."""

    text: str


@dataclass(frozen=True)
class Note:
    """A sentence to be read with the tables; plain text. `about`: of which part of them, such as a problem."""

    text: str
    about: str = ""


@dataclass(frozen=True)
class Shown:
    """A column as people see it, where that is not simply a column of the table.

    Attributes:
        heading: "": that of the column of this name.
        text: what stands in the cell of a record; None: the value of the column of this name, by its scale.
        is_text: whether it is aligned left, as texts are; None: as the column of this name.
    """

    name: str
    heading: str = ""
    text: Callable[[TableRecord], object] | None = None
    is_text: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table: its records for programs, and what people see of them.

    Attributes:
        name: the same for every run; "": for people only, who read in another form what another table has.
        columns: what each record has; the same for every run.
        shown: what people see, from left to right: names of columns, or `Shown`; (): nothing, it is for programs only.
        usual: names of the columns to show on a narrow screen, in that order; (): all of them.
        marks: for each record, why to read it with care; (): nothing.
        note: a sentence below it, on the report's page.
        sql: the query that gives the numbers behind it; shown on the report's page.
    """

    name: str = ""
    columns: Sequence[Column] = ()
    records: Sequence[TableRecord]
    shown: Sequence[str | Shown] = ()
    usual: Sequence[str] = ()
    marks: Sequence[Sequence[str]] = ()
    note: str = ""
    sql: str = ""

    @cached_property
    def _shown(self) -> list[Shown]:
        return [self._complete(Shown(one) if isinstance(one, str) else one) for one in self.shown]

    def _complete(self, shown: Shown) -> Shown:
        """Return it with what the column of this name says."""
        column = next((column for column in self.columns if column.name == shown.name), None)
        if column is None:
            return replace(shown, is_text=bool(shown.is_text))

        def text(record: TableRecord) -> str:
            return scaled(record[column.name], column.scale, record.get("metric"))

        is_text = column.type_name == "string" if shown.is_text is None else shown.is_text
        heading = shown.heading or column.heading or column.name.replace("_", " ")
        return Shown(shown.name, heading, shown.text or text, is_text)

    @cached_property
    def headings(self) -> list[str]:
        """What stands over the columns that people see."""
        metric = self.records[0].get("metric") if self.records else None
        # A query of a user can have any column of this name.
        scale = SCALES.get(metric) if isinstance(metric, str) else None
        if scale is None:
            return [shown.heading.replace("{mark}", "") for shown in self._shown]
        endings = {} if scale.is_usual else {"score": f" {scale.mark}", "difference": f" in {scale.noun}"}
        ending_of = {column.name: endings.get(column.scale, "") for column in self.columns}
        headings = []
        for shown in self._shown:
            is_interval = shown.name.endswith(("_low", "_high"))
            ending = "" if is_interval or "{mark}" in shown.heading else ending_of.get(shown.name, "")
            headings.append(shown.heading.replace("{mark}", scale.mark) + ending)
        return headings

    @cached_property
    def rows(self) -> list[list[object]]:
        """What people see of each record."""
        texts = [shown.text for shown in self._shown if shown.text is not None]
        return [[text(record) for text in texts] for record in self.records]

    @property
    def texts(self) -> list[int]:
        """The places of the columns that are aligned left."""
        return [place for place, shown in enumerate(self._shown) if shown.is_text]

    @property
    def usual_places(self) -> list[int]:
        """The places of the columns to show on a narrow screen."""
        places = {shown.name: place for place, shown in enumerate(self._shown)}
        return [places[name] for name in self.usual] or list(places.values())

    def column(self, name: str) -> list[Any]:
        """Return the values of a column, record by record."""
        return [record[name] for record in self.records]

    @cached_property
    def footnotes(self) -> list[str]:
        """The texts of all marks, each once; a row refers to them by number, from 1."""
        texts: dict[str, None] = {}
        for marks in self.marks:
            texts |= dict.fromkeys(marks)
        return list(texts)

    def references(self, row: int) -> str:
        """Return the numbers of the footnotes of a row, such as "1,3"."""
        marks = self.marks[row] if self.marks else ()
        return ",".join(str(number) for number, note in enumerate(self.footnotes, 1) if note in marks)


Part = str | Heading | Note | Table
Page = Iterable[Part]


def answer_table(answer: str, records: Sequence[TableRecord], table: str = "", **facts: Any) -> Table:
    """Return a table of an answer with its columns as `columns.json` declares them.

    Args:
        answer: the command, with the options that make it another answer: "compare", "compare --stop-at 0.003".
        table: its name; "": that of the answer, which has no other table.
        facts: further attributes of `Table`.
    """
    name = table or answer
    return Table(name=name, columns=answer_columns(answer, name), records=records, **facts)


def notes(texts: Iterable[str], about: object = "") -> Iterator[Note]:
    """Yield these sentences as notes about one part of the page."""
    for text in texts:
        yield Note(text, str(about))


def limit_rows(page: Page, rows: int) -> Iterator[Part]:
    """Limit the page to this many rows of each table; a line says how many are left out."""
    for part in page:
        if not isinstance(part, Table) or len(part.records) <= rows:
            yield part
            continue
        yield replace(part, records=part.records[:rows], marks=part.marks[:rows])
        if part.shown:
            yield f"... {len(part.records) - rows} more rows of {len(part.records)}"
