"""Parquet and DuckDB while a day is simulated: the product's files and queries, but none is worked out twice.

Opening a DuckDB takes longer than ten queries, so one stays warm, and a view is made only if a query names it. Files of
equal bytes have equal rows, so they are decoded once, and a query of equal files is asked once.
"""

import re
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from results.store.parts import Part
from results.store.schema import TABLES
from results.store.views import quoted, select

KEPT = 4096  # files, and answers
_ParquetFile = pq.ParquetFile


class WarmTables:
    """The part of a DuckDB connection that `results.store.reader.Run` uses, with the views of one run."""

    def __init__(self, found: dict[str, dict[str, list[Part]]], *, several: bool) -> None:
        assert not several
        (self._parts,) = found.values()

    def extract_statements(self, sql: str) -> list[duckdb.Statement]:
        """As a connection's."""
        return _statements(sql)

    def sql(self, sql: str, params: list[Any] | None = None) -> "WarmTables":
        """As a connection's; the answer is there at once."""
        assert not params
        words = set(re.findall(r"\w+", re.sub("'[^']*'", "", sql)))
        named = tuple(name for name in TABLES if name in words)
        self._answer = self._asked(sql, named)
        return self

    def to_arrow_table(self) -> pa.Table:
        """The last answer."""
        return self._answer

    def close(self) -> None:
        """As a connection's."""

    def _asked(self, sql: str, named: tuple[str, ...]) -> pa.Table:
        if not named:  # the files are in the query
            return _engine().execute(sql).to_arrow_table()
        parts = {name: self._parts[name] for name in named}
        key = (sql, tuple((name, part.path.read_bytes()) for name in named for part in parts[name]))
        if key not in _answers:
            views = [f"{quoted(name)} AS ({_view(name, tuple(found))})" for name, found in parts.items()]
            if len(_answers) > KEPT:
                _answers.clear()
            _answers[key] = _engine().execute(f"WITH {', '.join(views)} {sql}").to_arrow_table()
        return _answers[key]


_answers: dict[tuple[str, tuple[tuple[str, bytes], ...]], pa.Table] = {}


def _view(name: str, parts: tuple[Part, ...]) -> str:
    return select(TABLES[name], {"": list(parts)} if parts else {}, several=False)


@lru_cache(maxsize=KEPT)
def _statements(sql: str) -> list[duckdb.Statement]:
    return _engine().extract_statements(sql)


@cache
def _engine() -> duckdb.DuckDBPyConnection:
    engine = duckdb.connect(":memory:", config={"threads": 1})
    engine.execute("SET TimeZone = 'UTC'")
    return engine


class KnownParquet:
    """The part of `pyarrow.parquet.ParquetFile` that the product uses."""

    def __init__(self, path: Path, **_: object) -> None:
        self._content = path.read_bytes()

    def read(self, **_: object) -> pa.Table:
        """As a Parquet file's."""
        return _table_of(self._content)


def read_schema(path: str | Path, **_: object) -> pa.Schema:
    """As `pyarrow.parquet.read_schema`."""
    return _schema_of(Path(path).read_bytes())


@lru_cache(maxsize=KEPT)
def _table_of(content: bytes) -> pa.Table:
    return _ParquetFile(pa.BufferReader(content), pre_buffer=False).read(use_threads=False)


@lru_cache(maxsize=KEPT)
def _schema_of(content: bytes) -> pa.Schema:
    return _ParquetFile(pa.BufferReader(content)).schema_arrow
