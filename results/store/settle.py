"""At rest, a table is one set of files that holds each row once, for every reader of Parquet.

While a launch runs, `tables/` has the parts of its writers. When no writer is left, a run is *settled*: all its rows,
without those that were replaced, go into new files in a new folder, which then takes the place of `tables/`.

    tables/             what any reader of Parquet reads
    tables/.settled.json   the names of all files whose rows are in the settled files beside it
    .settling/          the next tables/, while it is made
    .superseded/<n>/    what tables/ was before settlement n

Why a new folder: no order of changing files one by one is right for a reader that lists a folder slowly, whose listing
may have files from before and after. A reader that has listed the old folder opens its files by their path, where now
the new folder is: their names are not there, which is an error, never a smaller number. So each settlement gives new
names to all files. The old folder stays until the end of the next launch, because a client of a shared file system that
still knows it may write into it: our own readers look there, too.

Two ordinary renames change the folders: shared file systems lack an atomic exchange. Between them `tables/` is absent:
plain readers meet an error, our own readers take the old folder, and writers wait.
"""

import json
import os
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from results.store.merge import copy_rows, only_one, schema_of
from results.store.parts import (
    SETTLED_FORMAT,
    SETTLING,
    SUPERSEDED,
    Part,
    by_version,
    is_made_of_parts,
    is_settled_name,
    list_parts,
    manifest_file,
    merged_folder,
    parts_of,
    read_state,
    read_superseded,
    settled_file,
    superseded_folders,
)
from results.store.schema import TABLES, TableSchema, arrow_schema
from results.store.views import LAST_FIRST, all_rows, quote
from transtailor.documents import read_json
from transtailor.files import make_folder, sync, write_file

if TYPE_CHECKING:
    import duckdb

Progress = Callable[[str], object]
NEVER = "00000000T000000.000000"
"""The moment in the name of a file without rows."""


@dataclass(frozen=True, kw_only=True)
class SettledTable:
    """What a settlement made of one table."""

    table: str
    files: int
    rows: int
    replaced_rows: int  # that are gone now


def settle(run: Path, progress: Progress = lambda _: None) -> list[SettledTable]:
    """Bring the tables of a run that is not running to rest: each counted row once, replaced rows gone.

    It may be killed at any moment: `results.load` reads all rows all the same, and the next settlement does it again.

    Args:
        progress: takes a message for each table.

    Returns:
        What was made of each table; nothing where the tables are at rest already.

    Raises:
        ResultsError: the folder is no run, a file cannot be read, or another process merges the run.
        OSError: the disk refuses; all rows are where they were.

    Writes:
        `<run>/tables/`, as a whole.
    """
    import duckdb

    with only_one(run):
        _complete_earlier(run)
        files = parts_of(run)
        if _are_at_rest(run, files):
            _remove_merged(run)
            return []
        older = superseded_folders(run)
        number = 1 + max([_number_of(run / "tables"), *(int(folder.name) for folder in older)])
        settling = run / SETTLING
        shutil.rmtree(settling, ignore_errors=True)
        settled = []
        with duckdb.connect(":memory:", config={"temp_directory": ""}) as connection:
            for name, parts in files.items():
                progress(f"bringing the table {name} to rest: each row once, in few files")
                replaced = _replaced_rows(TABLES[name], parts, connection)
                settled.append(_settle_table(TABLES[name], parts, replaced, settling / name, number))
        _write_record(settling, number, _superseded_names(run, files))
        _take_the_place_of_tables(run, number)
        _remove_merged(run)
        _remove_superseded(run, older)
    return settled


def complete_killed(run: Path) -> None:
    """Complete a settlement that was killed between its two renames: writers would wait for the folder of tables.

    Raises:
        ResultsError: another process merges the run.
    """
    if not (run / "tables").exists():
        with only_one(run):
            _complete_earlier(run)


def settle_or_clear(run: Path, progress: Progress = lambda _: None) -> None:
    """Settle the tables of a run; if they are at rest already, remove what they were before. Raises as `settle`."""
    if not settle(run, progress):
        with only_one(run):
            _remove_superseded(run, superseded_folders(run))


def is_settled(run: Path) -> bool:
    """Whether each table of a run is at rest: all its rows are in settled files, and no other file is there."""
    return _are_at_rest(run, parts_of(run))


def _are_at_rest(run: Path, files: Mapping[str, Sequence[Part]]) -> bool:
    """Whether the folder of each table has exactly the files that count, and all are settled."""
    for table, parts in files.items():
        present = {path.name for path in list_parts(run / "tables" / table)}
        if not parts or present != {part.path.name for part in parts} or not all(map(is_settled_name, present)):
            return False
    return True


def _settle_table(
    table: TableSchema, parts: Sequence[Part], replaced: Mapping[Path, Collection[int]], folder: Path, number: int
) -> SettledTable:
    """Make the settled files of a table: merged and settled ones get another name, all others become one file.

    Args:
        replaced: file -> numbers of its rows that do not count; such a file is copied.
        number: of the settlement.
    """
    make_folder(folder)
    large = [part for part in parts if is_made_of_parts(part.path.name)]
    small = [part for part in parts if not is_made_of_parts(part.path.name)]
    rows: dict[Path, int] = {}  # of each file that has some
    groups = [[part] for part in large] + by_version(small)
    for index, group in enumerate(groups):
        moment = group[-1].path.name.partition("-")[0]
        final = folder / f"{moment}-settled-{number:06}-{index:06}.parquet"
        is_large = index < len(large)
        if is_large and group[0].path not in replaced:
            _link(group[0].path, final)
        else:
            write_file(final, partial(copy_rows, [part.path for part in group], schema_of(table, group), replaced))
        count = pq.read_metadata(final).num_rows
        if count:
            rows[final] = count
        else:
            final.unlink()
    if not rows:  # so that every reader finds the columns
        empty = folder / f"{NEVER}-settled-{number:06}-000000.parquet"
        rows[write_file(empty, partial(copy_rows, [], arrow_schema(table), {}))] = 0
    sync(folder)
    return SettledTable(
        table=table.name, files=len(rows), rows=sum(rows.values()), replaced_rows=sum(map(len, replaced.values()))
    )


