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
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        type_name: as in `columns.json`, such as "int64".
        unit: "" if it has none.
        one_of: the only values allowed; (): any.
        source: the path to the value, such as "stage.info.validation_loss", for `results.store.projection`; "": it is
            computed.
        heading: what stands over it where people read; "": its name, with spaces. "{mark}" is the unit of the scores.
        scale: how its values are written for people, one of `results.text.scales.SCALED`; "": as they are.
    """

    name: str
    type_name: str
    unit: str = ""
    meaning: str = ""
    nullable: bool = False
    one_of: tuple[str, ...] = ()
    source: str = ""
    heading: str = ""
    scale: str = ""

    @property
    def type(self) -> "pa.DataType":
        """Its type in Arrow, which takes 0.2 s to import: plans and help do not need it."""
        from results.arrow_types import TYPES

        return TYPES[self.type_name]


@cache
def declared() -> Mapping[str, Any]:
    """Return what `columns.json` says, as it is there."""
    described: dict[str, Any] = json.loads(Path(__file__).with_name("columns.json").read_bytes())
    return MappingProxyType(described)


@cache
def answer_columns(answer: str, table: str) -> tuple[Column, ...]:
    """Return the columns of a table of an answer: what each of its records has, whatever the run."""
    return columns_from(declared()["answers"][answer][table]["columns"])


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
    return Column(name, plain, unit, nullable=type != plain, one_of=tuple(one_of), **facts)
