"""Write one table of all operating points and their settings."""

from collections.abc import Iterator
from pathlib import Path

from transtailor import cli


@cli.command(example="runs/demo")
@cli.run_argument
def points(run: Path) -> Iterator[object]:
    """Write RUN/points.parquet: a row for each operating point, with each setting as a column.

    The run may be running.
    """
    from results.store.completeness import refuse_gaps
    from results.store.points import write_points
    from results.store.reader import load

    with load(run) as tables:
        refuse_gaps(tables)
        yield write_points(tables)
