"""Bring the tables of a run to rest and write its points, as each launch does at its end: for one that was killed."""

from collections.abc import Iterator

from results.store.parts import tables_folder
from results.store.points import write_points
from results.store.reader import load
from results.store.settle import settle
from sweeps.run.run_folder import RunFolder
from sweeps.run.run_lock import RunLock
from transtailor.plural import counted


def compact(run: RunFolder) -> Iterator[str]:
    """Settle the tables of a run that is not running, and write `points.parquet`; yield what was done, line by line.

    Raises:
        RunFolderError: the run is running.
        ResultsError: the folder is no run, or a file cannot be read; nothing is changed. Or a file called
            `points.parquet` is not the run's.
    """
    tables_folder(run.path)
    with RunLock(run.lock):
        settled = settle(run.path)
        for table in settled:
            replaced = f", {table.replaced_rows:,} replaced rows gone" if table.replaced_rows else ""
            yield f"{table.table}: {table.rows:,} rows in {counted(table.files, 'file')}{replaced}"
        if not settled:
            yield "each table has each row once already"
        with load(run.path) as tables:
            yield str(write_points(tables))
