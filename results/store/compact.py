"""Merge the many small parts of a run into few large files, and remove parts that were merged long ago.

Compaction may be killed at any point: merged files are complete and durable before the manifest names them, and the
manifest is replaced atomically. Until then readers read the parts, from then on the merged files.
"""

import json
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from results.errors import ResultsError
from results.store.lock import hold_lock
from results.store.parts import (
    MANIFEST_FORMAT,
    MergeManifest,
    Part,
    list_parts,
    manifest_file,
    merged_folder,
    merged_folders,
    parts_of,
    read_manifest,
    tables_folder,
)
from results.store.schema import SCHEMA_VERSION, TABLES, arrow_schema
from transtailor.files import make_folder, sync, write_file
from transtailor.ownership import refuse_outside

GROUP_ROWS = 2**17
"""Rows of a row group: enough for fast scans, few enough to be held in memory."""
MANY_PARTS, MANY_FRACTION = 2000, 0.05
"""Parts that wait to be merged, at least; and their share of those that are merged."""


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
    folders = [folder / table for folder in (run / "tables", merged_folder(run)) for table in ("", *TABLES)]
    folders += [merged_folders(run, table)[0] for table in TABLES]
    refuse_outside(run, folders, ResultsError)
    make_folder(merged_folder(run))
    busy = f"{str(run)!r} is being compacted or cleaned by another process; wait for it"
    with hold_lock(merged_folder(run) / "lock", busy):
        yield


def compact(run: str | os.PathLike[str]) -> list[Merged]:
    """Merge all parts that are not merged yet, table by table, and return what was merged.

    A merged file holds all rows of its parts, replaced ones too, in the order of the parts' names. Parts of different
    schema versions are merged into different files; a single part of a version is not merged. Earlier merged files stay
    as they are, so a row is copied once.

    Raises:
        ResultsError: the folder is no run, a part cannot be read, or another process compacts the run.
        OSError: the disk refuses; all rows are where they were.

    Writes:
        `<run>/tables/<table>/merged/<name>.parquet`, then `<run>/merged/manifest.json`, each whole or not at all.
    """
    path = Path(run)
    tables_folder(path)
    with only_one(path):
        manifest = read_manifest(path)
        waiting = {table: _waiting_parts(parts, path) for table, parts in parts_of(path).items()}
        made = [_merge(path, table, group) for table, groups in waiting.items() for group in groups]
        if made:
            _write_manifest(path, manifest, made)
            pa.default_memory_pool().release_unused()  # a driver would keep what its largest merge needed
    return made


def compact_if_many(run: Path) -> list[Merged]:
    """Merge the parts if that is worth while: if thousands wait, or in a large run a twentieth of all. As `compact`."""
    manifest, waiting, merged = read_manifest(run), 0, 0
    for table in TABLES:
        hidden = manifest.parts(table)
        merged += len(hidden)
        waiting += sum(path.name not in hidden for path in list_parts(run / "tables" / table))
    # A share of all: each manifest names all parts, so writing it every few thousand parts would take ever longer.
    return compact(run) if waiting >= max(MANY_PARTS, merged * MANY_FRACTION) else []


def remove_old(run: Path, old: Collection[Path]) -> None:
    """Remove the superfluous files that were there before: a reader of all files has found their rows since then.

    Args:
        old: `list_superfluous` at an earlier time.

    Raises:
        ResultsError: a merged file cannot be read, or another process compacts the run; nothing is removed.
    """
    with only_one(run):
        for path in superfluous_files(run):
            if path in old:
                path.unlink(missing_ok=True)


def superfluous_files(run: Path) -> list[Path]:
    """Check the run, then list the files that no reader needs. The caller holds the lock.

    Raises:
        ResultsError: the run cannot be read, so it is not known what is superfluous.
    """
    parts_of(run)  # check that the merged files that stand for the parts are complete
    if manifest_file(run).exists():
        sync(merged_folder(run))  # a compaction may have been killed before it had synced the manifest's name
    return list_superfluous(run)


def list_superfluous(run: Path) -> list[Path]:
    """List merged parts, and what a killed compaction left: merged files that the manifest does not name."""
    manifest = read_manifest(run)
    found: list[Path] = []
    for table in TABLES:
        hidden, known = manifest.parts(table), manifest.merged.get(table, {})
        found += [path for path in list_parts(run / "tables" / table) if path.name in hidden]
        for folder in merged_folders(run, table):
            found += [path for path in list_parts(folder) if path.name not in known]
            found += sorted(folder.glob(".*.tmp"))
    return found + sorted(merged_folder(run).glob(".*.tmp"))


def _waiting_parts(parts: Sequence[Part], run: Path) -> list[list[Part]]:
    """Group the parts to merge by schema version."""
    versions = sorted({part.version for part in parts})
    new = [part for part in parts if part.path.parent.parent == run / "tables"]
    groups = [[part for part in new if part.version == version] for version in versions]
    return [group for group in groups if len(group) > 1]


def _merge(run: Path, table: str, parts: Sequence[Part]) -> Merged:
    """Write one merged file; its name sorts like that of its last part, and each attempt has its own name."""
    folder, _ = merged_folders(run, table)
    make_folder(folder)
    final = folder / f"{parts[-1].path.stem}-merged-{os.urandom(4).hex()}.parquet"
    paths = tuple(part.path for part in parts)
    is_older = parts[-1].version != SCHEMA_VERSION
    schema = pq.read_schema(paths[-1]) if is_older else arrow_schema(TABLES[table])  # with units and meanings
    write_file(final, partial(_copy_rows, paths, schema))
    return Merged(
        table=table,
        path=final,
        parts=paths,
        rows=pq.read_metadata(final).num_rows,
        parts_bytes=sum(path.stat().st_size for path in paths),
        merged_bytes=final.stat().st_size,
    )


def _copy_rows(parts: Sequence[Path], schema: pa.Schema, stream: BinaryIO) -> None:
    tables: list[pa.Table] = []
    waiting_rows = 0
    with pq.ParquetWriter(stream, schema, compression="zstd") as writer:
        for path in parts:
            rows = pq.ParquetFile(path, pre_buffer=False).read(use_threads=False)  # threads cost more than small parts
            # Parts have no units and meanings, or older ones; the columns are the same.
            tables.append(pa.Table.from_arrays([rows[name] for name in schema.names], schema=schema))
            waiting_rows += rows.num_rows
            if waiting_rows >= GROUP_ROWS:
                writer.write_table(pa.concat_tables(tables))
                tables, waiting_rows = [], 0
        if tables:
            writer.write_table(pa.concat_tables(tables))


def _write_manifest(run: Path, old: MergeManifest, made: Sequence[Merged]) -> None:
    merged = {table: {name: sorted(parts) for name, parts in files.items()} for table, files in old.merged.items()}
    for new in made:
        merged.setdefault(new.table, {})[new.path.name] = [path.name for path in new.parts]
    text = json.dumps({"format": MANIFEST_FORMAT, "merged": merged}, indent=1) + "\n"
    write_file(manifest_file(run), text)
