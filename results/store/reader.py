"""Read runs at any moment: one view per table, and some over several tables."""

import errno
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa

from results.errors import ResultsError
from results.store.files import TableFiles, files_of
from results.store.points_view import create_view
from results.store.schema import TABLES
from results.store.views import (
    COUNTED_ROWS,
    arms_as_planned,
    computed_views,
    file_pattern,
    held_name,
    literal,
    quote,
    select,
)
from transtailor.lines import first_line
from transtailor.shell import command

if TYPE_CHECKING:
    import duckdb
    import pandas

VIEWS = ("points", *computed_views(several=False))
NO_EXTENSIONS = ("autoinstall_known_extensions", "autoload_known_extensions")
NO_BAR = "SET enable_progress_bar = false"  # DuckDB prints it to stdout, into the answer of a query of more than 2 s
ABOUT_TRIALS = ("planned", "trials", "attempts", "stages", "operating_points")
"""Tables with a new row whenever a trial makes progress."""
POINTS = re.compile(r"(?:\bfrom|\bjoin|,)\s+\"?points\b", re.IGNORECASE)
_OF_EACH_RUN = ("attempts", "proposals", "looks")
"""Tables whose rows are no others than those of their run, even if another run has the same trials."""
STOPPED = """
SELECT trial_id FROM trials WHERE status = 'stopped'
    AND NOT EXISTS (FROM attempts WHERE attempts.trial_id = trials.trial_id AND attempts.started_at > trials.ended_at)
"""


class Run:
    """The tables of one or several runs as they were when loaded; load again to see newer rows.

    Attributes:
        paths: name -> folder of each run; with several runs, the column `run` has this name.
        connection: to DuckDB in memory, with one view per table, and `VIEWS`.
    """

    def __init__(
        self,
        paths: dict[str, Path],
        connection: "duckdb.DuckDBPyConnection",
    ) -> None:
        self.paths = paths
        self.connection = connection
        self._setting_fields: pa.Schema | None = None  # None: no query has named the view `points` yet

    @property
    def path(self) -> Path:
        """The folder of the one run. Raises ResultsError: there are several."""
        if len(self.paths) > 1:
            raise ResultsError(f"expected one run, given {', '.join(self.paths)}; load that run alone")
        return next(iter(self.paths.values()))

    def to_type(self, name: str, *more: object) -> str:
        """Return a command on the run as it is typed; of several runs, on each of them."""
        return "; ".join(command(name, path, *more) for path in self.paths.values())

    def setting_fields(self) -> pa.Schema:
        """Return the fields of the trials' settings in the view `points`; the first call makes the view."""
        if self._setting_fields is None:
            names = list(self.paths) if len(self.paths) > 1 else [self.path.resolve().name]
            self._setting_fields = create_view(self.connection, names)
        return self._setting_fields

    def sql(self, sql: str, parameters: list[Any] | None = None) -> "pandas.DataFrame":
        """Run a query and return a pandas table; each `?` in it stands for one of the `parameters`.

        Raises:
            ResultsError: DuckDB refuses the query, or it is not a single SELECT (queries never write).
        """
        frame: pandas.DataFrame = self.arrow(sql, parameters).to_pandas()
        return frame

    def rows(self, sql: str, parameters: list[Any] | None = None) -> list[dict[str, Any]]:
        """Run a query and return a list of records; null is None. Raises as `sql`."""
        rows: list[dict[str, Any]] = python_values(self.arrow(sql, parameters))
        return rows

    def arrow(self, sql: str, parameters: list[Any] | None = None) -> pa.Table:
        """Run a query and return an Arrow table, whose numbers are int64 or double. Raises as `sql`."""
        with self._translate_errors(sql):
            table = self.connection.sql(sql, params=parameters).to_arrow_table()
        for index, field in enumerate(table.schema):
            if pa.types.is_decimal(field.type):  # DuckDB's sums of whole numbers, and numbers such as 0.5
                table = table.set_column(index, field.name, _plain(table.column(index)))
        return table

    @contextmanager
    def _translate_errors(self, sql: str) -> Iterator[None]:
        """Run a block that asks DuckDB; raise its errors as ResultsError.

        Raises:
            ResultsError: the query is not a single SELECT, or DuckDB refuses it.
        """
        import duckdb

        try:
            sql.encode()  # an argument from a shell may be invalid text
            statements = self.connection.extract_statements(sql)
            if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
                raise ResultsError(f"expected one query, given {sql!r}; type one such as 'SELECT * FROM trials'")
            if POINTS.search(sql):
                self.setting_fields()  # makes the view; not with the others, since it reads all settings
            yield
        except duckdb.ConnectionException as error:
            raise ResultsError(f"{self.path} was closed; read it again: results.load({str(self.path)!r})") from error
        except (duckdb.Error, UnicodeEncodeError) as error:
            raise ResultsError(f"the query failed: {error}\nTables: {', '.join((*TABLES, *VIEWS))}") from error

    def hold(self, *views: str, where: str = "true") -> None:
        """Read each of these views once and keep its rows in memory, so that later queries read no files.

        Of the rows only those that fulfil `where`, an SQL condition: for later queries the view has no others.
        """
        for name in map(quote, views):
            self.connection.execute(f"CREATE TEMP TABLE held AS SELECT * FROM {name} WHERE {where}")
            self.connection.execute(f"DROP VIEW {name}")
            self.connection.execute(f"ALTER TABLE held RENAME TO {name}")

    def count_once(self) -> None:
        """Leave out of several runs what two have: from now on a trial's rows are those of one of them.

        It is the run from which `measured_points` has the trial. Attempts stay those of all runs.
        """
        if len(self.paths) == 1:
            return
        self.connection.execute("CREATE TEMP TABLE counted_trials AS FROM counted_trials")
        for name, table in TABLES.items():
            if name in _OF_EACH_RUN:
                continue
            all_runs = f"memory.main.{quote(name)}"
            if "trial_id" in table.key:
                rows = f"FROM {COUNTED_ROWS.format(rows=all_runs)}"
            else:
                key = ", ".join(map(quote, table.key))
                last = f"row_number() OVER (PARTITION BY {key} ORDER BY written_at DESC, run) = 1"
                rows = f"FROM {all_runs} QUALIFY {last}"
            self.connection.execute(f"CREATE TEMP VIEW {quote(name)} AS {rows}")

    def counted_once(self) -> "Run":
        """Return the same run for queries after which a trial that is in several runs has the rows of one of them."""
        other = Run(self.paths, self.connection.cursor())
        other.count_once()
        return other

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: object, _trace: object) -> None:
        self.close()
        if isinstance(error, RuntimeError) and str(error) == "Query interrupted":  # what DuckDB makes of Ctrl-C
            raise KeyboardInterrupt from None
        _explain_disk(error)


