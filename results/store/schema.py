"""The tables of a run, as `columns.json` describes them: their columns, and the key of their rows.

Each table also has the columns of "every_table", at its end.

A row of `operating_points`, shortened::

    {"trial_id": "9f2c...", "point": 2, "label": "transtailor", "arm": "transtailor", "seed": 0,
     "asked_removed_macs_fraction": 0.2, "removed_macs_fraction": 0.2031, "metric": "accuracy", ...}
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

import pyarrow as pa

from results.columns import Column, columns_from, declared
from transtailor.names import did_you_mean

SCHEMA_VERSION = 5
"""Increased by one with every change of a table, and written to each file. A reader refuses all other versions."""


@dataclass(frozen=True)
class TableSchema:
    """One table: no two rows have the same values in the columns of `key`. Nulls in a key are equal to each other."""

    name: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        if len(set(names)) != len(names):
            raise ValueError(f"table {self.name}: a column is there twice: {names}")
        missing = [name for name in self.key if name not in names]
        if missing:
            raise ValueError(f"table {self.name}: key columns {missing} are not among the columns {names}")


def _read_tables() -> Iterator[TableSchema]:
    """The tables that `columns.json` describes."""
    last = columns_from([{"name": name, **facts} for name, facts in declared()["every_table"].items()])
    for name, table in declared()["tables"].items():
        yield TableSchema(name, tuple(table["key"]), (*columns_from(table["columns"]), *last))


TABLES: Mapping[str, TableSchema] = MappingProxyType({table.name: table for table in _read_tables()})
"""All tables by name; read only."""

COLUMNS_OF_VIEWS: Mapping[str, tuple[Column, ...]] = MappingProxyType(
    {name: columns_from(columns) for name, columns in declared()["views"].items()}
)
"""View -> the columns that it has beside those of its tables."""

WRITE_ORDER = (
    "printed", "classes", "planned", "timings", "proposals", "looks",
    "predictions", "estimates", "test_scores", "kept_filters", "layers", "epochs", "rungs", "operating_points",
    "stages", "attempts", "trials", "events",
)  # fmt: skip
"""The order in which the rows that wait become durable. So a row of `stages` says that all others of its stage are
there, and a finished trial's row that all its stages are."""
CHANGING = frozenset({"planned", "trials", "attempts", "proposals", "looks", "printed", "classes", "timings"})
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
