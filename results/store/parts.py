"""Which files hold the rows of a run.

    tables/<table>/*.parquet       what any Parquet reader reads: parts of writers, and settled files (`settle.py`)
    tables/.settled.json           the names of the files whose rows are in the settled files
    .superseded/<n>/               what tables/ was before a settlement; a late writer may still write into it
    merged/<table>/*.parquet       while a launch runs: the rows of many parts in one file (`merge.py`)
    merged/manifest.json           which parts each merged file stands for

A file that a record or the manifest names is never opened here, so each row is read once, also while the file exists.
"""

import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.fs import LocalFileSystem

from results.errors import ResultsError
from results.store.schema import TABLES, TableSchema
from results.store.schema_migrations import readable_columns
from transtailor.documents import read_json
from transtailor.names import nearest_folder

MANIFEST_FORMAT = SETTLED_FORMAT = 1
SUPERSEDED = ".superseded"
"""Folder of a run: what its tables/ was before each settlement."""
SETTLING = ".settling"
"""Folder of a run: what will take the place of its tables/."""
WRITING = ".writing"
"""Folder of a run: parts that are not whole yet, by table. Some readers refuse a folder that has other files beside the
parts."""
REFUSED_SHOWN = 3
NAMED_BY_A_WRITER = re.compile(r"\d{8}T\d{6}\.\d{6}-")  # with the moment of the last rows
_LOCAL = LocalFileSystem()  # else Arrow looks up the file system of each of thousands of files


class OtherVersionError(ResultsError):
    """A file has a schema version that this program does not read."""


class Part(NamedTuple):
    """One file of a table, and the schema version that it was written with."""

    path: Path
    version: int


def by_version(parts: Iterable[Part]) -> list[list[Part]]:
    """Return the parts of each schema version, the oldest version first, in the order in which they are given."""
    groups: dict[int, list[Part]] = {}
    for part in parts:
        groups.setdefault(part.version, []).append(part)
    return [groups[version] for version in sorted(groups)]


@dataclass(frozen=True)
class MergeManifest:
    """Table -> name of a merged file -> names of the parts whose rows it holds."""

    merged: Mapping[str, Mapping[str, frozenset[str]]] = field(default_factory=dict)

    def parts(self, table: str) -> frozenset[str]:
        """Return the names of the parts of a table that need not be read."""
        return frozenset[str]().union(*self.merged.get(table, {}).values())


@dataclass(frozen=True)
class StoreState:
    """Which files of a run do not count, and why: what changes whenever files are merged or settled.

    Attributes:
        superseded: table -> names of the files whose rows are in settled files.
        manifest: the merged files and their parts.
        folders: where parts may be: tables/, and what it was before.
    """

    superseded: Mapping[str, frozenset[str]]
    manifest: MergeManifest
    folders: tuple[Path, ...]

    def hidden(self, table: str) -> frozenset[str]:
        """Return the names of the parts of a table that must not be read."""
        return self.superseded.get(table, frozenset()) | self.manifest.parts(table)

    def merged_files(self, table: str) -> list[str]:
        """Return the names of the merged files of a table that are to be read."""
        superseded = self.superseded.get(table, frozenset())
        return [name for name in self.manifest.merged.get(table, {}) if name not in superseded]


def merged_folder(run: Path) -> Path:
    """Return the folder of a run's manifest and merged files."""
    return run / "merged"


def superseded_folders(run: Path) -> list[Path]:
    """Return the folders of what a run's tables/ was before each settlement, the earliest first."""
    return sorted((run / SUPERSEDED).glob("[0-9]*"))


def settled_file(tables: Path) -> Path:
    """Return the path of the record of a settlement, in its folder of tables."""
    return tables / ".settled.json"


def manifest_file(run: Path) -> Path:
    """Return the path of a run's manifest."""
    return merged_folder(run) / "manifest.json"


def is_made_of_parts(name: str) -> bool:
    """Whether a file has the rows of several parts: it is merged or settled."""
    return "-merged-" in name or is_settled_name(name)


