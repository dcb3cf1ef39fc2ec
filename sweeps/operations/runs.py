"""The runs in a folder, with the state of each."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from results.command_output import prints_page
from results.errors import ResultsError
from results.store.reader import last_written_us, load
from results.text.page import Note, PageTable, Part
from sweeps.driver.display import time_text
from sweeps.errors import RunFolderError
from sweeps.operations.status import count_trials
from sweeps.run.run_folder import RunFolder
from sweeps.run.run_lock import holder_of
from transtailor import cli
from transtailor.files import is_there, list_there
from transtailor.lines import first_line
from transtailor.shell import command

COUNTED = ("finished", "running", "waiting", "failed")
COLUMNS = ("run", "state", *COUNTED, "last row")
TABLES = ("planned", "trials", "attempts", "operating_points")  # of which the last row counts


def runs_page(folder: Path) -> Iterator[Part]:
    """Yield the table of the runs in a folder; the one that was written last is the first.

    A run that cannot be read has a row that says why.

    Raises:
        RunFolderError: the folder is not there.
    """
    if not folder.is_dir():
        launch = command("run", "demo")
        raise RunFolderError(
            f"no folder {folder}: expected a folder of runs; the first launch makes it, type: {launch}"
        )
    now_us = datetime.now(UTC).timestamp() * 1e6
    rows = []
    for path in list_there(folder, "[!.]*"):
        if is_there(RunFolder(path).plan):
            written_us, cells = _row(RunFolder(path), now_us)
            rows.append((written_us, path.name, cells))
    rows.sort(key=lambda row: (-row[0], row[1]))
    if rows:
        table_rows = [(name, *cells) for _written_us, name, cells in rows]
        yield PageTable(columns=COLUMNS, rows=table_rows, words=(0, 1, len(COLUMNS) - 1))
    else:
        yield Note(f"{folder} has no runs yet; to launch one, type: {command('run', 'demo')}")


def _row(run: RunFolder, now_us: float) -> tuple[float, tuple[str | int, ...]]:
    """Return when the last row of a run was written, and the cells of its row in the table."""
    try:
        counts = count_trials(run)
        with load(run.path, TABLES) as tables:
            written_us = last_written_us(tables)
    except (RunFolderError, ResultsError) as error:
        return 0.0, (f"cannot be read: {first_line(str(error))}", *[""] * len(COUNTED), "")
    age = "" if written_us is None else f"{time_text(max(0.0, (now_us - written_us) / 1e6))} ago"
    return written_us or 0.0, (_state(run, counts), *(counts[name] for name in COUNTED), age)


def _state(run: RunFolder, counts: dict[str, int]) -> str:
    if holder_of(run.lock) is not None:
        return "running"
    if counts["waiting"] or counts.get("resting"):
        return "not running"
    return "ended with failures" if counts["failed"] else "ended"


@cli.command(example="")
@cli.argument("folder", type=cli.FOLDER, default="runs")
@prints_page
def runs_command(folder: Path) -> Iterator[Part]:
    """List the runs in a folder with their state; the one that was written last is the first."""
    return runs_page(folder)
