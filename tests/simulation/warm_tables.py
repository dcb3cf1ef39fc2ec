"""Parquet and DuckDB while a day is simulated: the product's files and queries, but none is worked out twice.

Opening a DuckDB takes longer than ten queries, so one stays warm, and a view is made only if a query names it. Files of
equal bytes have equal rows, so they are decoded once, and a query of equal files is asked once.
"""

import re
from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from results.store.files import TableFiles
from results.store.schema import TABLES
from results.store.views import computed_views, held_name, quote, select

KEPT = 4096  # files, and answers
COMPUTED = computed_views(several=False)
_ParquetFile = pq.ParquetFile


class Statement(NamedTuple):
    """The part of a statement that is asked for; DuckDB complains of its own that are still there at the end."""

    type: duckdb.StatementType


class Asked(NamedTuple):
    """A query, and the rows that it is about: bytes of full files, and tables in memory by their identity."""

    sql: str
    parameters: str
    full: tuple[bytes, ...]
    last: tuple[int, ...]


class Answered(NamedTuple):
    """An answer; the tables that it was made from are kept, so that no others get their identities."""

    rows: pa.Table
    last: tuple[pa.Table, ...]


class WarmTables:
    """The part of a DuckDB connection that `results.store.reader.Run` uses, with the views of one run."""

    def __init__(self, files: Mapping[str, Mapping[str, TableFiles]], *, several: bool, **_how: bool) -> None:
        assert not several
        (self._files,) = files.values()

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

    def execute(self, _sql: str) -> None:
        """A view that is held in memory has the rows that it has."""

    def close(self) -> None:
        """As a connection's."""

    def _asked(self, sql: str, params: list[Any], named: tuple[str, ...]) -> pa.Table:
        files = {name: self._files[name] for name in named if name in TABLES}
        full = tuple(path.read_bytes() for found in files.values() for path in found.full)
        last = tuple(found.last for found in files.values() if found.last is not None)
        asked = Asked(sql, repr(params), full, tuple(map(id, last)))
        if asked not in _answers:
            for name, found in files.items():
                if found.last is not None:
                    _engine().register("last_file", found.last)
                    _engine().execute(f"CREATE OR REPLACE TABLE {held_name(name, '')} AS FROM last_file")
            views = [f"{quote(name)} AS ({_view(name, found)})" for name, found in files.items()]
            views += [f"{name} AS ({sql})" for name, sql in COMPUTED.items() if name in named]
            if len(_answers) > KEPT:
                _answers.clear()
            more = f",{own[1]}" if len(own := sql.lstrip().split("WITH ", 1)) == 2 and not own[0] else f" {sql}"
            _answers[asked] = Answered(_asked_of_engine(f"WITH {', '.join(views)}{more}", params), last)
        return _answers[asked].rows


_answers: dict[Asked, Answered] = {}


@lru_cache(maxsize=KEPT)
def _views_in(sql: str) -> tuple[str, ...]:
    """The tables and computed views that a query names, with those that these name."""
    words = set(re.findall(r"\w+", re.sub("'[^']*'", "", sql)))
    for name, view in reversed(COMPUTED.items()):
        words.update(re.findall(r"\w+", view) if name in words else ())
    return tuple(name for name in (*TABLES, *COMPUTED) if name in words)


def _view(name: str, files: TableFiles) -> str:
    return select(TABLES[name], {"": files}, several=False)


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
    engine.execute("CREATE SCHEMA last_files")
    return engine


class KnownParquet:
    """The part of `pyarrow.parquet.ParquetFile` that the product uses."""

    def __init__(self, path: Path, **_: object) -> None:
        self._content = path.read_bytes()
        self.schema_arrow = _schema_of(self._content)

    def __enter__(self) -> "KnownParquet":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def close(self) -> None:
        """As a Parquet file's."""

    def read(self, **_: object) -> pa.Table:
        """As a Parquet file's."""
        return _table_of(self._content)


@lru_cache(maxsize=KEPT)
def _table_of(content: bytes) -> pa.Table:
    return _ParquetFile(pa.BufferReader(content), pre_buffer=False).read(use_threads=False)


@lru_cache(maxsize=KEPT)
def _schema_of(content: bytes) -> pa.Schema:
    return _ParquetFile(pa.BufferReader(content)).schema_arrow
