"""While a launch runs, merge the many small parts of a run into few large files, which our own readers read instead.

The parts stay where they are, for all other readers; the merged files are outside of `tables/`, so that no reader of
all files there reads a row twice. A merge may be killed at any point: merged files are complete and durable before the
manifest names them, and the manifest is replaced atomically. When no writer is left, see `results.store.settle`.
"""

import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from results.errors import ResultsError
from results.store.lock import hold_lock
from results.store.parts import (
    MANIFEST_FORMAT,
    SETTLING,
    SUPERSEDED,
    Part,
    StoreState,
    by_version,
    is_settled_name,
    list_parts,
    manifest_file,
    merged_folder,
    parts_of,
    read_state,
    tables_folder,
)
from results.store.schema import INTEGERS, SCHEMA_VERSION, TABLES, TableSchema, arrow_schema
from transtailor.files import make_folder, write_file
from transtailor.ownership import refuse_outside

GROUP_ROWS = 2**17
"""Rows of a row group: enough for fast scans, few enough to be held in memory."""
MANY_PARTS = 2000
"""Parts are merged when this many wait to be, or more."""
MANY_FRACTION = 0.05
"""In a large run, they also have to be this share of those that are merged."""


@dataclass(frozen=True, kw_only=True)
class Merged:
    """A merged file and the parts of one table that it holds."""

    table: str
    path: Path  # of the new file
    parts: tuple[Path, ...]
    rows: int
    parts_bytes: int
    merged_bytes: int


@contextmanager
def only_one(run: Path) -> Iterator[None]:
    """Hold the run's lock on its merged files; the kernel releases it when the process ends for any reason.

    Raises:
        ResultsError: another process holds it, or a link leads out of the run, where nothing may be changed.
    """
    paths = []
    for folder in (tables_folder(run), merged_folder(run), run / SUPERSEDED, run / SETTLING):
        paths.append(folder)
        paths += [folder / table for table in TABLES]
    refuse_outside(run, paths, ResultsError)
    make_folder(merged_folder(run))
    busy = f"another process merges the tables of {str(run)!r}; wait for it"
    with hold_lock(merged_folder(run) / "lock", busy):
        yield


def merge(run: str | os.PathLike[str]) -> list[Merged]:
    """Merge all parts that are not merged yet, table by table, and return what was merged.

    A merged file holds all rows of its parts, replaced ones too, in the order of the parts' names. Parts of different
    schema versions are merged into different files; a single part of a version is not merged. Earlier merged files stay
    as they are, so a row is copied once.

    Raises:
        ResultsError: the folder is no run, a part cannot be read, or another process merges the run.
        OSError: the disk refuses; all rows are where they were.

    Writes:
        `<run>/merged/<table>/<name>.parquet`, then `<run>/merged/manifest.json`, each whole or not at all.
    """
    path = Path(run)
    tables_folder(path)
    with only_one(path):
        return _merge_parts(path)


def _merge_parts(run: Path) -> list[Merged]:
    state = read_state(run)
    merged = []
    for table, files in parts_of(run).items():
        known = set(state.merged_files(table))
        waiting = [part for part in files if part.path.name not in known and not is_settled_name(part.path.name)]
        merged += [_merge(run, table, group) for group in by_version(waiting) if len(group) > 1]
    if merged:
        _write_manifest(run, state, merged)
        pa.default_memory_pool().release_unused()  # a driver would keep what its largest merge needed
    return merged


def merge_if_many(run: Path) -> list[Merged]:
    """Merge the parts if that is worth while: if thousands wait, or in a large run a twentieth of all. As `merge`."""
    state = read_state(run)
    waiting = 0
    merged = 0
    for table in TABLES:
        hidden = state.manifest.parts(table)
        merged += len(hidden)
        names = [path.name for path in list_parts(run / "tables" / table)]
        waiting += sum(name not in hidden and not is_settled_name(name) for name in names)
    # A share of all: each manifest names all parts, so writing it every few thousand parts would take ever longer.
    return merge(run) if waiting >= max(MANY_PARTS, merged * MANY_FRACTION) else []


def _merge(run: Path, table: str, parts: Sequence[Part]) -> Merged:
    """Write one merged file; its name sorts like that of its last part, and each attempt has its own name."""
    folder = merged_folder(run) / table
    make_folder(folder)
    final = folder / f"{parts[-1].path.stem}-merged-{os.urandom(4).hex()}.parquet"
    paths = tuple(part.path for part in parts)
    write_file(final, partial(copy_rows, paths, schema_of(TABLES[table], parts), {}))
    return Merged(
        table=table,
        path=final,
        parts=paths,
        rows=pq.read_metadata(final).num_rows,
        parts_bytes=sum(path.stat().st_size for path in paths),
        merged_bytes=final.stat().st_size,
    )


def schema_of(table: TableSchema, parts: Sequence[Part]) -> pa.Schema:
    """Return the schema for the rows of parts of one version, with units and meanings."""
    return arrow_schema(table) if parts[-1].version == SCHEMA_VERSION else pq.read_schema(parts[-1].path)


def copy_rows(
    files: Sequence[Path], schema: pa.Schema, left_out: Mapping[Path, Collection[int]], stream: BinaryIO
) -> None:
    """Copy the rows of files into one, group by group; `left_out` has the numbers of rows not to copy, by file."""
    tables: list[pa.Table] = []
    waiting_rows = 0
    lists = {f"{field.name}.list.element" for field in schema if field.type == INTEGERS}
    options = {
        # Numbers of filters grow along a list: written as differences they take half of the space, and less time.
        "column_encoding": dict.fromkeys(lists, "DELTA_BINARY_PACKED"),
        "use_dictionary": [field.name for field in schema if not pa.types.is_list(field.type)],
    }
    with pq.ParquetWriter(stream, schema, compression="zstd", **options) as writer:
        for path in files:
            rows = pq.ParquetFile(path, pre_buffer=False).read(use_threads=False)  # threads cost more than small parts
            numbers = left_out.get(path)
            if numbers:
                is_kept = np.ones(rows.num_rows, dtype=bool)
                is_kept[list(numbers)] = False
                rows = rows.filter(pa.array(is_kept))
            # Parts have no units and meanings, or older ones; the columns are the same.
            tables.append(pa.Table.from_arrays([rows[name] for name in schema.names], schema=schema))
            waiting_rows += rows.num_rows
            if waiting_rows >= GROUP_ROWS:
                writer.write_table(pa.concat_tables(tables))
                tables = []
                waiting_rows = 0
        if tables:
            writer.write_table(pa.concat_tables(tables))


def _write_manifest(run: Path, state: StoreState, merged: Sequence[Merged]) -> None:
    """Write the manifest of the earlier merged files that still count, and of the new ones."""
    entries: dict[str, dict[str, list[str]]] = {}
    for table, parts_by_file in state.manifest.merged.items():
        entries[table] = {name: sorted(parts_by_file[name]) for name in state.merged_files(table)}
    for new in merged:
        entries.setdefault(new.table, {})[new.path.name] = [path.name for path in new.parts]
    text = json.dumps({"format": MANIFEST_FORMAT, "merged": entries}, indent=1) + "\n"
    write_file(manifest_file(run), text)
