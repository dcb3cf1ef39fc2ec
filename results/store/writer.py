"""Write rows durably: each call makes one immutable Parquet file, atomically."""

import errno
import os
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from numbers import Integral, Real
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from results.store.parts import WRITING, superseded_folders
from results.store.schema import (
    BOOLEAN,
    FLOAT,
    FLOATS,
    INTEGER,
    INTEGERS,
    MOMENT,
    STRING,
    STRINGS,
    TABLES,
    ColumnSchema,
    TableSchema,
    arrow_schema,
    table_named,
)
from transtailor.files import make_folder, write_file
from transtailor.waiting import WaitedTooLong, wait_for

WRITTEN_AT = "written_at"
FOLDER_IS_GONE = (errno.ENOENT, errno.ESTALE)
REPLACED_LIMIT_S = 60.0
"""For a settlement to put the new folder in place: two renames; clients of a shared file system may see it later."""
REPLACED_POLL_S = 0.01
COMPRESSED_FROM_BYTES = 4096
"""Of a part; compressing a smaller one takes longer and saves no block of a disk."""


class Writer:
    """Writes parts of tables below one folder.

    Any number of writers, in any processes on any machines, may write to the same folder at once: a part is never
    changed, and its name is unique. Several threads may use one writer.
    """

    def __init__(self, tables: str | os.PathLike[str], after: datetime | None = None) -> None:
        """Take the folder that holds one folder per table; folders are made with the first rows.

        Args:
            after: all rows get a later time than this, so that they replace rows of a machine whose clock is ahead of
                the clock of this machine.
        """
        self.tables = Path(tables)
        self._id = uuid.uuid4().hex[:12]
        self._clock = Lock()
        self._last = after or datetime.min.replace(tzinfo=UTC)

    def write(self, table: str, rows: Sequence[Mapping[str, Any]]) -> Path | None:
        """Write rows as a new part that survives a loss of power; return its path, or None without rows.

        Args:
            table: a name from `results.store.schema.TABLES`.
            rows: exactly the table's columns, of which those that may be null may be left out; `written_at` is
                filled in here (strictly increasing within one writer, also when the machine's clock is set back).

        Raises:
            ValueError: unknown table; a missing, extra or null column; a value of the wrong type. Nothing is written.
            OSError: the disk refuses; readers see nothing of it.

        Writes:
            `<tables>/<table>/<time>-<writer>-<random>.parquet`; atomically. A writer's parts sort by name in
            the order of writing, so that a reader can find parts that its listing missed (`results.store.parts`).
        """
        description = table_named(table)
        if not rows:
            return None
        columns = _columns(description, rows)
        moment = self._moment()
        columns[WRITTEN_AT] = pa.array([moment] * len(rows), MOMENT)
        schema = arrow_schema(description)
        part = pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)
        return self._write_part(table, moment, part)

    def begin(self) -> None:
        """Write a part without rows of each table, so that every reader finds the tables from the first moment."""
        for description in TABLES.values():
            self._write_part(description.name, self._moment(), arrow_schema(description).empty_table())

    def _write_part(self, table: str, moment: datetime, part: pa.Table) -> Path:
        """Write a part into its table's folder, also while a settlement replaces all folders (`results.store.settle`).

        Only a run that was never settled gets new folders: else a reader could find `tables/` with this part alone.
        """
        # Random: a fork may have copied the writer into another process.
        path = self.tables / table / f"{moment:%Y%m%dT%H%M%S.%f}-{self._id}-{uuid.uuid4().hex[:12]}.parquet"
        content = partial(_encode, part)
        made_in = self.tables.parent / WRITING / table

        def written() -> Path | None:
            """Return the part's path, also where a settlement has moved it; None while its folder is being replaced."""
            try:
                if not superseded_folders(self.tables.parent):
                    make_folder(path.parent)
                make_folder(made_in)
                return write_file(path, content, made_in=made_in)
            except OSError as error:
                if error.errno not in FOLDER_IS_GONE or not superseded_folders(self.tables.parent):
                    raise
            # Its folder may have been replaced when the part had its name: then it is read from there.
            return next((moved for moved in self._moved(path) if moved.exists()), None)

        try:
            return wait_for(written, f"the folder {str(path.parent)!r}", REPLACED_LIMIT_S, poll_s=REPLACED_POLL_S)
        except WaitedTooLong:  # a settlement was killed; the next one reads what is here
            return write_file(self._moved(path)[-1], content, made_in=made_in)

    def _moved(self, path: Path) -> list[Path]:
        """Return what a part's path became in each settlement."""
        return [folder / path.parent.name / path.name for folder in superseded_folders(self.tables.parent)]

    def _moment(self) -> datetime:
        with self._clock:
            self._last = max(datetime.now(UTC), self._last + timedelta(microseconds=1))
            return self._last


