"""Query a run's tables in SQL."""

import sys
from collections.abc import Iterator
from pathlib import Path

from results.command_output import prints_page
from results.errors import ResultsError
from results.text.page import PageTable, Part
from transtailor import cli
from transtailor.terminal import say


@cli.command(example="runs/demo 'SELECT status, count(*) FROM trials GROUP BY ALL'")
@cli.argument("runs", nargs=-1, required=True, type=cli.RUN, metavar="RUN...")
@cli.argument("sql")
@prints_page
def query(runs: tuple[Path, ...], sql: str) -> Iterator[Part]:
    """Print the answer to a query on the tables of one run, or of several, which the column `run` tells apart."""
    from results.store.completeness import refuse_gaps
    from results.store.reader import load, python_values

    with load(runs if len(runs) > 1 else runs[0]) as run:
        answer = run.arrow(sql)
        try:
            refuse_gaps(run)
        except ResultsError as error:
            say(f"warning: {error}", to=sys.stderr)
    columns = [python_values(column) for column in answer.columns]
    yield PageTable(columns=answer.column_names, rows=list(zip(*columns, strict=True)), words=None)
