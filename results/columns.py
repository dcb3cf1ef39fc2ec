"""A column, declared once: in `columns.json`, for the tables of a run, its views, and the answers of all questions.

There a type with "?" may be null, "one_of" lists the only values allowed, "source" is where the value comes from, and a
column without a type is described in "shared". What writes, shows and documents a column reads its declaration.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa

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
"""Name of a type, in `columns.json` and in docs/columns.md -> the type."""


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        unit: "" if it has none.
        one_of: the only values allowed; (): any.
        source: the path to the value, such as "stage.info.validation_loss", for `results.store.projection`; "": it is
            computed.
        heading: what stands over it where people read; "": its name, with spaces.
        scale: how its values are written for people; "": as they are.
    """

    name: str
    type: pa.DataType
    unit: str
    meaning: str
    nullable: bool = False
    one_of: tuple[str, ...] = ()
    source: str = ""
    heading: str = ""
    scale: str = ""


@cache
def declared() -> Mapping[str, Any]:
    """Return what `columns.json` says, as it is there."""
    described: dict[str, Any] = json.loads(Path(__file__).with_name("columns.json").read_bytes())
    return MappingProxyType(described)


def columns_from(columns: Sequence[str | Mapping[str, Any]]) -> tuple[Column, ...]:
    """Return the columns of a list in `columns.json`; one without a type has the rest from "shared"."""
    shared = declared()["shared"]
    described = []
    for column in columns:
        own = {"name": column} if isinstance(column, str) else column
        described.append(_column(**own) if "type" in own else _column(**shared[own["name"]] | own))
    return tuple(described)


def _column(name: str, type: str, one_of: Sequence[str] = (), unit: str = "", **facts: str) -> Column:  # noqa: A002  # as in the file
    plain = type.removesuffix("?")
    return Column(name, TYPES[plain], unit, nullable=type != plain, one_of=tuple(one_of), **facts)
