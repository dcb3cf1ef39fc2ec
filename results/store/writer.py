"""Write the rows of a run durably. One process at a time does so: the one that holds the run's lock.

    .writing/<number>/  of the process with this number: files before they are renamed into tables/, and what they have
                        replaced, which a reader on another machine may still read

Each process that takes the lock gets the next number. Before it reads or writes, it removes the folders of all earlier
numbers. From then on no rename of an earlier process can succeed, even if that was only out of reach and goes on now:
what it would rename is gone, and it can make no other file. So no lock has to be asked at the moment of a rename, which
would be too late anyway.
"""

import errno
import os
import shutil
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from results.arrow_types import INTEGERS
from results.errors import ResultsError
from results.store.files import (
    GONE,
    changing_file,
    compression_to_replace,
    growing_file,
    list_files,
    number_of,
    read_rows,
)
from results.store.lock import hold_lock
from results.store.rows import Rows, checked, stamped, with_replaced
from results.store.schema import CHANGING, TABLES, WRITE_ORDER, TableSchema, arrow_schema, table_named
from transtailor.files import is_there, make_folder, make_folders, write_file
from transtailor.ownership import refuse_outside
from transtailor.waiting import wait_for

WRITING = ".writing"
"""Folder of a run: a folder for each process that writes rows, or did so last."""
FULL_BYTES = 8_000_000
"""A file of a growing table that has reached this size is never written again."""
FULL_ROWS = 2**18
"""Or this number of rows, which are held in memory until then."""
GROUP_ROWS = 2**17
REPLACED_KEPT_S = 90.0
"""How long a replaced file stays for readers on other machines: above `CACHED_S`."""
EMPTIED_LIMIT_S = 90.0  # for an earlier process to notice that its folder is gone


class TakenOverError(ResultsError):
    """Another process writes the run now, as this one was out of reach and taken for dead; or its folder is gone."""


def take_number(run: Path) -> int:
    """Take the next number of a run: to be called only by the process that holds the run's lock, once.

    Raises:
        ResultsError: this user may not make the folder of this number, or remove that of an earlier one; or a link
            leads out of the run.
        OSError: the disk refuses.
    """
    writing = run / WRITING
    tables = run / "tables"
    refuse_outside(run, [writing, *writing.glob("*"), tables, *(tables / name for name in TABLES)], ResultsError)
    try:
        make_folder(writing)
        number = _make_next(writing, tables)
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        raise ResultsError(
            f"{str(writing)!r} cannot be made ({error.strerror}), and rows are written there first: give this user the"
            " right to write to the folder of the run"
        ) from error
    for earlier in _numbers(writing):
        if earlier < number:
            _remove(writing / str(earlier))
    return number


def _make_next(writing: Path, tables: Path) -> int:
    """Make the folder of the next number; return the number, which no process has had before."""
    number = 0
    while True:
        number = 1 + max([number, *_numbers(writing), *map(number_of, _all_files(tables))])
        folder = writing / str(number)
        if not _made(folder):  # this machine did not see it yet
            continue
        if max(_numbers(writing)) == number:
            return number
        folder.rmdir()  # this process stood still: others have had this number since, and greater ones


def _numbers(writing: Path) -> list[int]:
    return [int(path.name) for path in writing.iterdir() if path.name.isdigit()]


def _all_files(tables: Path) -> list[Path]:
    files: list[Path] = []
    for table in TABLES:
        files += list_files(tables / table)
    return files


def _made(folder: Path) -> bool:
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    return True


def _remove(folder: Path) -> None:
    """Remove the folder of an earlier process, which may still make files in it."""

    def is_removed() -> bool:
        shutil.rmtree(folder, ignore_errors=True)
        return not is_there(folder)

    what = f"the folder {str(folder)!r} to be removed: is it another user's?"
    wait_for(is_removed, what, EMPTIED_LIMIT_S, poll_s=0.1, error=ResultsError)


@dataclass(frozen=True, kw_only=True)
class _Growing:
    """The last file of a growing table, as this process has written it."""

    file: int  # its number among those of this process, from 1
    rows: pa.Table | None  # None: it is full


