"""The tables of a run, as `tables.json` describes them: columns with type, unit and meaning; the key of the rows.

There a type with "?" may be null, "one_of" lists the only values allowed, and a column that is only a name is described
in "shared". Each table also has the columns of "every_table", at its end.

A row of `operating_points`, shortened::

    {"trial_id": "9f2c...", "point": 2, "label": "transtailor", "arm": "transtailor", "seed": 0,
     "asked_removed_macs_fraction": 0.2, "removed_macs_fraction": 0.2031, "metric": "accuracy", ...}
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

import pyarrow as pa

from transtailor.names import did_you_mean

SCHEMA_VERSION = 3
"""Increased by one with every change of a table, and written to each file. A reader refuses all other versions."""

STRING = pa.string()
INTEGER = pa.int64()
FLOAT = pa.float64()
BOOLEAN = pa.bool_()
STRINGS = pa.list_(pa.string())
INTEGERS = pa.list_(pa.int32())
FLOATS = pa.list_(pa.float64())
MOMENT = pa.timestamp("us", tz="UTC")

TYPES: Mapping[str, pa.DataType] = MappingProxyType(
    {
        "string": STRING, "int64": INTEGER, "double": FLOAT, "bool": BOOLEAN, "list of string": STRINGS,
        "list of int32": INTEGERS, "list of double": FLOATS, "timestamp": MOMENT,
    }
)  # fmt: skip
"""Name of a type, in the file of the tables and in docs/columns.md -> the type."""


@dataclass(frozen=True)
class ColumnSchema:
    """One column: its unit is "" if it has none; `one_of` lists the only values allowed, () means any."""

    name: str
    type: pa.DataType
    unit: str
    meaning: str
    nullable: bool = False
    one_of: tuple[str, ...] = ()


@dataclass(frozen=True)
class TableSchema:
    """One table: no two rows have the same values in the columns of `key`. Nulls in a key are equal to each other."""

    name: str
    key: tuple[str, ...]
    columns: tuple[ColumnSchema, ...]

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        if len(set(names)) != len(names):
            raise ValueError(f"table {self.name}: a column is there twice: {names}")
        missing = [name for name in self.key if name not in names]
        if missing:
            raise ValueError(f"table {self.name}: key columns {missing} are not among the columns {names}")


def _read_tables() -> Iterator[TableSchema]:
    """The tables that the file `tables.json` describes."""
    described = json.loads(Path(__file__).with_name("tables.json").read_bytes())
    shared = {name: _column(name, **facts) for name, facts in described["shared"].items()}
    last = [_column(name, **facts) for name, facts in described["every_table"].items()]
    for name, table in described["tables"].items():
        columns = []
        for column in table["columns"]:
            is_shared = isinstance(column, str)  # then it is only the name
            columns.append(shared[column] if is_shared else _column(**column))
        yield TableSchema(name, tuple(table["key"]), (*columns, *last))


def _column(name: str, type: str, meaning: str, unit: str = "", one_of: Sequence[str] = ()) -> ColumnSchema:  # noqa: A002  # as in the file
    plain = type.removesuffix("?")
    return ColumnSchema(name, TYPES[plain], unit, meaning, nullable=type != plain, one_of=tuple(one_of))


TABLES: Mapping[str, TableSchema] = MappingProxyType({table.name: table for table in _read_tables()})
"""All tables by name; read only."""

WRITE_ORDER = (
    "printed", "planned", "timings", "proposals", "looks",
    "predictions", "estimates", "kept_filters", "layers", "epochs", "rungs", "operating_points", "stages",
    "attempts", "trials", "events",
)  # fmt: skip
"""The order in which the rows that wait become durable. So a row of `stages` says that all others of its stage are
there, and a finished trial's row that all its stages are."""
CHANGING = frozenset({"planned", "trials", "attempts", "proposals", "looks", "printed", "timings"})
"""Tables of which rows are replaced; each is one file. All others only grow."""


def table_named(name: str) -> TableSchema:
    """Return the table of that name.

    Raises:
        ValueError: no such table; the text names the nearest one and all tables.
    """
    if name in TABLES:
        return TABLES[name]
    raise ValueError(f"no table {name!r}: {did_you_mean(name, TABLES)}Tables: {', '.join(TABLES)}")


@cache
def arrow_schema(table: TableSchema) -> pa.Schema:
    """Build the Arrow schema of a table's files: with unit and meaning of each field, table name and schema version."""
    fields = [
        pa.field(column.name, column.type, column.nullable, {"unit": column.unit, "meaning": column.meaning})
        for column in table.columns
    ]
    return pa.schema(fields, {"table": table.name, "schema_version": str(SCHEMA_VERSION)})