def load(
    run: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    tables: Iterable[str] = TABLES,
    *,
    in_place: bool = False,
) -> Run:
    """Open the run in a folder, or all runs in a list of folders as one, for reading; nothing is written.

    With a list, each table begins with a column `run`: the folder's name, or its path as given if two names are equal.
    Tables have the rows of every run, also those of a trial that is in several. `measured_points` and `compared_points`
    have such a trial once: as a run has it whose search did not propose it, that finished it, and that wrote it last.

    Args:
        tables: only these are opened, which is faster where there are thousands of files; all others have no rows.
        in_place: take less memory, and one core. The files to which rows are added are read by each query that needs
            them, so a later one may find more rows, but always all rows of the trials in `trials`.

    Raises:
        ResultsError: a folder is no run or is listed twice, the list is empty, or a file is missing, torn, foreign or
            of another version.
        OSError: the disk does not give a file at the moment.

    Example:
        A run with one row in the table `printed`; all tables can be queried, also those without rows.

        >>> import tempfile
        >>> from results.store.writer import Writer
        >>> folder = tempfile.TemporaryDirectory()
        >>> row = {"paper": "P", "place": "Table 1", "label": "l1", "network": "vgg16", "dataset": "dogs", "value": 0.7}
        >>> Writer(f"{folder.name}/tables").write("printed", [row | {"metric": "accuracy", "code_digest": ""}])
        >>> with load(folder.name) as run:
        ...     answer = run.arrow("SELECT label, value FROM printed")
        >>> answer.column_names, answer.shape, answer.to_pylist()
        (['label', 'value'], (1, 2), [{'label': 'l1', 'value': 0.7}])
        >>> folder.cleanup()
    """
    folders = [run] if isinstance(run, str | os.PathLike) else run
    paths = _runs_by_name([Path(folder) for folder in folders])
    asked = tuple(tables)
    files = {name: files_of(path, asked, in_place=in_place) for name, path in paths.items()}
    try:
        connection = _connect(files, several=folders is run, in_place=in_place)  # as a list may be of one
    except Exception as error:
        _explain_disk(error)
        raise
    del files  # DuckDB has copied the rows: no query shall need room for both
    pa.default_memory_pool().release_unused()
    return Run(paths, connection)


