"""Parquet and DuckDB while a day is simulated: the product's files and queries, but none is worked out twice.

Opening a DuckDB takes longer than ten queries, so one stays warm, and a view is made only if a query names it. Files of
equal bytes have equal rows, so they are decoded once, and a query of equal files is asked once.
"""

import re
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from results.store.parts import Part
from results.store.schema import TABLES
from results.store.views import COMPARED_POINTS, LATENCIES, MEASURED_POINTS, TIMED_ON, names_in, quote, select

KEPT = 4096  # files, and answers
COMPUTED = {
    "timed_on": TIMED_ON.partition(" AS\n")[2],
    "latencies": LATENCIES.partition(" AS\n")[2],
    "measured_points": MEASURED_POINTS.partition(" AS\n")[2].format(**names_in(several=False)),
    "compared_points": COMPARED_POINTS.partition(" AS ")[2].format(**names_in(several=False)),
}
"""Views of several tables; each names only those before it."""
_ParquetFile = pq.ParquetFile


class Statement(NamedTuple):
    """The part of a statement that is asked for; DuckDB complains of its own that are still there at the end."""

    type: duckdb.StatementType


class WarmTables:
    """The part of a DuckDB connection that `results.store.reader.Run` uses, with the views of one run."""

    def __init__(self, found: dict[str, dict[str, list[Part]]], *, several: bool) -> None:
        assert not several
        (self._parts,) = found.values()

    def extract_statements(self, sql: str) -> list[Statement]:
        """As a connection's."""
        return _statements(sql)

    def sql(self, sql: str, params: list[Any] | None = None) -> "WarmTables":
        """As a connection's; the answer is there at once."""
        self._answer = self._asked(sql, params or [], _views_in(sql))
        return self

    def to_arrow_table(self) -> pa.Table:
        """The last answer."""
        return self._answer

    def close(self) -> None:
        """As a connection's."""

    def _asked(self, sql: str, params: list[Any], named: tuple[str, ...]) -> pa.Table:
        if not named:  # the files are in the query
            return _asked_of_engine(sql, params)
        parts = {name: self._parts[name] for name in named if name in TABLES}
        key = (sql, repr(params), tuple((name, part.path.read_bytes()) for name in parts for part in parts[name]))
        if key not in _answers:
            views = [f"{quote(name)} AS ({_view(name, tuple(found))})" for name, found in parts.items()]
            views += [f"{name} AS ({sql})" for name, sql in COMPUTED.items() if name in named]
            if len(_answers) > KEPT:
                _answers.clear()
            more = f",{own[1]}" if len(own := sql.lstrip().split("WITH ", 1)) == 2 and not own[0] else f" {sql}"
            _answers[key] = _asked_of_engine(f"WITH {', '.join(views)}{more}", params)
        return _answers[key]


_answers: dict[tuple[str, str, tuple[tuple[str, bytes], ...]], pa.Table] = {}


@lru_cache(maxsize=KEPT)
def _views_in(sql: str) -> tuple[str, ...]:
    """The tables and computed views that a query names, with those that these name."""
    words = set(re.findall(r"\w+", re.sub("'[^']*'", "", sql)))
    for name, view in reversed(COMPUTED.items()):
        words.update(re.findall(r"\w+", view) if name in words else ())
    return tuple(name for name in (*TABLES, *COMPUTED) if name in words)


def _view(name: str, parts: tuple[Part, ...]) -> str:
    return select(TABLES[name], {"": list(parts)} if parts else {}, several=False)


@lru_cache(maxsize=KEPT)
def _statements(sql: str) -> list[Statement]:
    return [Statement(found.type) for found in _engine().extract_statements(sql)]


def _asked_of_engine(sql: str, params: list[Any]) -> pa.Table:
    # Without a name DuckDB would draw one from the day's numbers, but only if the answer is not known from another day.
    return _engine().sql(sql, params=params, alias="answer").to_arrow_table()


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
