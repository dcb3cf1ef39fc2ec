"""Which trials of a run are missing or have failed, whether the run is over, and whether rows are lost."""

from collections.abc import Mapping
from typing import Any

from results.errors import ResultsError
from results.store.reader import Run
from transtailor.documents import DocumentError, read_json, read_toml
from transtailor.shell import command


def failed_trials(run: Run) -> list[dict[str, Any]]:
    """List trials that failed for good.

    Each record has trial_id, arm, network, dataset, train_images, seed (None if it was never planned), attempts and
    error.
    """
    return run.rows(FAILED)


def is_over(run: Run) -> bool:
    """Whether one run is over: each trial has ended and is not being retried, or the cluster has stopped.

    A run that was interrupted without an event is not over, since it may be resumed. A sweep that adds trials is over
    only with this event: whenever a batch has ended, no trial is open until the next one is planned.
    """
    (row,) = run.rows(OPEN)
    adds_trials = row["proposals"] or settle_settings(run)
    ended = row["planned"] > 0 and row["open"] == 0 and not adds_trials
    return bool(ended or row["last_event"] == "stopped")


def settle_settings(run: Run) -> dict[str, Mapping[str, Any]]:
    """Return the table [settle] of each run whose spec has one, by the run's name.

    A folder without a spec that can be read has none: only its rows count.
    """
    tables: dict[str, Mapping[str, Any]] = {}
    for name, folder in run.paths.items():
        try:
            table = read_toml(folder / "spec.toml").get("settle")
        except (OSError, DocumentError):
            continue
        if isinstance(table, Mapping):
            tables[name] = table
    return tables


def lost_rows(run: Run) -> str:
    """Tell how many finished trials have no row in a table; empty if no rows of the run are lost.

    A trial's rows are written before the row that says it has finished, so every finished trial must have a planned
    row, stages and operating points, and each of its points what its test score is computed from.
    """
    (row,) = run.rows(GAPS)
    finished = row.pop("finished")
    return "; ".join(
        f"{count} of {finished} finished trials lack rows in {table}" for table, count in row.items() if count
    )


def refuse_gaps(run: Run) -> None:
    """Raise ResultsError if rows of a run are lost, or rows of another run are among its own."""
    _refuse_foreign_rows(run)
    lost = lost_rows(run)
    if lost:
        raise ResultsError(
            f"rows are lost: {lost}. Put the missing files of {', '.join(map(str, run.paths.values()))} back"
            " from a copy; to see what is left, type: "
            + command("query", *run.paths.values(), "SELECT trial_id, status FROM trials")
        )


def _refuse_foreign_rows(run: Run) -> None:
    """Raise ResultsError if a trial has ended that the plan of its run does not name.

    A trial is in plan.json before it begins. A folder without a plan.json that can be read is not checked.
    """
    columns = "run, trial_id" if len(run.paths) > 1 else "trial_id"
    ended = run.rows(f"SELECT {columns} FROM trials")
    for name, folder in run.paths.items():
        try:
            planned = read_json(folder / "plan.json")["trials"]
        except (OSError, ValueError, LookupError, TypeError):
            continue
        foreign = [row["trial_id"] for row in ended if row.get("run", name) == name and row["trial_id"] not in planned]
        if foreign:
            raise ResultsError(
                f"{str(folder)!r} has rows of {len(foreign)} trials not in its plan.json, such as {foreign[0]}:"
                f" files of another run are in {str(folder / 'tables')!r}; move them out of it"
            )


GAPS = """
SELECT count(*) AS finished,
    count(*) FILTER (trial_id NOT IN (SELECT trial_id FROM planned)) AS planned,
    count(*) FILTER (trial_id NOT IN (SELECT trial_id FROM stages)) AS stages,
    count(*) FILTER (trial_id NOT IN (SELECT trial_id FROM operating_points)) AS operating_points,
    count(*) FILTER (trial_id IN (
        SELECT trial_id FROM operating_points ANTI JOIN predictions USING (trial_id, point) WHERE metric <> 'r_squared'
    )) AS predictions,
    count(*) FILTER (trial_id IN (
        SELECT trial_id FROM operating_points ANTI JOIN estimates USING (trial_id, point) WHERE metric = 'r_squared'
    )) AS estimates,
    count(*) FILTER (trial_id IN (
        SELECT trial_id FROM operating_points ANTI JOIN test_scores USING (trial_id, point)
        WHERE metric NOT IN ('accuracy', 'r_squared')
    )) AS test_scores
FROM trials WHERE status = 'finished'
"""

OPEN = """
SELECT count(*) AS planned,
    count(*) FILTER (trials.trial_id IS NULL OR last.attempt > trials.attempts) AS open,
    (SELECT arg_max(kind, (written_at, number)) FROM events) AS last_event,
    (SELECT count(*) FROM proposals) AS proposals
FROM planned LEFT JOIN trials USING (trial_id)
LEFT JOIN (SELECT trial_id, max(attempt) AS attempt FROM attempts GROUP BY trial_id) AS last USING (trial_id)
"""

TRIAL_STATES = """
SELECT planned.*, attempts, seconds, error, CASE
    WHEN trials.status <> 'stopped' OR (trials.status IS NOT NULL AND (last.started_at > ended_at) IS NOT TRUE)
        THEN trials.status
    WHEN last.status = 'rested' THEN 'resting' ELSE 'missing' END AS state
FROM planned LEFT JOIN trials USING (trial_id)
LEFT JOIN (
    SELECT trial_id, status, started_at FROM attempts
    QUALIFY row_number() OVER (PARTITION BY trial_id ORDER BY started_at DESC, attempt DESC) = 1
) AS last USING (trial_id)
"""
"""Each planned trial as finished, failed, stopped by a search and not continued since, resting at a rung, missing."""

MISSING = """
SELECT trial_id, arm, network, dataset, seed, attempt, attempts.status AS attempt_status, cause
FROM planned
LEFT JOIN (FROM attempts QUALIFY row_number() OVER (PARTITION BY trial_id ORDER BY attempt DESC) = 1) AS attempts
    USING (trial_id)
WHERE trial_id NOT IN (SELECT trial_id FROM trials) AND attempts.status IS DISTINCT FROM 'rested'
ORDER BY network, dataset, arm, seed, trial_id
"""

FAILED = """
SELECT trial_id, arm, network, dataset, train_images, seed, attempts, error
FROM trials LEFT JOIN planned USING (trial_id)
WHERE status = 'failed'
ORDER BY network, dataset, arm, seed, trial_id
"""
