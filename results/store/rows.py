"""Rows of one table as records or in Arrow: checked by its columns, stamped, and put in the place of others.

What is in the rows of a stage is decided in `sweeps/driver/stage_rows.py`.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from numbers import Integral, Real
from typing import Any, TypeAlias

import pyarrow as pa

from results.arrow_types import BOOLEAN, FLOAT, FLOATS, INTEGER, INTEGERS, MOMENT, STRING, STRINGS
from results.columns import Column
from results.store.schema import TableSchema, arrow_schema

WRITTEN_AT = "written_at"
Rows: TypeAlias = Sequence[Mapping[str, Any]] | pa.Table


def checked(table: TableSchema, rows: Rows) -> pa.Table:
    """Return rows in Arrow, with the table's columns but `written_at`.

    Raises:
        ValueError: a missing, extra or null column; a value of the wrong type.
    """
    if not isinstance(rows, pa.Table):
        return pa.table(_columns(table, rows))
    schema = pa.schema([pa.field(column.name, column.type) for column in table.columns if column.name != WRITTEN_AT])
    if set(rows.column_names) != set(schema.names):
        raise ValueError(f"table {table.name}: expected the columns {schema.names}, given {rows.column_names}")
    for column in table.columns:
        if column.name in schema.names and not column.nullable and rows[column.name].null_count:
            raise ValueError(f"table {table.name}, column {column.name}: null is not allowed")
    return rows.select(schema.names).cast(schema)


def stamped(table: TableSchema, rows: pa.Table, moment: datetime) -> pa.Table:
    """Return rows in the table's order of columns, with the moment of their commit."""
    schema = arrow_schema(table)
    moments = pa.repeat(pa.scalar(moment, MOMENT), rows.num_rows)
    columns = [moments if name == WRITTEN_AT else rows[name] for name in schema.names]
    return pa.Table.from_arrays(columns, schema=schema)


def with_replaced(table: TableSchema, rows: pa.Table, new: pa.Table) -> pa.Table:
    """Return the rows, with new ones in the place of those of the same key; the last new one of a key counts."""
    new = _last_of_each_key(table, new)
    replaced = set(_keys(table, new))
    is_kept = [key not in replaced for key in _keys(table, rows)]
    return pa.concat_tables([rows.filter(pa.array(is_kept, pa.bool_())), new])


def _last_of_each_key(table: TableSchema, rows: pa.Table) -> pa.Table:
    last = {key: number for number, key in enumerate(_keys(table, rows))}
    return rows if len(last) == rows.num_rows else rows.take(sorted(last.values()))


def _keys(table: TableSchema, rows: pa.Table) -> list[tuple[Any, ...]]:
    return list(zip(*(rows[name].to_pylist() for name in table.key), strict=True))


def _columns(table: TableSchema, rows: Sequence[Mapping[str, Any]]) -> dict[str, pa.Array]:
    """Build one array per column of the rows. Raises ValueError: the rows do not fit the table."""
    columns = [column for column in table.columns if column.name != WRITTEN_AT]
    names = {column.name for column in columns}
    needed = {column.name for column in columns if not column.nullable}
    for number, row in enumerate(rows):
        missing = needed - set(row)
        if missing:
            raise ValueError(f"table {table.name}, row {number}: missing column {_list_text(missing)}")
        if WRITTEN_AT in row:
            raise ValueError(
                f"table {table.name}, row {number}: column {WRITTEN_AT} is set by the writer: leave it out"
            )
        extra = set(row) - names
        if extra:
            raise ValueError(
                f"table {table.name}, row {number}: extra column {_list_text(extra)}; columns: {_list_text(names)}"
            )
    return {column.name: _array(table.name, column, rows) for column in columns}


def _list_text(names: set[str]) -> str:
    return ", ".join(sorted(str(name) for name in names))


def _array(table: str, column: Column, rows: Sequence[Mapping[str, Any]]) -> pa.Array:
    values = [row.get(column.name) for row in rows]
    for number, value in enumerate(values):
        problem = _problem(column, value)
        if problem:
            raise ValueError(f"table {table}, row {number}, column {column.name}: {problem}, given {_text_of(value)}")
    if column.type == INTEGER:  # Arrow does not accept all number types that passed the check above
        values = [None if value is None else int(value) for value in values]
    elif column.type == FLOAT:
        values = [None if value is None else float(value) for value in values]
    try:
        return pa.array(values, column.type)
    except (pa.ArrowException, ValueError, OverflowError) as error:
        raise ValueError(f"table {table}, column {column.name}: cannot be stored as {column.type}: {error}") from error


def _problem(column: Column, value: object) -> str:
    """Say what is wrong with a value of a column; empty if it is valid."""
    if value is None:
        return "" if column.nullable else f"expected {column.type}, and null is not allowed"
    if not _fits(column.type, value):
        zone = " with a time zone" if column.type == MOMENT else ""
        return f"expected {column.type}{zone}"
    if column.one_of and value not in column.one_of:
        return f"expected one of {', '.join(column.one_of)}"
    return ""


def _fits(kind: pa.DataType, value: object) -> bool:
    """Whether a column of a type may have this value; a bool is no number, and an integer is accepted as a float."""
    if kind == STRING:
        return isinstance(value, str)
    if kind == INTEGER:
        return isinstance(value, Integral) and not isinstance(value, bool)
    if kind == FLOAT:
        return isinstance(value, Real) and not isinstance(value, bool)
    if kind == BOOLEAN:
        return isinstance(value, bool)
    if kind == STRINGS:
        return isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)
    if kind == INTEGERS:
        return isinstance(value, (list, tuple)) and all(type(item) is int for item in value)
    if kind == FLOATS:
        return isinstance(value, (list, tuple)) and all(item is None or type(item) is float for item in value)
    return isinstance(value, datetime) and value.tzinfo is not None


def _text_of(value: object) -> str:
    text = repr(value)
    return f"{text if len(text) <= 80 else text[:77] + '...'} ({type(value).__name__})"