def is_settled_name(name: str) -> bool:
    """Whether a file is settled: it has its name from a settlement."""
    return "-settled-" in name


def tables_folder(run: Path) -> Path:
    """Return the folder of the run's tables, which need not exist yet. Raises ResultsError: the folder is no run."""
    if not run.is_dir():
        raise ResultsError(
            f"no folder {str(run)!r}: expected the folder of a run, such as runs/demo{nearest_folder(run)}"
        )
    tables = run / "tables"
    is_run = tables.is_dir() or (run / "spec.toml").is_file() or (run / SUPERSEDED).is_dir()
    if not is_run:
        hint = f"; did you mean {str(run.parent)!r}?" if run.name == "tables" else ""
        raise ResultsError(f"{str(run)!r} is no run: it has neither tables/ nor spec.toml{hint}")
    return tables


def has_table(run: Path, table: str) -> bool:
    """Whether a run has the folder of a table, also between the two renames of a settlement."""
    folders = (run / "tables", *superseded_folders(run))
    return any((folder / table).exists() for folder in folders)


def read_state(run: Path) -> StoreState:
    """Read which files of a run do not count.

    Raises:
        ResultsError: the folder is no run, or a record is damaged or has a newer version.
    """
    folders = (tables_folder(run), *superseded_folders(run))
    superseded: dict[str, set[str]] = {}
    for folder in folders:
        for table, names in read_superseded(folder).items():
            superseded.setdefault(table, set()).update(names)
    return StoreState(
        superseded={table: frozenset(names) for table, names in superseded.items()},
        manifest=read_manifest(run),
        folders=folders,
    )


def read_superseded(tables: Path) -> Mapping[str, frozenset[str]]:
    """Read which files the settled ones of a folder of tables stand for: table -> names; empty if it was never settled.

    Raises:
        ResultsError: the record is damaged or has a newer version.
    """
    return {table: frozenset(names) for table, names in _read_record(settled_file(tables), "superseded").items()}


def read_manifest(run: Path) -> MergeManifest:
    """Read the run's manifest; empty if nothing was merged.

    Raises:
        ResultsError: it is damaged or has a newer version.
    """
    merged = {}
    for table, parts_by_file in _read_record(manifest_file(run), "merged").items():
        merged[table] = {name: frozenset(parts) for name, parts in parts_by_file.items()}
    return MergeManifest(merged)


def _read_record(path: Path, key: str) -> Mapping[str, Any]:
    """Return table -> names of files, or a mapping of them; empty where the file is missing.

    Raises:
        ResultsError: it is damaged or has a newer version.
    """
    try:
        content: dict[str, Any] = read_json(path)
        if content["format"] > MANIFEST_FORMAT:
            raise ResultsError(
                f"{str(path)!r} has format {content['format']}, this program knows up to {MANIFEST_FORMAT}: update it"
            )
        tables: dict[str, Any] = content[key]
        for names in tables.values():
            for name in names:
                if Path(name).name != name:
                    raise ValueError(f"expected names of files, given {name!r}")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ResultsError(f"{str(path)!r} is damaged ({error!r}): put it back from a copy") from error
    return tables


def parts_of(run: Path, tables: Iterable[str] = TABLES) -> dict[str, list[Part]]:
    """Return table -> the files to read, sorted by name; each was checked.

    If files were merged or settled meanwhile, all is read again: a listing from before and a record from after do not
    fit each other.

    Raises:
        ResultsError: the folder is no run, or a file is torn, foreign or from a newer version.
    """
    names = tuple(tables)
    while True:
        state = read_state(run)
        missing: FileNotFoundError | None = None
        parts: dict[str, list[Part]] = {}
        try:
            for name in names:
                parts[name] = _fitting_parts(TABLES[name], _counted_files(run, name, state))
        except FileNotFoundError as error:
            missing = error
        if read_state(run) != state:
            continue
        if missing is not None:
            raise ResultsError(f"a file is missing; put it back from a copy: {missing}") from missing
        return parts


