"""Reads a run at any moment: one view per table, in which the last row of each natural key stands."""

import os
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import pyarrow as pa
import pyarrow.parquet as pq

from results.errors import ResultsError
from results.older import OLDER, columns_of, expressions_of
from results.schema import (
    BOOLEAN,
    FLOAT,
    INTEGER,
    MOMENT,
    SCHEMA_VERSION,
    STRING,
    STRINGS,
    TABLES,
    Table,
    table_named,
)

if TYPE_CHECKING:
    import duckdb
    import pandas

_SQL_TYPES = {
    STRING: "VARCHAR",
    INTEGER: "BIGINT",
    FLOAT: "DOUBLE",
    BOOLEAN: "BOOLEAN",
    STRINGS: "VARCHAR[]",
    MOMENT: "TIMESTAMPTZ",
}

MEASURED_POINTS = """
CREATE VIEW measured_points AS
SELECT point.*, coalesce(classes.score, amounts.score) AS test_score,
    coalesce(classes.images, amounts.images, 0) AS test_images
FROM operating_points AS point
LEFT JOIN (
    SELECT trial_id, point, avg(CAST(label = prediction AS DOUBLE)) AS score, count(*) AS images
    FROM predictions WHERE split = 'test' GROUP BY trial_id, point
) AS classes USING (trial_id, point)
LEFT JOIN (
    SELECT trial_id, point, count(*) AS images,
        1 - sum((target - estimate) ** 2) / nullif(var_pop(target) * count(*), 0) AS score
    FROM estimates WHERE split = 'test' GROUP BY trial_id, point
) AS amounts USING (trial_id, point)
"""
"""`operating_points` with the score on the test split beside it: the accuracy of `predictions`, or R squared of
`estimates` (1 less the squared errors over the squared distances from the mean target); null without test rows."""


class Part(NamedTuple):
    """One file of a table, and the schema version that it was written with."""

    path: Path
    version: int


class Run:
    """The tables of a run as they were when it was loaded; load again to see what was written since.

    `connection` is a DuckDB connection in memory with the views, one per table, and `measured_points`.
    """

    def __init__(self, path: Path, connection: "duckdb.DuckDBPyConnection", parts: dict[str, list[Part]]) -> None:
        self.path = path
        self.connection = connection
        self.parts = parts

    def df(self, sql: str, parameters: list[Any] | None = None) -> "pandas.DataFrame":
        """The answer to a query as a pandas table; `?` in the query stand for `parameters`, one by one.

        Raises:
            ResultsError: DuckDB refuses the query, or it is not one SELECT (so that asking never writes).
        """
        frame: pandas.DataFrame = self.arrow(sql, parameters).to_pandas()
        return frame

    def rows(self, sql: str, parameters: list[Any] | None = None) -> list[dict[str, Any]]:
        """The answer to a query as a list of records; null is None. Raises as `df`."""
        rows: list[dict[str, Any]] = self.arrow(sql, parameters).to_pylist()
        return rows

    def arrow(self, sql: str, parameters: list[Any] | None = None) -> pa.Table:
        """The answer to a query as an Arrow table. Raises as `df`."""
        import duckdb

        try:
            statements = self.connection.extract_statements(sql)
            if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
                raise ResultsError(f"expected one query, given {sql!r}; type one such as SELECT * FROM trials")
            return self.connection.sql(sql, params=parameters).to_arrow_table()
        except duckdb.Error as error:
            raise ResultsError(
                f"the query failed: {error}\nTables: {', '.join((*TABLES, 'measured_points'))}"
            ) from error

    def hold(self, *views: str) -> None:
        """Reads each of these views once and keeps its rows in memory, so that many queries read no file again."""
        for view in views:
            name = _quoted(view)
            self.connection.execute(f"CREATE TEMP TABLE held AS SELECT * FROM {name}")
            self.connection.execute(f"DROP VIEW {name}")
            self.connection.execute(f"ALTER TABLE held RENAME TO {name}")

    def close(self) -> None:
        """Closes the connection."""
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def load(run: str | os.PathLike[str]) -> Run:
    """The run in a folder, opened for reading; nothing is written.

    Raises:
        ResultsError: the folder is no run, or one of its parts is torn, foreign or from a newer version.
    """
    import duckdb

    path = Path(run)
    tables = _tables_folder(path)
    parts = {name: _parts(tables, table) for name, table in TABLES.items()}
    connection = duckdb.connect(":memory:", config={"autoinstall_known_extensions": "false"})
    connection.execute("SET TimeZone = 'UTC'")
    for name, table in TABLES.items():
        connection.execute(_view(table, parts[name]))
    connection.execute(MEASURED_POINTS)
    return Run(path, connection, parts)