def _encode(part: pa.Table, stream: BinaryIO) -> None:
    """Write a part with little time and space: without statistics, dictionaries and Arrow's copy of the schema.

    Units and meanings of the columns are in docs/columns.md and in merged files.
    """
    with pq.ParquetWriter(
        stream, part.schema, compression="zstd" if part.nbytes >= COMPRESSED_FROM_BYTES else "none",
        use_dictionary=False, write_statistics=False, store_schema=False,
    ) as writer:  # fmt: skip
        writer.write_table(part)
        writer.add_key_value_metadata(part.schema.metadata)


def _columns(table: TableSchema, rows: Sequence[Mapping[str, Any]]) -> dict[str, pa.Array]:
    """Build one array per column of the rows. Raises ValueError: the rows do not fit the table."""
    columns = [column for column in table.columns if column.name != WRITTEN_AT]
    names = {column.name for column in columns}
    needed = {column.name for column in columns if not column.nullable}
    for number, row in enumerate(rows):
        missing = needed - set(row)
        if missing:
            raise ValueError(f"table {table.name}, row {number}: missing column {_list_text(missing)}")
        if WRITTEN_AT in row:
            raise ValueError(
                f"table {table.name}, row {number}: column {WRITTEN_AT} is set by the writer: leave it out"
            )
        extra = set(row) - names
        if extra:
            raise ValueError(
                f"table {table.name}, row {number}: extra column {_list_text(extra)}; columns: {_list_text(names)}"
            )
    return {column.name: _array(table.name, column, rows) for column in columns}


def _list_text(names: set[str]) -> str:
    return ", ".join(sorted(str(name) for name in names))


def _array(table: str, column: ColumnSchema, rows: Sequence[Mapping[str, Any]]) -> pa.Array:
    values = [row.get(column.name) for row in rows]
    for number, value in enumerate(values):
        problem = _problem(column, value)
        if problem:
            raise ValueError(f"table {table}, row {number}, column {column.name}: {problem}, given {_text_of(value)}")
    if column.type == INTEGER:  # Arrow does not accept all number types that passed the check above
        values = [None if value is None else int(value) for value in values]
    elif column.type == FLOAT:
        values = [None if value is None else float(value) for value in values]
    try:
        return pa.array(values, column.type)
    except (pa.ArrowException, ValueError, OverflowError) as error:
        raise ValueError(f"table {table}, column {column.name}: cannot be stored as {column.type}: {error}") from error


def _problem(column: ColumnSchema, value: object) -> str:
    """Say what is wrong with a value of a column; empty if it is valid."""
    if value is None:
        return "" if column.nullable else f"expected {column.type}, and null is not allowed"
    if not _fits(column.type, value):
        zone = " with a time zone" if column.type == MOMENT else ""
        return f"expected {column.type}{zone}"
    if column.one_of and value not in column.one_of:
        return f"expected one of {', '.join(column.one_of)}"
    return ""


def _fits(kind: pa.DataType, value: object) -> bool:
    """Whether a column of a type may have this value; a bool is no number, and an integer is accepted as a float."""
    if kind == STRING:
        return isinstance(value, str)
    if kind == INTEGER:
        return isinstance(value, Integral) and not isinstance(value, bool)
    if kind == FLOAT:
        return isinstance(value, Real) and not isinstance(value, bool)
    if kind == BOOLEAN:
        return isinstance(value, bool)
    if kind == STRINGS:
        return isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)
    if kind == INTEGERS:
        return isinstance(value, (list, tuple)) and all(type(item) is int for item in value)
    if kind == FLOATS:
        return isinstance(value, (list, tuple)) and all(item is None or type(item) is float for item in value)
    return isinstance(value, datetime) and value.tzinfo is not None


def _text_of(value: object) -> str:
    text = repr(value)
    return f"{text if len(text) <= 80 else text[:77] + '...'} ({type(value).__name__})"
