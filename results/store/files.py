"""Which files hold the rows of a run, and their reading.

    tables/<table>/<number>-<file>.parquet  of a table that grows: the last file is replaced by a longer one until it is
                                            full, and never changes again
    tables/<table>/<table>.parquet          of a table whose rows change: replaced as a whole

Each row stands in exactly one file at every moment, so any reader of Parquet may read the whole folder. `<number>` is
that of the process that wrote the file: see `results.store.writer`.
"""

import errno
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from results.errors import ResultsError
from results.store.schema import CHANGING, SCHEMA_VERSION, TABLES, WRITE_ORDER, TableSchema, arrow_schema
from transtailor.errors import reason_of
from transtailor.files import is_there
from transtailor.names import nearest_folder

REFUSED_SHOWN = 3
GONE = (errno.ENOENT, errno.ESTALE)
"""Another client of a shared file system may have replaced a file while it was opened."""
MOST_LISTINGS = 5
_GROWING_NAME = re.compile(r"(?P<number>\d{6,})-(?P<file>\d{6,})\.parquet")


@dataclass(frozen=True)
class TableFiles:
    """The rows of one table of a run as they were when its files were listed.

    Attributes:
        full: files that never change or, as the last one, are read where they are.
        last: the rows of the file that may be replaced at any moment; None: there is no file, or it is one of `full`.
    """

    full: tuple[Path, ...] = ()
    last: pa.Table | None = None


def tables_folder(run: Path) -> Path:
    """Return the folder of the run's tables, which need not exist yet. Raises ResultsError: the folder is no run."""
    if not is_there(run) or not run.is_dir():
        raise ResultsError(
            f"no folder {str(run)!r}: expected the folder of a run, such as runs/demo{nearest_folder(run)}"
        )
    tables = run / "tables"
    if not is_there(tables) and not is_there(run / "spec.toml"):
        below = (path.parent for path in sorted(run.glob("*/tables")))
        one = run.parent if run.name == "tables" else next(below, Path("runs/demo"))
        raise ResultsError(f"{str(run)!r} is no run: it has neither tables/ nor spec.toml; type one, such as {one}")
    return tables


def changing_file(tables: Path, table: str) -> Path:
    """Return the one file of a table whose rows change."""
    return tables / table / f"{table}.parquet"


def growing_file(tables: Path, table: str, number: int, file: int) -> Path:
    """Return a file of a table that grows: the process with this number has begun it as its file-th one, from 1."""
    return tables / table / f"{number:06}-{file:06}.parquet"


def number_of(path: Path) -> int:
    """Return the number of the process that wrote a file of a growing table; 0 for another file."""
    name = _GROWING_NAME.fullmatch(path.name)
    return int(name["number"]) if name else 0


def list_files(folder: Path) -> list[Path]:
    """List the files of a table's folder, in the order in which they were begun; none if there is no folder."""
    if not is_there(folder):
        return []
    return sorted(path for path in folder.iterdir() if path.suffix == ".parquet")


def files_of(run: Path, tables: Iterable[str] = TABLES, *, in_place: bool = False) -> dict[str, TableFiles]:
    """Return table -> its files, each checked; tables that are not asked for have none.

    All of it is as at one moment: a table is read before those whose rows are durable before its own, so that what a
    row speaks of is there.

    Args:
        in_place: the last file of a growing table is not taken into memory. Who reads it later may find more rows,
            which are of what has come since.

    Raises:
        ResultsError: the folder is no run; a file is missing, torn, foreign or of another version.
    """
    folder = tables_folder(run)
    asked = set(tables)
    files = {name: TableFiles() for name in TABLES}
    for name in reversed(WRITE_ORDER):
        if name in asked:
            files[name] = _files_of_table(TABLES[name], folder, in_place=in_place and name not in CHANGING)
    return files


def check_files(run: Path, table: str) -> None:
    """Check the files of a table by their names and footers; no row is read.

    Raises:
        ResultsError: as `files_of`.
        OSError: a file was removed meanwhile.
    """
    paths = list_files(tables_folder(run) / table)
    if paths:
        _refuse_other_names(TABLES[table], paths)
        _check_all(TABLES[table], paths)


def _files_of_table(table: TableSchema, tables: Path, *, in_place: bool) -> TableFiles:
    for listing in range(MOST_LISTINGS):
        paths = list_files(tables / table.name)
        if not paths:
            return TableFiles()
        try:
            _refuse_other_names(table, paths)
            if in_place:
                _check_all(table, paths)
                return TableFiles(tuple(paths))
            _check_all(table, paths[:-1])
            return TableFiles(tuple(paths[:-1]), read_rows(paths[-1], table))
        except OSError as error:
            if error.errno not in GONE or listing == MOST_LISTINGS - 1:
                raise ResultsError(f"a table cannot be read: {reason_of(error, paths[-1])}") from error
    raise AssertionError("the last listing returns or raises")


