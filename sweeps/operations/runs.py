"""`transtailor status`: the state of a run, or the runs in a folder with the state of each."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from results.command_output import prints_page
from results.errors import ResultsError
from results.store.reader import last_written_us, load
from results.text.page import Note, Part, Shown, TableRecord, answer_table
from results.text.shown import blank
from sweeps.driver.display import time_text
from sweeps.errors import RunFolderError
from sweeps.operations.status import count_trials, state_of, status
from sweeps.run.run_folder import RunFolder
from sweeps.run.run_lock import holder_of
from transtailor import cli
from transtailor.errors import reason_of
from transtailor.files import is_there, list_there
from transtailor.lines import first_line
from transtailor.shell import command

COUNTED = ("finished", "running", "waiting", "failed")
WORDS = {"running": "running", "finished": "ended", "failed": "ended with failures", "interrupted": "not running"}
"""State of a run -> how people read it."""
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
    runs = [RunFolder(path) for path in [folder, *list_there(folder, "[!.]*")]]
    records = [_record(run) for run in runs if _may_be_run(run)]
    records.sort(key=lambda record: (-_written_s(record), record["run"]))
    if not records:
        yield Note(f"{folder} has no runs yet; to launch one, type: {command('run', 'demo')}")
    yield answer_table("runs", records, shown=_shown(datetime.now(UTC)) if records else ())


def _may_be_run(run: RunFolder) -> bool:
    """Whether a folder is a run, or one that another user lets nobody read."""
    try:
        return is_there(run.plan)
    except PermissionError:
        return True


def _record(run: RunFolder) -> dict[str, Any]:
    try:
        counts = count_trials(run)
        with load(run.path, TABLES) as tables:
            written_us = last_written_us(tables)
        state = state_of(counts, is_run=holder_of(run.lock) is not None)
    except (RunFolderError, ResultsError, OSError) as error:
        unknown = dict.fromkeys(("state", *COUNTED, "last_row_at"))
        reason = reason_of(error) if isinstance(error, OSError) else str(error)
        return {"run": run.path.name, **unknown, "problem": first_line(reason)}
    last_row_at = None if written_us is None else datetime.fromtimestamp(written_us / 1e6, UTC)
    return {"run": run.path.name, "state": state, **counts, "last_row_at": last_row_at, "problem": None}


def _written_s(record: TableRecord) -> float:
    return 0.0 if record["last_row_at"] is None else record["last_row_at"].timestamp()


def _shown(now: datetime) -> tuple[str | Shown, ...]:
    """Return what people see of the runs at this moment."""

    def state(record: TableRecord) -> str:
        if record["problem"] is not None:
            return f"cannot be read: {record['problem']}"
        return WORDS[record["state"]]

    def age(record: TableRecord) -> str:
        if record["last_row_at"] is None:
            return ""
        return f"{time_text(max(0.0, now.timestamp() - _written_s(record)))} ago"

    counts = map(blank, COUNTED)
    return "run", Shown("state", text=state), *counts, Shown("last_row_at", text=age, is_text=True)


@cli.command(example="runs/demo")
@cli.argument("run", type=cli.RUN, required=False, default="runs", metavar="[RUN|FOLDER]")
@prints_page
def status_command(run: Path) -> Iterator[Part]:
    """Print the trials of a run by state, who runs it, and the best so far by validation; changes nothing.

    Of a folder of runs (default: runs), list them; the one that was written last is the first.
    """
    folder = RunFolder(run)
    if not is_there(folder.plan) and (run == cli.RUNS or list_there(run, "[!.]*/plan.json")):
        return runs_page(run)
    return status(folder)