class Writer:
    """Writes the rows of one run; see above for who may have one. Several threads may use it."""

    def __init__(self, tables: str | os.PathLike[str]) -> None:
        """Take the run's next number; folders of its tables are made with the first rows. Raises as `take_number`."""
        self.tables = Path(tables)
        make_folder(self.tables.parent)
        self.number = take_number(self.tables.parent)
        self._folder = self.tables.parent / WRITING / str(self.number)
        self._adding = threading.Lock()
        self._writing = threading.Lock()
        self._waiting: dict[str, list[pa.Table]] = {}
        self._growing: dict[str, _Growing] = {}
        self._changing: dict[str, pa.Table] = {}
        self._replaced: deque[tuple[float, Path]] = deque()
        self._last = datetime.min.replace(tzinfo=UTC)

    def add(self, table: str, rows: Rows) -> None:
        """Take rows for the next commit. What one call gives of a growing table comes into one file.

        Args:
            table: a name from `results.store.schema.TABLES`.
            rows: exactly the table's columns but `written_at`, which a commit sets; as records, of which those that may
                be null may be left out, or as an Arrow table. In a table of `CHANGING` a row replaces that of its key.

        Raises:
            ValueError: unknown table; a missing, extra or null column; a value of the wrong type. Nothing is taken.
        """
        description = table_named(table)
        taken = checked(description, rows)
        if taken.num_rows:
            with self._adding:
                self._waiting.setdefault(table, []).append(taken)

    def write(self, table: str, rows: Rows) -> None:
        """Write rows, and all that wait; they survive a loss of power. Raises as `add` and `commit`."""
        self.add(table, rows)
        self.commit()

    def begin(self) -> None:
        """Write a file without rows of each table that has none, so that every reader finds the tables."""
        make_folders(self.tables, TABLES)
        for name, table in TABLES.items():
            if not list_files(self.tables / name):
                empty = arrow_schema(table).empty_table()
                path = changing_file(self.tables, name)
                if name not in CHANGING:
                    path = growing_file(self.tables, name, self.number, 1)
                    self._growing[name] = _Growing(file=1, rows=empty)
                self._replace(path, empty)

    @property
    def has_rows_waiting(self) -> bool:
        """Whether the next commit has something to write."""
        return bool(self._waiting)

    def commit(self) -> None:
        """Write all rows that wait, table by table in `WRITE_ORDER`.

        Raises:
            TakenOverError: another process writes the run now.
            OSError: the disk refuses; what is not written yet waits for the next commit.
        """
        with self._writing:
            if self._waiting and not is_there(self._folder):
                raise self._taken_over()
            moment = self._moment()
            for table in WRITE_ORDER:
                with self._adding:
                    units = self._waiting.get(table)
                    taken = len(units or ())
                if not units:
                    continue
                rows = stamped(TABLES[table], pa.concat_tables(units[:taken]), moment)
                if table in CHANGING:
                    self._write_changing(TABLES[table], rows)
                else:
                    self._write_growing(TABLES[table], rows)
                with self._adding:  # others may have been added since
                    del units[:taken]
                    if not units:
                        del self._waiting[table]
            self._remove_replaced()
            pa.default_memory_pool().release_unused()  # the next commit may be a minute away

    def _write_growing(self, table: TableSchema, rows: pa.Table) -> None:
        last = self._growing.get(table.name)
        if last is not None and last.rows is not None:
            file, rows = last.file, pa.concat_tables([last.rows, rows])
        else:
            file = 1 if last is None else last.file + 1
        path = growing_file(self.tables, table.name, self.number, file)
        self._replace(path, rows)  # if it fails after the rename, the next commit writes the same file
        is_full = rows.num_rows >= FULL_ROWS or path.stat().st_size >= FULL_BYTES
        self._growing[table.name] = _Growing(file=file, rows=None if is_full else rows)

    def _write_changing(self, table: TableSchema, rows: pa.Table) -> None:
        path = changing_file(self.tables, table.name)
        if table.name not in self._changing:
            self._changing[table.name] = _rows_or_none(path, table)
        replaced = with_replaced(table, self._changing[table.name], rows)
        self._replace(path, replaced)
        self._changing[table.name] = replaced

    def _replace(self, path: Path, rows: pa.Table) -> None:
        """Put a file with these rows in the place of another one, which is kept for a while for readers elsewhere."""
        try:
            make_folder(path.parent)
            self._keep_replaced(path)
            write_file(path, partial(_encode, rows, compression_to_replace(path)), made_in=self._folder)
        except OSError as error:
            if error.errno in GONE and not is_there(self._folder):
                raise self._taken_over() from error
            raise

    def _taken_over(self) -> TakenOverError:
        run = str(self.tables.parent)
        if not is_there(self.tables):
            return TakenOverError(
                f"{run!r} was removed while it ran, so this launch ends; its finished stages are in the cache: remove "
                "what is left of the folder, and launch again"
            )
        return TakenOverError(f"another process writes the rows of {run!r} now; this one ends")

    def _keep_replaced(self, path: Path) -> None:
        kept = self._folder / f"{path.name}.{os.urandom(4).hex()}.replaced"
        try:
            os.link(path, kept)
        except FileNotFoundError:
            if not is_there(self._folder):
                raise
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.ESTALE):
                raise
            # A file system without hard links: a reader elsewhere may have to read again.
        else:
            self._replaced.append((time.monotonic(), kept))

    def _remove_replaced(self) -> None:
        while self._replaced and time.monotonic() - self._replaced[0][0] >= REPLACED_KEPT_S:
            with suppress(OSError):  # it goes with the folder
                self._replaced.popleft()[1].unlink(missing_ok=True)

    def _moment(self) -> datetime:
        self._last = max(datetime.now(UTC), self._last + timedelta(microseconds=1))
        return self._last


def write_timings(tables: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add rows to the table `timings`, which may be written at any moment: whoever does so holds a lock of its own.

    Raises:
        ValueError: as `Writer.add`.
        ResultsError: another process writes timings at this moment.
        OSError: the disk refuses; the table is as it was.
    """
    table = TABLES["timings"]
    new = stamped(table, checked(table, rows), datetime.now(UTC))
    made_in = tables.parent / WRITING / table.name
    make_folder(made_in)
    path = changing_file(tables, table.name)
    with hold_lock(made_in / "lock", f"another process writes timings of {str(tables.parent)!r}; wait for it"):
        make_folder(path.parent)
        rows = with_replaced(table, _rows_or_none(path, table), new)
        write_file(path, partial(_encode, rows, compression_to_replace(path)), made_in=made_in)


def _rows_or_none(path: Path, table: TableSchema) -> pa.Table:
    """Return the rows of a file; none if there is no file."""
    if not is_there(path):
        return arrow_schema(table).empty_table()
    return read_rows(path, table).cast(arrow_schema(table))


def _encode(rows: pa.Table, compression: Mapping[str, Any], stream: BinaryIO) -> None:
    lists = {f"{column.name}.list.element" for column in rows.schema if column.type == INTEGERS}
    pq.write_table(
        rows,
        stream,
        **compression,
        # Numbers of filters grow along a list: written as differences they take half of the space, and less time.
        column_encoding=dict.fromkeys(lists, "DELTA_BINARY_PACKED"),
        use_dictionary=[column.name for column in rows.schema if not pa.types.is_list(column.type)],
        row_group_size=GROUP_ROWS,
    )
