"""Query a run's tables in SQL."""

import os
import sys
from collections.abc import Iterator, Sequence
from operator import itemgetter
from pathlib import Path

from results.columns import Column
from results.command_output import prints_page
from results.errors import ResultsError
from results.text.page import Part, Shown, Table
from transtailor import cli
from transtailor.shell import command
from transtailor.terminal import say


@cli.command(example="runs/demo 'SELECT status, count(*) FROM trials GROUP BY ALL'")
@cli.argument("runs", nargs=-1, type=cli.RUN, metavar="RUN...")
@cli.argument("sql")
@prints_page
def query(runs: tuple[Path, ...], sql: str) -> Iterator[Part]:
    """Print the answer to a query on the tables of one run, or of several, which the column `run` tells apart."""
    import pyarrow as pa

    from results.store.completeness import refuse_gaps
    from results.store.reader import load, python_values

    is_folder = os.path.isdir(sql)  # noqa: PTH112  # Path.is_dir raises for a text longer than a name may be
    if not runs or is_folder:
        folder = sql if is_folder else "RUN"
        raise ResultsError(
            f"expected RUN and SQL, given {sql!r}; type {command('query', folder, 'SELECT * FROM trials')}"
        )
    with load(runs if len(runs) > 1 else runs[0]) as run:
        answer = run.arrow(sql)
        try:
            refuse_gaps(run)
        except ResultsError as error:
            say(f"warning: {error}", to=sys.stderr)
    keys = distinct(answer.column_names)
    columns = []
    shown = []
    for key, name, type_ in zip(keys, answer.column_names, answer.schema.types, strict=True):
        is_number = pa.types.is_primitive(type_) and not pa.types.is_temporal(type_) or pa.types.is_null(type_)
        columns.append(Column(key, str(type_), nullable=True))
        shown.append(Shown(key, name, itemgetter(key), is_text=not is_number))
    rows = zip(*map(python_values, answer.columns), strict=True)
    records = [dict(zip(keys, row, strict=True)) for row in rows]
    yield Table(name="query", columns=columns, records=records, shown=shown)


def distinct(names: Sequence[str]) -> list[str]:
    """Number the second and further columns of one name, as of `SELECT * FROM planned JOIN trials USING (trial_id)`.

    >>> distinct(["status", "error", "status", "status"])
    ['status', 'error', 'status_2', 'status_3']
    """
    keys: list[str] = []
    for name in names:
        number = 1
        key = name
        while key in keys or (number > 1 and key in names):
            number += 1
            key = f"{name}_{number}"
        keys.append(key)
    return keys
