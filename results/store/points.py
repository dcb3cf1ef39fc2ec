"""One tidy table: a row for each operating point of the finished trials, with each setting as a column of its own.

The view `points` of a run has it at any moment; `RUN/points.parquet` is the same for every reader of Parquet::

    import pandas as pd
    points = pd.read_parquet("runs/tour/points.parquet").query("is_compared")
    points.groupby(["arm", "asked_removed_macs_fraction"], dropna=False).test_score.agg(["mean", "std"])

The setting `optimisation.learning_rate` is the column `optimisation_learning_rate`: SQL needs no quotes.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from results.errors import ResultsError
from results.store.files import compression_to_replace
from results.store.schema import COLUMNS_OF_VIEWS, TABLES
from transtailor.files import is_there, write_file
from transtailor.ownership import refuse_outside

if TYPE_CHECKING:
    from results.store.reader import Run


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


def write_points(run: "Run") -> Path:
    """Write the table of points of one loaded run; return its path.

    Raises:
        ResultsError: there is another file of this name, which is left as it is; or rows cannot be read.

    Writes:
        `<run>/points.parquet`, whole or not at all.
    """
    path = points_file(run.path)
    refuse_outside(run.path, [path], ResultsError)
    if is_there(path) and not _is_ours(path):
        raise ResultsError(f"{path} was not written by this program; rename it: the next launch writes the table anew")
    table = points_table(run).replace_schema_metadata({"table": "points", "format": "1"})
    return write_file(path, partial(pq.write_table, table, **compression_to_replace(path)))


def _is_ours(path: Path) -> bool:
    try:
        return (pq.read_schema(path).metadata or {}).get(b"table") == b"points"
    except (OSError, pa.ArrowException):
        return False


def renew_points(run: Path, note: Callable[[str], object]) -> None:
    """Write the table of points of a run anew.

    Args:
        note: takes a message if the table cannot be written: the next launch writes it at its end.
    """
    from results.store.reader import load

    try:
        with load(run, in_place=True) as tables:
            tables.hold("unshared_costs", "measured_points")  # one after the other takes less memory
            write_points(tables)
    except (ResultsError, OSError, pa.ArrowException) as error:
        note(f"its table of points is not written: {error}")
