"""Which files hold the rows of a run: the parts from writers, and merged files that stand for many of them.

    tables/<table>/*.parquet          parts; any Parquet reader can read them
    tables/<table>/merged/*.parquet   the rows of many parts in one file, as `results.store.compact` wrote them
    merged/manifest.json              which parts each merged file stands for
    merged/<table>/*.parquet          merged files of older programs

A part that the manifest names is never opened here, so each row is read once, also while the part still exists.
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
from results.store.schema import SCHEMA_VERSION, TABLES, TableSchema
from results.store.schema_migrations import OLDER_VERSIONS, columns_of
from transtailor.documents import read_json

MANIFEST_FORMAT = 2  # 2 has the merged files below tables/
REFUSED_SHOWN = 3
NAMED_BY_A_WRITER = re.compile(r"\d{8}T\d{6}\.\d{6}-")  # with the moment of the last rows
_LOCAL = LocalFileSystem()  # else Arrow looks up the file system of each of thousands of files


class Part(NamedTuple):
    """One file of a table, and the schema version that it was written with."""

    path: Path
    version: int


@dataclass(frozen=True)
class MergeManifest:
    """Table -> name of a merged file -> names of the parts whose rows it holds."""

    merged: Mapping[str, Mapping[str, frozenset[str]]] = field(default_factory=dict)

    def parts(self, table: str) -> frozenset[str]:
        """Return the names of the parts of a table that need not be read."""
        return frozenset[str]().union(*self.merged.get(table, {}).values())


def merged_folder(run: Path) -> Path:
    """Return the folder of a run's manifest."""
    return run / "merged"


def merged_folders(run: Path, table: str) -> tuple[Path, Path]:
    """Return the folders of a table's merged files: of today, and of older programs."""
    return run / "tables" / table / "merged", merged_folder(run) / table


def merged_file(run: Path, table: str, name: str) -> Path:
    """Return the path of a merged file."""
    path, older = (folder / name for folder in merged_folders(run, table))
    return older if not path.exists() and older.exists() else path


def manifest_file(run: Path) -> Path:
    """Return the path of a run's manifest."""
    return merged_folder(run) / "manifest.json"


def tables_folder(run: Path) -> Path:
    """Return the folder of the run's tables, which need not exist yet. Raises ResultsError: the folder is no run."""
    if not run.is_dir():
        raise ResultsError(f"no folder {str(run)!r}: expected the folder of a run, such as runs/demo")
    tables = run / "tables"
    if not tables.is_dir() and not (run / "spec.toml").is_file():
        hint = f"; did you mean {str(run.parent)!r}?" if run.name == "tables" else ""
        raise ResultsError(f"{str(run)!r} is no run: it has neither tables/ nor spec.toml{hint}")
    return tables


def read_manifest(run: Path) -> MergeManifest:
    """Read the run's manifest; empty if nothing was merged.

    Raises:
        ResultsError: it is damaged or has a newer version.
    """
    path = manifest_file(run)
    try:
        content: dict[str, Any] = read_json(path)
        if content["format"] > MANIFEST_FORMAT:
            raise ResultsError(
                f"{str(path)!r} has format {content['format']}, this program knows up to {MANIFEST_FORMAT}: update it"
            )
        merged = {
            table: {str(name): frozenset(parts) for name, parts in files.items()}
            for table, files in content["merged"].items()
        }
        if elsewhere := [name for files in merged.values() for name in files if Path(name).name != name]:
            raise ValueError(f"expected names of files, given {elsewhere[0]!r}")
    except FileNotFoundError:
        return MergeManifest()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ResultsError(
            f"{str(path)!r} is damaged ({error!r}): put it back from a copy; if no part was removed by"
            f" `transtailor clean`, the folder {str(path.parent)!r} may be moved away as well"
        ) from error
    return MergeManifest(merged)


def parts_of(run: Path, tables: Iterable[str] = TABLES) -> dict[str, list[Part]]:
    """Return table -> the files to read, sorted by name; each was checked.

    Parts are listed before the manifest is read, so the manifest names each part that was removed before.

    Raises:
        ResultsError: the folder is no run, or a file is torn, foreign or from a newer version.
    """
    folder, names = tables_folder(run), tuple(tables)
    while True:
        listed = {name: _names_in_order(folder / name) for name in names}
        manifest = read_manifest(run)
        try:
            return {name: _fitting_parts(run, TABLES[name], listed[name], manifest) for name in names}
        except FileNotFoundError as error:  # only a clean-up removes parts, after they are in the manifest
            if read_manifest(run) == manifest:
                raise ResultsError(f"a file is missing; put it back from a copy: {error}") from error


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
    """Return the writer's id from a part's name, see `results.store.writer`; in older parts each has its own."""
    return part.split("-")[1] if "-" in part else part


def _fitting_parts(run: Path, table: TableSchema, listed: list[str], manifest: MergeManifest) -> list[Part]:
    hidden = manifest.parts(table.name)
    merged = [merged_file(run, table.name, name) for name in manifest.merged.get(table.name, {})]
    paths = [run / "tables" / table.name / name for name in listed if name not in hidden] + merged
    columns = {version: columns_of(table, version) for version in (*OLDER_VERSIONS, SCHEMA_VERSION)}
    parts, refused = [], []
    # By name over both folders: rows of one key and one moment are ordered by the names of their files.
    for path in sorted(paths, key=lambda path: path.name):
        try:
            parts.append(Part(path, _version_of(path, table, columns)))
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
        ResultsError: the part is torn, belongs to something else, or is newer than this program.
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
    if facts.get(b"table") != table.name.encode() or not version.isdigit() or int(version) < min(columns):
        raise ResultsError(
            f"{str(path)!r} was not written by this program as a part of {table.name}; move it out of the folder"
        )
    if int(version) > SCHEMA_VERSION:
        raise ResultsError(
            f"{str(path)!r} has schema version {int(version)}, this program knows up to {SCHEMA_VERSION}: update it"
        )
    expected = columns[int(version)]
    if dict(zip(schema.names, schema.types, strict=True)) != expected:
        listed = "\n".join(f"{name}: {kind}" for name, kind in expected.items())
        raise ResultsError(f"{str(path)!r}: expected the columns\n{listed}")
    return int(version)