def finished_trial_ids(run: str | os.PathLike[str]) -> set[str]:
    """Ids of the trials whose last row says finished; reads nothing else and needs neither DuckDB nor pandas.

    Raises:
        ResultsError: as `load`.
    """
    table = table_named("trials")
    last: dict[str, tuple[int, str]] = {}
    for part in _parts(_tables_folder(Path(run)), table):
        rows = pq.ParquetFile(part.path).read(columns=["trial_id", "status", "written_at"])
        moments = rows["written_at"].cast(INTEGER).to_pylist()  # as numbers: Arrow's moments bring pandas in
        for trial_id, status, moment in zip(
            rows["trial_id"].to_pylist(), rows["status"].to_pylist(), moments, strict=True
        ):
            # Parts come sorted by name and rows in order, so an equal time goes to the later one, as in the views.
            if trial_id not in last or moment >= last[trial_id][0]:
                last[trial_id] = (moment, status)
    return {trial_id for trial_id, (_, status) in last.items() if status == "finished"}


def missing_trials(run: Run) -> list[dict[str, Any]]:
    """Planned trials that have neither finished nor failed: what they are, and how their last attempt stands.

    Each record has trial_id, label, network, dataset, seed, attempt, attempt_status and cause (the last three None
    where no attempt was made).
    """
    return run.rows(MISSING)


def failed_trials(run: Run) -> list[dict[str, Any]]:
    """Trials that failed for good: trial_id, label, network, dataset, seed (None if never planned), attempts, error."""
    return run.rows(FAILED)


MISSING = """
SELECT trial_id, label, network, dataset, seed, attempt, attempts.status AS attempt_status, cause
FROM planned
LEFT JOIN (FROM attempts QUALIFY row_number() OVER (PARTITION BY trial_id ORDER BY attempt DESC) = 1) AS attempts
    USING (trial_id)
WHERE trial_id NOT IN (SELECT trial_id FROM trials)
ORDER BY network, dataset, label, seed, trial_id
"""

FAILED = """
SELECT trial_id, label, network, dataset, seed, attempts, error
FROM trials LEFT JOIN planned USING (trial_id)
WHERE status = 'failed'
ORDER BY network, dataset, label, seed, trial_id
"""


def _tables_folder(run: Path) -> Path:
    """The folder of the run's tables, which need not be there yet."""
    if not run.is_dir():
        raise ResultsError(f"there is no folder {str(run)!r}: expected the folder of a run, such as runs/demo")
    tables = run / "tables"
    if not tables.is_dir() and not (run / "spec.toml").is_file():
        hint = f"; did you mean {str(run.parent)!r}?" if run.name == "tables" else ""
        raise ResultsError(f"{str(run)!r} is no run: it has neither tables/ nor spec.toml{hint}")
    return tables


def _parts(tables: Path, table: Table) -> list[Part]:
    """The parts of a table, sorted by name; all have been looked at, and fit.

    Raises:
        ResultsError: a part does not.
    """
    folder = tables / table.name
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".parquet" and not path.name.startswith("."))
    except FileNotFoundError:
        return []
    columns = {version: columns_of(table, version) for version in (*OLDER, SCHEMA_VERSION)}
    return [Part(path, _version_of(path, table, columns)) for path in paths]


def _version_of(path: Path, table: Table, columns: dict[int, dict[str, pa.DataType]]) -> int:
    """Reads the end of a part, where its columns and its version stand.

    Args:
        path: of the part.
        table: that it should belong to.
        columns: known version -> the columns that it has, with their types.

    Raises:
        ResultsError: the part is torn, belongs to something else, or is newer than this program.
    """
    try:
        schema = pq.read_schema(path)
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


def _view(table: Table, parts: list[Part]) -> str:
    """The SQL that makes a table's view."""
    name = _quoted(table.name)
    if not parts:
        empty = ", ".join(
            f"CAST(NULL AS {_SQL_TYPES[column.type]}) AS {_quoted(column.name)}" for column in table.columns
        )
        return f"CREATE VIEW {name} AS SELECT {empty} WHERE false"
    columns = ", ".join(_quoted(column.name) for column in table.columns)
    key = ", ".join(_quoted(column) for column in table.key)
    versions = sorted({part.version for part in parts})
    rows = " UNION ALL ".join(
        _rows(table, version, [part.path for part in parts if part.version == version]) for version in versions
    )
    return (
        f"CREATE VIEW {name} AS SELECT {columns} FROM ({rows})"
        f" QUALIFY row_number() OVER (PARTITION BY {key}"
        " ORDER BY written_at DESC, parse_filename(_part) DESC, file_row_number DESC) = 1"
    )


def _rows(table: Table, version: int, paths: list[Path]) -> str:
    """The SQL for all rows of a table's parts of one version, under today's columns."""
    columns = ", ".join(f"{sql} AS {_quoted(name)}" for name, sql in expressions_of(table, version).items())
    files = ", ".join(_file(path) for path in paths)
    return (
        f"SELECT {columns}, _part, file_row_number"
        f" FROM read_parquet([{files}], filename = '_part', file_row_number = true, hive_partitioning = false)"
    )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _file(path: Path) -> str:
    """A path as DuckDB's text literal; DuckDB takes it for a pattern, so a pattern's signs stand in brackets."""
    plain = "".join(f"[{sign}]" if sign in "*?[" else sign for sign in str(path.absolute()))
    return "'" + plain.replace("'", "''") + "'"
