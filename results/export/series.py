"""A run as other tools take it: trials with settings, and values with a tag and a step."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from results.store.reader import Run
from results.store.schema import TABLES
from results.text.settings import leaves
from transtailor.documents import read_json
from transtailor.file_names import file_name

BATCH_TRIALS = 200
"""This many trials' values are held in memory at once."""

TRIALS = """
SELECT trial_id, sweep, label, arm, network, dataset, seed, config_json, status, error, trials.attempts,
    epoch_us(trials.started_at) AS started_us, epoch_us(ended_at) AS ended_us
FROM planned LEFT JOIN trials USING (trial_id)
ORDER BY trials.ended_at, planned.written_at, trial_id
"""


def _numbers(table: str) -> tuple[str, ...]:
    """Return the columns of a table that can be drawn as curves; the whole numbers in it are mostly places."""
    return tuple(column.name for column in TABLES[table].columns if column.type_name == "double")


EPOCH_COLUMNS = _numbers("epochs")
POINT_COLUMNS = (
    *_numbers("operating_points"), "macs", "params", "trained_epochs", "test_score", *_numbers("test_scores"),
)  # fmt: skip

EPOCHS = f"""
SELECT trial_id, printf('%02d_%s', stages."order", epochs.kind) AS part, epoch AS step,
    epoch_us(epochs.written_at) AS at_us, {", ".join(f"epochs.{column}" for column in EPOCH_COLUMNS)}
FROM epochs JOIN stages USING (trial_id, stage_key) WHERE trial_id IN (SELECT unnest(?)) ORDER BY trial_id, part, step
"""
"""The curves of each training stage."""
POINTS = f"""
SELECT trial_id, 'point' AS part, point AS step, epoch_us(written_at) AS at_us, {", ".join(POINT_COLUMNS)}
FROM measured_points WHERE trial_id IN (SELECT unnest(?))
    AND (test_images > 0 OR trial_id IN (SELECT trial_id FROM trials))
ORDER BY trial_id, step
"""
"""The operating points. A point waits for its test rows, which are written right after it, because an exported value is
never changed."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One trial with its present state."""

    trial_id: str
    name: str  # for people; valid as a file name, ends with the trial's id
    sweep: str
    settings: Mapping[str, str | int | float | bool]  # dotted key -> value
    status: str | None  # finished, failed or stopped; None until then
    error: str | None
    attempts: int  # 0 until it has ended
    started_us: int | None
    ended_us: int | None  # microseconds since 1970


class Value(NamedTuple):
    """A number of a trial; tag and step identify it within the trial."""

    tag: str  # such as 03_fine_tune/train_loss or point/validation_score
    step: int  # number of the epoch or of the operating point
    number: float
    at_us: int


def trials_of(run: Run) -> list[Trial]:
    """Return all planned trials, in the order in which they ended; the others follow."""
    return [_trial(row) for row in run.rows(TRIALS)]


def values_of(run: Run, trials: Sequence[Trial]) -> Iterator[tuple[Trial, list[Value]]]:
    """Yield each of these trials with its values so far, by tag group and step."""
    for first in range(0, len(trials), BATCH_TRIALS):
        batch = trials[first : first + BATCH_TRIALS]
        values_by_trial: dict[str, list[Value]] = {trial.trial_id: [] for trial in batch}
        ids = list(values_by_trial)
        for query, columns in ((EPOCHS, EPOCH_COLUMNS), (POINTS, POINT_COLUMNS)):
            for row in run.rows(query, [ids]):
                for name in columns:
                    if row[name] is not None:
                        value = Value(f"{row['part']}/{name}", row["step"], float(row[name]), row["at_us"])
                        values_by_trial[row["trial_id"]].append(value)
        for trial in batch:
            yield trial, values_by_trial[trial.trial_id]


def _trial(row: Mapping[str, Any]) -> Trial:
    settings = {"label": row["label"], "arm": row["arm"]}
    for key, value in leaves(read_json(row["config_json"])):
        settings[key] = _plain(value)
    words = file_name(row["label"], row["network"], row["dataset"], f"seed{row['seed']}")
    return Trial(
        trial_id=row["trial_id"],
        name=f"{words}-{row['trial_id']}",
        sweep=row["sweep"],
        settings=settings,
        status=row["status"],
        error=row["error"],
        attempts=row["attempts"] or 0,
        started_us=row["started_us"],
        ended_us=row["ended_us"],
    )


def _plain(value: object) -> str | int | float | bool:
    return value if isinstance(value, str | int | float | bool) else json.dumps(value)
