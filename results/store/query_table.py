"""The result of a query as a table: numbers, texts and None, with the query that gave them."""

from typing import Any

import pyarrow as pa

from results.columns import Column
from results.store.reader import Run
from results.text.page import Shown, Table
from results.text.scales import cell


def query_table(run: Run, sql: str) -> Table:
    """Run a query; people see all columns of its result. Lists and moments become texts."""
    answer = run.arrow(sql)
    columns = []
    shown = []
    values_of_columns = []
    for name, values in zip(answer.column_names, answer.columns, strict=True):
        is_number = pa.types.is_integer(values.type) or pa.types.is_floating(values.type)
        columns.append(Column(name, str(values.type), nullable=True))
        shown.append(Shown(name, is_text=not is_number))
        is_plain = not (pa.types.is_nested(values.type) or pa.types.is_temporal(values.type))
        values_of_columns.append(values.to_pylist() if is_plain else list(map(plain, values.to_pylist())))
    rows = zip(*values_of_columns, strict=True)
    records = [dict(zip(answer.column_names, row, strict=True)) for row in rows]
    return Table(columns=columns, records=records, shown=shown, sql=sql.strip())


def plain(value: object) -> Any:
    """Return a value of a query as a number, a text, or None."""
    return value if value is None or isinstance(value, str | bool | int | float) else cell(value)