def _refuse_other_names(table: TableSchema, paths: list[Path]) -> None:
    """Raise ResultsError if a file is not one that a writer has named, or if one before it is missing."""
    folder = paths[0].parent
    following = None  # the next file of the process that wrote the file before
    for path in paths:
        name = _GROWING_NAME.fullmatch(path.name)
        is_named = path.name == f"{table.name}.parquet" if table.name in CHANGING else name is not None
        if not is_named:
            _opened(path, table).close()  # says so if it is of another program or version
            raise ResultsError(f"{str(path)!r} was not named by this program: its rows may be copies; move it away")
        if name is None:
            continue
        number, file = int(name["number"]), int(name["file"])
        if file > 1 and path != following:
            missing = growing_file(folder.parent, table.name, number, file - 1)
            raise ResultsError(f"{str(missing)!r} is missing: put it back from a copy")
        following = growing_file(folder.parent, table.name, number, file + 1)


def compression_to_replace(path: Path) -> dict[str, Any]:
    """Return how to write the file that replaces this one: arguments of `write_table`. It is never as this one is.

    polars and DuckDB open a file twice. If it is replaced in between, they look in the new file where the old one had
    its columns, and may find another column there. That is an error, if the new file is compressed otherwise.
    """
    try:
        written = pq.read_metadata(path)
        is_zstd = written.num_row_groups and written.row_group(0).column(0).compression == "ZSTD"
    except (OSError, pa.ArrowException):  # there is none, or it is torn
        is_zstd = False
    return {"compression": "gzip" if is_zstd else "zstd", "compression_level": 1}


def read_rows(path: Path, table: TableSchema) -> pa.Table:
    """Return the rows of one file of a table.

    Raises:
        OSError: it was removed or replaced (an error number of `GONE`), or the disk does not give it at the moment.
        ResultsError: it is torn, foreign or of another version.
    """
    with _opened(path, table) as file:
        return file.read(use_threads=False)


def _check_all(table: TableSchema, paths: Iterable[Path]) -> None:
    """Raise ResultsError if some of these files cannot be read; the text names the first ones."""
    refused = []
    checked = 0
    for path in paths:
        checked += 1
        try:
            _opened(path, table).close()
        except ResultsError as error:
            refused.append(str(error))
    if refused:
        head = f"{len(refused)} of {checked} files of the table {table.name} cannot be read:\n"
        more = f"\n... and {len(refused) - REFUSED_SHOWN} more" if len(refused) > REFUSED_SHOWN else ""
        raise ResultsError((head if len(refused) > 1 else "") + "\n".join(refused[:REFUSED_SHOWN]) + more)


def _opened(path: Path, table: TableSchema) -> pq.ParquetFile:
    """Open a file and check that it belongs to the table. Raises as `read_rows`."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe would wait for its writer
            raise ResultsError(f"{str(path)!r} is no file; move it out of the folder to read the rest")
        file = pq.ParquetFile(path, pre_buffer=False)
    except OSError as error:
        if error.errno is not None:  # the file system's own, not pyarrow's of what it has read
            raise
        raise _torn_error(path, error) from error
    except pa.ArrowException as error:
        raise _torn_error(path, error) from error
    _refuse_other(path, table, file.schema_arrow)
    return file


def _torn_error(path: Path, error: Exception) -> ResultsError:
    return ResultsError(f"{str(path)!r} is torn or no Parquet file ({error}); put it back from a copy")


def _refuse_other(path: Path, table: TableSchema, schema: pa.Schema) -> None:
    """Raise ResultsError if a file is of another table, program or version."""
    facts: Mapping[bytes, bytes] = schema.metadata or {}
    version = facts.get(b"schema_version", b"")
    if facts.get(b"table") != table.name.encode() or not version.isdigit():
        raise ResultsError(
            f"{str(path)!r} was not written by this program for the table {table.name}; move it out of the folder"
        )
    if int(version) != SCHEMA_VERSION:
        raise ResultsError(
            f"{str(path)!r} has schema version {int(version)}, this program reads {SCHEMA_VERSION}: read the run with"
            " the version of the program that wrote it, or launch the spec with another --name"
        )
    expected = arrow_schema(table)
    if schema.names != expected.names or schema.types != expected.types:
        listed = "\n".join(f"{field.name}: {field.type}" for field in expected)
        raise ResultsError(f"{str(path)!r}: expected the columns\n{listed}")
