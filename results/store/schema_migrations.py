"""Files of older schema versions: how their columns become those of today. All versions listed here stay readable."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import pyarrow as pa

from results.store.schema import FLOAT, MOMENT, SCHEMA_VERSION, STRING, TableSchema


@dataclass(frozen=True)
class OlderTable:
    """A table of an older version, described by its differences.

    Attributes:
        gone: columns that today's table no longer has, with their types.
        made: today's columns that it lacked -> the SQL expression on its own columns that replaces them.
    """

    gone: Mapping[str, pa.DataType] = field(default_factory=dict)
    made: Mapping[str, str] = field(default_factory=dict)


_SAME = OlderTable()

_NO_ARM = {"arm": '"label"'}  # an arm was a label
_VERSION_9 = {"planned": OlderTable(made=_NO_ARM), "operating_points": OlderTable(made=_NO_ARM)}

_NO_LATENCY = {"pruning_latency_ms": "CAST(NULL AS DOUBLE)"}
_NOT_RECORDED = {"sampler_seed": "CAST(NULL AS BIGINT)", "reads": "CAST(NULL AS INTEGER[])"}
_VERSION_8 = _VERSION_9 | {"proposals": OlderTable(made=_NOT_RECORDED)}

_VERSION_7 = _VERSION_8 | {"operating_points": OlderTable(made=_NO_ARM | _NO_LATENCY)}

_NO_RUNGS = {name: "CAST(NULL AS BIGINT)" for name in ("rung", "promotes", "eta")}
_VERSION_6 = _VERSION_7 | {"proposals": OlderTable(made=_NOT_RECORDED | _NO_RUNGS)}

_VERSION_5 = _VERSION_6 | {
    "epochs": OlderTable(made={name: "CAST(NULL AS DOUBLE)" for name in ("validation_loss", "validation_score")})
}

_VERSION_4 = _VERSION_5  # it had no proposals

_VERSION_3 = _VERSION_4  # it had no timings and no kept_filters

_VERSION_2 = _VERSION_3 | {
    "attempts": OlderTable(made={"nodes": "CAST(NULL AS VARCHAR[])"}),
    "events": OlderTable(
        gone={"event_id": STRING, "text": STRING, "at": MOMENT},
        made={
            "happened_at": '"at"',  # a reserved word of SQL
            "driver": "event_id",  # it had no numbers, and unique ids
            "number": "CAST(0 AS BIGINT)",
            "job": "CAST(NULL AS VARCHAR)",
            "node": "CAST(NULL AS VARCHAR)",
            "slots": "CAST(NULL AS BIGINT)",
            "detail": "text",
        },
    ),
}

_UNKNOWN = {"train_images": "CAST(NULL AS BIGINT)"}
_VERSION_1 = _VERSION_2 | {
    "planned": OlderTable(
        made=_UNKNOWN | _NO_ARM | {"tuning_json": "CAST(NULL AS VARCHAR)", "tuning_order": "CAST(NULL AS BIGINT)"}
    ),
    "operating_points": OlderTable(
        gone={"validation_accuracy_fraction": FLOAT},
        made=_UNKNOWN
        | _NO_ARM
        | _NO_LATENCY
        | {
            "trained_macs": "CAST(NULL AS DOUBLE)",
            "metric": "'accuracy'",
            "validation_score": "validation_accuracy_fraction",
            "deciding_score": "validation_accuracy_fraction",  # trials always decided by the validation split
        },
    ),
}

OLDER_VERSIONS: Mapping[int, Mapping[str, OlderTable]] = MappingProxyType(
    {
        1: _VERSION_1, 2: _VERSION_2, 3: _VERSION_3, 4: _VERSION_4, 5: _VERSION_5, 6: _VERSION_6, 7: _VERSION_7,
        8: _VERSION_8, 9: _VERSION_9,
    }
)  # fmt: skip
"""Schema version -> table -> its differences; tables that are not listed are as today."""


def columns_of(table: TableSchema, version: int) -> dict[str, pa.DataType]:
    """Return the columns of a table's files of that version, with their types."""
    then = _older_table(table, version)
    today = {column.name: column.type for column in table.columns if column.name not in then.made}
    return today | dict(then.gone)


def expressions_of(table: TableSchema, version: int) -> dict[str, str]:
    """Return today's columns, in order -> the SQL that gives each from a file of that version; names are quoted."""
    made = _older_table(table, version).made
    return {column.name: made.get(column.name, f'"{column.name}"') for column in table.columns}


def _older_table(table: TableSchema, version: int) -> OlderTable:
    return _SAME if version == SCHEMA_VERSION else OLDER_VERSIONS[version].get(table.name, _SAME)
