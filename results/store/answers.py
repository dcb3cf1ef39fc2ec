"""Answers of queries: rows as numbers, texts and None, with the query that gave them."""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from results.store.reader import Run
from results.text.scales import cell


@dataclass(frozen=True)
class Answer:
    """The result of a query: the data of a figure. `rows` are tuples in the order of `columns`."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    sql: str

    def column(self, name: str) -> list[Any]:
        """Return the values of a column, row by row."""
        index = self.columns.index(name)
        return [row[index] for row in self.rows]

    def records(self) -> list[dict[str, Any]]:
        """Return the rows as records."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


def answer(run: Run, sql: str) -> Answer:
    """Run a query; lists and moments become texts."""
    table = run.arrow(sql)
    columns = []
    for column in table.columns:
        values = column.to_pylist()
        if pa.types.is_nested(column.type) or pa.types.is_temporal(column.type):
            values = [plain(value) for value in values]
        columns.append(values)
    return Answer(tuple(table.column_names), list(zip(*columns, strict=True)), sql.strip())


def plain(value: object) -> Any:
    """Return a value of a query as a number, a text, or None."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    return cell(value)