def _replaced_rows(
    table: TableSchema, parts: Sequence[Part], connection: "duckdb.DuckDBPyConnection"
) -> dict[Path, list[int]]:
    """Find the rows of which a later one has the same key: their numbers, by file.

    The first query knows the keys only as hashes of 8 bytes: few tables of a sweep have replaced rows, and no table has
    many.
    """
    if len(parts) < 2 and not any(is_made_of_parts(part.path.name) for part in parts):  # no part has a key twice
        return {}
    key = ", ".join(map(quote, table.key))
    source = f"({all_rows(table, list(parts))})"
    [(hashes,)] = connection.execute(
        "CREATE OR REPLACE TEMP TABLE twice AS"
        f" SELECT hash({key}) AS hashed FROM {source} GROUP BY ALL HAVING count(*) > 1"
    ).fetchall()
    if hashes == 0:
        return {}
    replaced_rows = connection.execute(
        f"SELECT _part, file_row_number FROM {source} SEMI JOIN twice ON hash({key}) = twice.hashed"
        f" QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY {LAST_FIRST}) > 1"
    ).fetchall()
    replaced: dict[Path, list[int]] = {}
    paths = {str(part.path.absolute()): part.path for part in parts}
    for name, row_number in replaced_rows:
        replaced.setdefault(paths[name], []).append(row_number)
    return replaced


def _link(path: Path, name: Path) -> None:
    """Give a file, which is never changed, another name; where the file system has no hard links, copy it."""
    try:
        os.link(path, name)
    except OSError:
        write_file(name, path.read_bytes())


def _number_of(tables: Path) -> int:
    """Return the number of the settlement that made a folder of tables; 0 if none did."""
    path = settled_file(tables)
    return int(read_json(path)["number"]) if path.exists() else 0


def _superseded_names(run: Path, files: Mapping[str, Sequence[Part]]) -> dict[str, set[str]]:
    """Return what settled files stand for: all files that were read, and all that did not count."""
    state = read_state(run)
    superseded = {}
    for table, parts in files.items():
        present: set[str] = set()
        for folder in state.folders:
            present.update(path.name for path in list_parts(folder / table))
        superseded[table] = {part.path.name for part in parts} | (present & state.hidden(table))
    return superseded


def _write_record(tables: Path, number: int, superseded: Mapping[str, Collection[str]]) -> None:
    names_by_table = {table: sorted(names) for table, names in superseded.items()}
    text = json.dumps({"format": SETTLED_FORMAT, "number": number, "superseded": names_by_table}) + "\n"
    write_file(settled_file(tables), text)


def _take_the_place_of_tables(run: Path, number: int) -> None:
    """Rename tables/ and then the new folder, which is complete and durable, to its place.

    Between the two no writer finds a folder, so the parts that it wrote last are taken along then.
    """
    superseded = run / SUPERSEDED / f"{number:06}"
    make_folder(superseded.parent)
    (run / "tables").rename(superseded)
    sync(superseded.parent)
    sync(run)
    _complete(run)


def _complete_earlier(run: Path) -> None:
    """Complete a settlement that was killed between its two renames."""
    if not (run / "tables").exists() and settled_file(run / SETTLING).exists():
        _complete(run)


def _complete(run: Path) -> None:
    _take_late_parts(run, run / SETTLING)
    (run / SETTLING).rename(run / "tables")
    sync(run)
    _take_late_parts(run, run / "tables")  # whose name came into the old folder just then


def _take_late_parts(run: Path, tables: Path) -> None:
    """Link the parts into new tables that have come into the old ones after their files were read, under new names."""
    number = _number_of(tables)
    superseded = {table: set(names) for table, names in read_superseded(tables).items()}
    late: list[tuple[str, Path]] = []
    for table, names in superseded.items():
        for folder in superseded_folders(run):
            late += [(table, path) for path in list_parts(folder / table) if path.name not in names]
    for table, path in late:
        _link(path, tables / table / f"{path.stem}-late-{number:06}.parquet")
        sync(tables / table)
        superseded[table].add(path.name)
    if late:
        _write_record(tables, number, superseded)


def _remove_merged(run: Path) -> None:
    """Remove the merged files: their rows are in settled files."""
    manifest_file(run).unlink(missing_ok=True)
    for table in TABLES:
        shutil.rmtree(merged_folder(run) / table, ignore_errors=True)


def _remove_superseded(run: Path, folders: Sequence[Path]) -> None:
    """Remove what earlier settlements have left, unless a part in it still counts."""
    if not folders:
        return
    counted: list[Path] = []
    for parts in parts_of(run).values():
        counted += [part.path for part in parts]
    for folder in folders:
        still_counts = any(folder in path.parents for path in counted)
        if not still_counts:
            shutil.rmtree(folder, ignore_errors=True)
