"""Files of older schema versions: how their columns become those of today. All versions listed here stay readable.

There is none yet: nothing was released. A run of a version that is not listed is refused, see `explain_old_run`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import pyarrow as pa

from results.store.schema import SCHEMA_VERSION, TableSchema


@dataclass(frozen=True)
class OlderTable:
    """A table of an older version, described by its differences.

    Attributes:
        gone: columns that today's table no longer has, with their types.
        replacements: today's columns that it lacked -> the SQL expression on its own columns that replaces them.
    """

    gone: Mapping[str, pa.DataType] = field(default_factory=dict)
    replacements: Mapping[str, str] = field(default_factory=dict)


_SAME = OlderTable()

LAST_READER = "cd8d5ebc"
"""The last commit that reads the runs of before."""

OLDER_VERSIONS: Mapping[int, Mapping[str, OlderTable]] = MappingProxyType({})
"""Schema version -> table -> its differences; tables that are not listed are as today."""


def readable_columns(table: TableSchema) -> dict[int, dict[str, pa.DataType]]:
    """Return schema version -> the columns of a table's files of that version, for all versions that are read."""
    return {version: _columns(table, version) for version in (*OLDER_VERSIONS, SCHEMA_VERSION)}


def _columns(table: TableSchema, version: int) -> dict[str, pa.DataType]:
    older = _older_table(table, version)
    still_there = {column.name: column.type for column in table.columns if column.name not in older.replacements}
    return still_there | dict(older.gone)


def expressions_of(table: TableSchema, version: int) -> dict[str, str]:
    """Return today's columns, in order -> the SQL that gives each from a file of that version; names are quoted."""
    replacements = _older_table(table, version).replacements
    return {column.name: replacements.get(column.name, f'"{column.name}"') for column in table.columns}


def _older_table(table: TableSchema, version: int) -> OlderTable:
    return _SAME if version == SCHEMA_VERSION else OLDER_VERSIONS[version].get(table.name, _SAME)


def explain_old_run(path: Path) -> str:
    """Return the message for a file of a run that is too old to be read."""
    return (
        f"{str(path)!r} was written by an earlier version of this program; the last one that reads it is commit"
        f" {LAST_READER}: type `git switch --detach {LAST_READER}` in a clone of the program, or launch the spec with"
        " another --name"
    )
