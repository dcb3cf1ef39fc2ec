"""A row from the records that it is about, by the paths that the columns of its table have as `source`."""

from collections.abc import Mapping
from functools import cache, reduce
from typing import Any

from results.store.schema import TABLES


def project(table: str, **records: Any) -> dict[str, Any]:
    """Return the columns of a row whose source is in one of the records; None where that has no such part.

    The steps of a path are attributes of records, keys of dictionaries, and places in tuples.

    >>> project("layers", layer={"layer": "conv1", "width": 3, "original_width": 4, "macs": 9})
    {'layer': 'conv1', 'width': 3, 'original_width': 4, 'macs': 9}

    Args:
        records: first step of a path -> what the path continues in.

    Raises:
        AttributeError: a record lacks an attribute of a path.
    """
    return {name: reduce(_part, path, records[root]) for name, root, path in _paths(table) if root in records}


@cache
def _paths(table: str) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    """Column, first step, and further steps of the columns that have a source."""
    paths = []
    for column in TABLES[table].columns:
        if column.source:
            root, *path = column.source.split(".")
            paths.append((column.name, root, tuple(path)))
    return tuple(paths)


def _part(value: Any, step: str) -> Any:
    if value is None:
        return None
    if isinstance(value, Mapping):
        return value.get(step)
    return value[int(step)] if isinstance(value, tuple) else getattr(value, step)
