"""Files of older schema versions: how their columns become those of today. All versions listed here stay readable.

A file of a version that is not listed is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import pyarrow as pa

from results.store.schema import SCHEMA_VERSION, STRINGS, TableSchema


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

_NO_NUMBER = "CAST(NULL AS DOUBLE)"
_NOT_RECORDED = "CAST(NULL AS DOUBLE[])"
_HEAD_ARM = "CASE WHEN method IN ('transtailor', 'gbn') THEN 'head_only' END"  # the methods whose paths began so
_VERSION_1 = {
    "operating_points": OlderTable(
        replacements={"asked_latency_ms": _NO_NUMBER, "asked_latency_fraction": _NO_NUMBER},
    ),
    "planned": OlderTable(replacements={"head_arm": _HEAD_ARM}),
    "timings": OlderTable(
        replacements={
            "speed_lower_quartile": _NO_NUMBER,
            "speed_upper_quartile": _NO_NUMBER,
            "reference_latency_ms": _NO_NUMBER,
            "widths": "CAST(NULL AS VARCHAR)",
        },
    ),
    "proposals": OlderTable(
        gone={"unscored": STRINGS}, replacements={"read_scores": _NOT_RECORDED, "read_costs": _NOT_RECORDED}
    ),
    "looks": OlderTable(replacements={"scores": _NOT_RECORDED, "against_scores": _NOT_RECORDED}),
}

OLDER_VERSIONS: Mapping[int, Mapping[str, OlderTable]] = MappingProxyType({1: _VERSION_1})
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