def _plain(decimals: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return decimals as double; as int64 where they have no digits behind the point, up to 2^63."""
    try:
        return decimals.cast(pa.float64() if decimals.type.scale else pa.int64())
    except pa.ArrowInvalid:
        return decimals.cast(pa.float64())


def python_values(answer: pa.Table | pa.ChunkedArray) -> list[Any]:
    """Return the rows of a table, or the values of a column, as Python values.

    Raises:
        ResultsError: Python has no such value, for example a moment after the year 9999.
    """
    try:
        values: list[Any] = answer.to_pylist()
    except (ValueError, OverflowError) as error:
        raise ResultsError(f"the answer has a value that cannot be shown ({error}): CAST(... AS VARCHAR)") from error
    return values


def finished_trial_ids(run: str | os.PathLike[str]) -> set[str]:
    """Return the ids of the finished trials. Raises as `load`."""
    with load(run, ["trials"]) as trials:
        return {row["trial_id"] for row in trials.rows("SELECT trial_id FROM trials WHERE status = 'finished'")}


def stopped_trial_ids(run: Run) -> set[str]:
    """Return the ids of the trials that a search has stopped, without those that were continued later."""
    return {row["trial_id"] for row in run.rows(STOPPED)}


def _explain_disk(error: object) -> None:
    """Raise OSError if DuckDB could not read a file that was there: a disk or server that fails at the moment."""
    import duckdb

    if isinstance(error, duckdb.IOException):
        raise OSError(errno.EIO, first_line(str(error))) from error


def last_written_us(run: Run) -> int | None:
    """Return when the last row about trials was written, in microseconds since 1970; None without rows."""
    asked = " UNION ALL ".join(f"SELECT max(written_at) AS written_at FROM {name}" for name in ABOUT_TRIALS)
    # A number: converting Arrow's timestamps to Python imports pandas, which takes most of a second.
    (row,) = run.rows(f"SELECT epoch_us(max(written_at)) AS last_us FROM ({asked})")
    last_us: int | None = row["last_us"]
    return last_us


def _runs_by_name(paths: Sequence[Path]) -> dict[str, Path]:
    """Return the runs by their names. Raises ResultsError: no run, or one is listed twice."""
    if not paths:
        raise ResultsError("expected at least one run, given none; type a folder such as runs/demo")
    resolved = [path.resolve() for path in paths]
    names = [path.name for path in resolved]
    for number, path in enumerate(resolved):
        if path in resolved[:number]:
            raise ResultsError(f"{str(paths[number])!r} is listed twice; name each run once")
    return {name if names.count(name) == 1 else str(path): path for name, path in zip(names, paths, strict=True)}


def _connect(
    files: Mapping[str, Mapping[str, TableFiles]], *, several: bool, in_place: bool
) -> "duckdb.DuckDBPyConnection":
    """Open a connection with all views over these runs (name -> table -> files)."""
    import duckdb

    connection = duckdb.connect(":memory:", config=dict.fromkeys(NO_EXTENSIONS, False))
    with suppress(duckdb.InvalidInputException):  # in Jupyter without ipywidgets, where there is no bar
        connection.execute(NO_BAR)
    if in_place:
        connection.execute("SET GLOBAL threads = 1")  # each takes memory of its own
    connection.execute("SET GLOBAL TimeZone = 'UTC'")
    # Freed memory goes back to the system at once, since a driver renews its points beside a sweep.
    connection.execute("SET GLOBAL allocator_bulk_deallocation_flush_threshold = '1 MB'")
    connection.execute("CREATE SCHEMA last_files")
    for name, table in TABLES.items():
        files_of_table = {run: files_of_run[name] for run, files_of_run in files.items()}
        for run, found in files_of_table.items():
            if found.last is not None:
                connection.register("last_file", found.last)
                connection.execute(f"CREATE TABLE {held_name(name, run)} AS FROM last_file")
                connection.unregister("last_file")
        rows = select(table, files_of_table, several=several)
        if name == "operating_points":
            rows = arms_as_planned(rows, several=several)
        connection.execute(f"CREATE VIEW {quote(name)} AS {rows}")
    for view, rows in computed_views(several=several).items():
        connection.execute(f"CREATE VIEW {view} AS {rows}")
    folders: set[Path] = set()
    for files_of_run in files.values():
        for found in files_of_run.values():
            folders.update(path.parent for path in found.full)
    _lock(connection, folders)
    return connection


def _lock(connection: "duckdb.DuckDBPyConnection", folders: set[Path]) -> None:
    """Restrict queries: from now on they read only files below these folders, write none, and change no setting."""
    # DuckDB compares file names as written in views (pattern characters in brackets) and as it opens them.
    names = []
    for folder in sorted(folders):
        names += [literal(str(folder.absolute())), file_pattern(folder)]
    allowed = ", ".join(names)
    connection.execute("SET temp_directory = ''")  # else DuckDB spills to .tmp in the current folder
    connection.execute("SET python_enable_replacements = false")  # names in a query are not variables of this process
    connection.execute(f"SET allowed_directories = [{allowed}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
