"""The Arrow types of columns, by their names in `columns.json` and in docs/columns.md."""

from collections.abc import Mapping
from types import MappingProxyType

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