def _counted_files(run: Path, table: str, state: StoreState) -> list[Path]:
    """Return the files whose rows count, sorted by name: rows of one key and one moment are ordered by their files."""
    hidden = state.hidden(table)
    paths: dict[str, Path] = {}
    for folder in state.folders:  # tables/ first: a part of a late writer is linked there, too
        for name in _names_in_order(folder / table):
            if name not in hidden:
                paths.setdefault(name, folder / table / name)
    for name in state.merged_files(table):
        paths[name] = merged_folder(run) / table / name
    return [paths[name] for name in sorted(paths)]


def list_parts(folder: Path) -> list[Path]:
    """List the Parquet files of a table's folder, sorted by name, without temporary files."""
    return [folder / name for name in _names(folder)]


def _names(folder: Path) -> list[str]:
    try:
        names = [path.name for path in folder.iterdir()]
    except FileNotFoundError:
        return []
    return sorted(name for name in names if name.endswith(".parquet") and not name.startswith("."))


def _names_in_order(folder: Path) -> list[str]:
    """List the names of a table's parts, sorted: for each part also all earlier ones of its writer.

    A listing is no snapshot. Of two parts that are written meanwhile it may show only the later one; a second listing
    then shows the earlier one.
    """
    names = _names(folder)
    last = {_writer_of(name): name for name in names}
    again = [name for name in _names(folder) if name <= last.get(_writer_of(name), "")]
    return sorted({*names, *again})


def _writer_of(part: str) -> str:
    """Return the writer's id from a part's name, see `results.store.writer`; other files have one each."""
    return part.split("-")[1] if "-" in part else part


def _fitting_parts(table: TableSchema, paths: list[Path]) -> list[Part]:
    """Return the parts with their versions. Raises ResultsError: some cannot be read; the text names the first ones."""
    columns = readable_columns(table)
    parts = []
    refused = []
    for path in paths:
        try:
            parts.append(Part(path, _version_of(path, table, columns)))
        except OtherVersionError:  # as are all other files of the run
            raise
        except ResultsError as error:
            refused.append(str(error))
    if refused:
        head = f"{len(refused)} of {len(paths)} files of the table {table.name} cannot be read:\n"
        more = f"\n... and {len(refused) - REFUSED_SHOWN} more" if len(refused) > REFUSED_SHOWN else ""
        raise ResultsError((head if len(refused) > 1 else "") + "\n".join(refused[:REFUSED_SHOWN]) + more)
    return parts


def _version_of(path: Path, table: TableSchema, columns: dict[int, dict[str, pa.DataType]]) -> int:
    """Read the version of a part from its footer, and check its columns.

    Args:
        path: of the part.
        table: that it should belong to.
        columns: known version -> its columns with their types.

    Raises:
        FileNotFoundError: it was removed.
        OtherVersionError: the part has a version that is not read.
        ResultsError: the part is torn or belongs to something else.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe would wait for its writer
            raise OSError("not a file")
        schema = pq.read_schema(str(path), filesystem=_LOCAL)
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise ResultsError(
            f"{str(path)!r} is torn or no Parquet file ({error}); move it out of the folder to read the rest"
        ) from error
    facts = schema.metadata or {}
    version = facts.get(b"schema_version", b"")
    if facts.get(b"table") != table.name.encode() or not version.isdigit():
        raise ResultsError(
            f"{str(path)!r} was not written by this program as a part of {table.name}; move it out of the folder"
        )
    if int(version) not in columns:
        known = ", ".join(map(str, columns))
        raise OtherVersionError(
            f"{str(path)!r} has schema version {int(version)}, this program reads {known}: update the program, or"
            " launch the spec with another --name"
        )
    expected = columns[int(version)]
    if dict(zip(schema.names, schema.types, strict=True)) != expected:
        listed = "\n".join(f"{name}: {kind}" for name, kind in expected.items())
        raise ResultsError(f"{str(path)!r}: expected the columns\n{listed}")
    return int(version)
