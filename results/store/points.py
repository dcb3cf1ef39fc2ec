"""One tidy table: a row for each operating point of the finished trials, with each setting as a column of its own.

The view `points` of a run has it at any moment; `RUN/points.parquet` is the same for every reader of Parquet::

    import pandas as pd
    points = pd.read_parquet("runs/tour/points.parquet").query("is_compared")
    points.groupby(["arm", "asked_removed_macs_fraction"], dropna=False).test_score.agg(["mean", "std"])

The setting `optimisation.learning_rate` is the column `optimisation_learning_rate`: SQL needs no quotes.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from results.errors import ResultsError
from results.store.files import compression_to_replace
from results.store.schema import COLUMNS_OF_VIEWS, TABLES
from transtailor import cli
from transtailor.errors import reason_of
from transtailor.files import write_file
from transtailor.ownership import refuse_outside
from transtailor.shell import command

if TYPE_CHECKING:
    from results.store.reader import Run

POINTS_FORMAT = 1
DIGESTED_ROWS = 1000  # at a time, which takes less memory


def points_file(run: Path) -> Path:
    """Return the path of a run's table of points."""
    return run / "points.parquet"


def points_table(run: "Run") -> pa.Table:
    """Return the view `points` of a run, each field with its unit and meaning."""
    points = run.arrow("FROM points")
    metadata: dict[str, Mapping[str | bytes, str | bytes]] = {
        field.name: field.metadata for field in run.setting_fields() if field.metadata
    }
    for column in (*TABLES["operating_points"].columns, *COLUMNS_OF_VIEWS["points"]):
        metadata[column.name] = {"unit": column.unit, "meaning": column.meaning}
    return points.cast(pa.schema([field.with_metadata(metadata[field.name]) for field in points.schema]))


def write_points(run: "Run", *, is_known_as_ours: bool = False) -> Path:
    """Write the table of points of one loaded run; return its path.

    Args:
        is_known_as_ours: the file that is replaced was checked already.

    Raises:
        ResultsError: there is another file of this name, which is left as it is: see `why_not_ours`; or rows cannot be
            read.

    Writes:
        `<run>/points.parquet`, whole or not at all.
    """
    path = points_file(run.path)
    refuse_outside(run.path, [path], ResultsError)
    reason = "" if is_known_as_ours else why_not_ours(run)
    if reason:
        raise ResultsError(f"{path} {reason}; rename it, and repeat the command: {path} is then written anew")
    table = points_table(run)
    facts = {"table": "points", "format": str(POINTS_FORMAT), "rows_sha256": _digest(table)}
    table = table.replace_schema_metadata(facts)
    return write_file(path, partial(pq.write_table, table, **compression_to_replace(path)))


def renew_points(run: Path, note: Callable[[str], object]) -> None:
    """Write the table of points of a run anew; another file of its name is renamed before.

    Args:
        note: takes a message if that was so, or if the table cannot be written: the next launch writes it at its end.
    """
    from results.store.reader import load

    try:
        with load(run, in_place=True) as tables:
            kept = keep_what_is_not_ours(tables)
            if kept:
                note(kept)
            tables.hold("unshared_costs", "measured_points")  # one after the other takes less memory
            write_points(tables, is_known_as_ours=True)
    except (ResultsError, OSError, pa.ArrowException) as error:
        note(f"its table of points is not written: {error}")


def why_not_ours(run: "Run") -> str:
    """Say why the file with the name of the table of points is not the one that was written for this run.

    Returns:
        Such as "was changed after it was written"; empty if it is, or there is none.
    """
    path = points_file(run.path)
    try:
        facts = pq.read_schema(path).metadata or {}
        if facts.get(b"table") != b"points":
            return "was not written by this program"
        if int(facts[b"format"]) > POINTS_FORMAT:
            return f"has format {int(facts[b'format'])}, this program knows up to {POINTS_FORMAT}"
        table = pq.ParquetFile(path).read()
        if _digest(table).encode() != facts[b"rows_sha256"]:
            return "was changed after it was written"
        planned = run.arrow("SELECT trial_id FROM planned")["trial_id"]
        if not pc.all(pc.is_in(table["trial_id"], value_set=planned), min_count=0).as_py():
            return "belongs to another run"
    except FileNotFoundError:
        return ""
    except PermissionError as error:
        return f"cannot be read: {reason_of(error, path)}"
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        return f"is no table of points ({error})"
    return ""


def keep_what_is_not_ours(run: "Run") -> str:
    """Rename a file that has the name of the table of points and is not that; return a message, or an empty text."""
    reason = why_not_ours(run)
    if not reason:
        return ""
    path = points_file(run.path)
    number = 1
    while path.with_name(f"{path.name}.kept-{number}").exists():
        number += 1
    kept = path.rename(path.with_name(f"{path.name}.kept-{number}"))
    return f"{path} {reason}: it is {kept.name} now"


def _digest(table: pa.Table) -> str:
    """Return the SHA-256 of the rows, whatever their metadata."""
    digest = hashlib.sha256()
    for begin in range(0, max(table.num_rows, 1), DIGESTED_ROWS):
        sink = pa.BufferOutputStream()
        header = pyarrow.csv.WriteOptions(include_header=begin == 0)
        pyarrow.csv.write_csv(table.slice(begin, DIGESTED_ROWS), sink, header)
        digest.update(sink.getvalue())
    return digest.hexdigest()


@cli.command(example="runs/demo")
@cli.run_argument
def points(run: Path) -> Iterator[object]:
    """Write RUN/points.parquet: a row for each operating point, with each setting as a column.

    The run may be running.
    """
    from results.store.completeness import refuse_gaps
    from results.store.reader import load

    with load(run) as tables:
        refuse_gaps(tables)
        try:
            yield write_points(tables)
        except OSError as error:
            elsewhere = command("query", run, "FROM points", "--format", "parquet")
            raise ResultsError(
                f"{points_file(run)} cannot be written: {error.strerror}; to write it elsewhere, type:"
                f" {elsewhere} > points.parquet"
            ) from error
