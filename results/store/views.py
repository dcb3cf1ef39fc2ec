"""The SQL of the views of a run: its tables, and what is computed from several of them."""

from collections.abc import Iterable
from pathlib import Path

from results.arrow_types import BOOLEAN, FLOAT, FLOATS, INTEGER, INTEGERS, MOMENT, STRING, STRINGS
from results.store.files import TableFiles
from results.store.schema import TABLES, TableSchema

_SQL_TYPES = {
    STRING: "VARCHAR",
    INTEGER: "BIGINT",
    FLOAT: "DOUBLE",
    BOOLEAN: "BOOLEAN",
    STRINGS: "VARCHAR[]",
    INTEGERS: "INTEGER[]",
    FLOATS: "DOUBLE[]",
    MOMENT: "TIMESTAMPTZ",
}

_NO_PATTERN = str.maketrans({sign: f"[{sign}]" for sign in "*?["})

CIRCUMSTANCE = TABLES["timings"].key[1:]  # all but the model
"""The columns of `timings` that say where and how a model was timed; only times with equal ones can be compared."""

MEASURED_POINTS = """
SELECT point.*,
    CASE point.metric WHEN 'balanced_accuracy' THEN test_balanced_accuracy WHEN 'macro_f1' THEN test_macro_f1
        WHEN 'top_5' THEN test_top_5 ELSE coalesce(classes.score, amounts.score) END AS test_score,
    coalesce(classes.images, amounts.images, 0) AS test_images, names_one_class,
    scores.* EXCLUDE ({key}, code_digest, written_at), latency_ms, speed, speed_lower_quartile, speed_upper_quartile,
    is_steady, is_at_other_speed, peak_memory_bytes,
    coalesce(point.macs = lag(point.macs) OVER path AND
        point.asked_removed_macs_fraction > lag(point.asked_removed_macs_fraction) OVER path, false) AS removed_nothing
FROM {points} AS point
LEFT JOIN (
    SELECT {key}, avg(CAST(label = prediction AS DOUBLE)) AS score, count(*) AS images,
        min(prediction) = max(prediction) AS names_one_class
    FROM predictions WHERE split = 'test' GROUP BY {key}
) AS classes USING ({key})
LEFT JOIN (
    SELECT {key}, count(*) AS images,
        1 - sum((target - estimate) ** 2) / nullif(var_pop(target) * count(*), 0) AS score
    FROM estimates WHERE split = 'test' GROUP BY {key}
) AS amounts USING ({key})
LEFT JOIN test_scores AS scores USING ({key})
LEFT JOIN (FROM latencies SEMI JOIN timed_on USING ({circumstance})) AS timed USING (model_key)
WINDOW path AS (PARTITION BY {path} ORDER BY point.point)
"""
"""`operating_points` with the scores on the test split. `test_score` is by the point's metric: the accuracy of
`predictions`, R squared of `estimates` (1 minus the squared errors over the squared distances from the mean target), or
a column of `test_scores`; null without test rows. Also the cost of a forward pass in the circumstance of `timed_on`
(null if not timed), and whether more removal was asked than at the point before, without effect: a pruning always
changes the MACs."""

ARMS_AS_PLANNED = """
SELECT point.* REPLACE (
    coalesce(head_arm, planned.arm, point.arm) AS arm,
    CASE WHEN head_arm IS NULL THEN point.label ELSE coalesce(of_head.label, 'head_only') END AS label,
    CASE WHEN head_arm IS NULL THEN point.method ELSE coalesce(of_head.method, 'head_only') END AS method)
FROM ({rows}) AS point
LEFT JOIN (SELECT {trial}, arm FROM planned) AS planned USING ({trial})
LEFT JOIN (SELECT {trial}, 0 AS point, head_arm FROM planned) AS head USING ({trial}, point)
LEFT JOIN (
    SELECT {run} arm AS head_arm, any_value(label) AS label, any_value(method) AS method FROM planned GROUP BY ALL
) AS of_head USING ({run} head_arm)
"""
"""Rows of operating points, each with the arm that `planned` has for it. It is not the row's own where an arm got
another name after the point was written, as with `--extend`; and where a path begins with the fit of a new head: there
nothing is pruned and nothing tuned yet, so arm, label and method are those of the head's fit."""

COMPARED_POINTS = """
WITH usable AS (
    FROM measured_points
    LEFT JOIN (SELECT {trial}, arm AS arm_of_trial, tuning_order AS setting FROM planned) USING ({trial})
    LEFT JOIN (SELECT {trial}, status FROM trials) USING ({trial})
    WHERE (arm <> arm_of_trial OR status IS DISTINCT FROM 'failed') AND ({trial}) NOT IN (
        SELECT ({trial}) FROM (SELECT *, unnest(trial_ids) AS trial_id FROM proposals WHERE purpose = 'search')
    )
    QUALIFY coalesce(arm = arm_of_trial, true) OR (
        count(*) FILTER (arm = arm_of_trial) OVER (PARTITION BY {run} network, dataset, train_images, arm, seed) = 0
        AND row_number() OVER (
            PARTITION BY network, dataset, train_images, arm, seed, stage_key ORDER BY setting, {trial}
        ) = 1
    )
), last AS (
    SELECT *, (coalesce(arm <> arm_of_trial, false) OR coalesce(status = 'finished', false)) AND row_number() OVER (
        PARTITION BY {trial}, asked_removed_macs_fraction ORDER BY point DESC
    ) = 1 AS is_last
    FROM usable
), scored AS (
    SELECT *, avg(CASE WHEN isfinite(validation_score) THEN validation_score ELSE '-inf' END) OVER (
        PARTITION BY network, dataset, train_images, arm, seed, asked_removed_macs_fraction, setting, is_last
    ) AS validation
    FROM last
)
SELECT * EXCLUDE (arm_of_trial, setting, status, is_last, validation), is_last AND rank() OVER (
    PARTITION BY network, dataset, train_images, arm, seed, asked_removed_macs_fraction, setting IS NULL, is_last
    ORDER BY validation DESC, setting
) = 1 AS is_compared
FROM scored
"""
"""The points that may be compared, and `is_compared`: those that are.

Without those of failed trials: a trial may have failed where it would have scored badly. But the fit of a head with
which a path began is whole, and of another arm. Without those of a search, which are the better the more settings were
tried: only the trials that confirm its best settings are compared. And each fit of a head once, though many paths begin
with it: from a trial of its arm or, where that has no point with this seed, from one of the paths.

Of these, `is_compared` are the last of each finished trial at an asked budget, and the heads' fits; with [tuning], of
each arm, seed and budget those of the value that is best on the validation split, of equal ones the first."""

COUNTED_TRIALS = """
SELECT trial_id, run FROM (
    SELECT run, trial_id, max(written_at) AS row_at FROM (
        SELECT run, trial_id, NULL AS written_at FROM planned
        UNION ALL SELECT run, trial_id, written_at FROM trials
        UNION ALL SELECT run, trial_id, written_at FROM operating_points
    ) GROUP BY ALL
) LEFT JOIN trials USING (run, trial_id)
LEFT JOIN (
    SELECT DISTINCT run, unnest(trial_ids) AS trial_id, true AS searched FROM proposals WHERE purpose = 'search'
) USING (run, trial_id)
QUALIFY row_number() OVER (
    PARTITION BY trial_id
    ORDER BY coalesce(searched, false), status IS DISTINCT FROM 'finished', row_at DESC NULLS LAST, run
) = 1
"""
"""Of several runs, the one from which each trial's rows count: not one whose search proposed it, if it is in another;
of these one that finished it; of these the one that wrote it last."""
COUNTED_ROWS = "(SELECT * FROM {rows} SEMI JOIN counted_trials USING (run, trial_id))"

TIMED_ON = f"""
SELECT {", ".join(CIRCUMSTANCE)}, count(DISTINCT model_key) AS models FROM timings
GROUP BY ALL ORDER BY models DESC, max(written_at) DESC LIMIT 1
"""
"""The circumstance of the times in `measured_points`: the one in which most models were timed."""

OTHER_SPEED = 1.1  # times the usual milliseconds of a whole network, or less: clearly another speed (C)
LATENCIES = f"""
WITH timed AS (
    SELECT timings.*, network, original_macs FROM timings JOIN (
        SELECT model_key, any_value(network) AS network, any_value(original_macs) AS original_macs
        FROM operating_points GROUP BY model_key
    ) USING (model_key)
    QUALIFY row_number() OVER (PARTITION BY model_key, {", ".join(CIRCUMSTANCE)} ORDER BY written_at DESC) = 1
), wholes AS (
    SELECT {", ".join(CIRCUMSTANCE)}, network, original_macs, quantile_disc(whole_latency_ms, 0.5) AS usual_ms,
        arg_max(timed.reference_latency_ms, written_at) AS reference_latency_ms
    FROM timed GROUP BY ALL
)
SELECT model_key, {", ".join(CIRCUMSTANCE)}, wholes.reference_latency_ms / speed AS latency_ms,
    speed, speed_lower_quartile, speed_upper_quartile, is_steady,
    greatest(whole_latency_ms / usual_ms, usual_ms / whole_latency_ms) > {OTHER_SPEED} AS is_at_other_speed,
    peak_memory_bytes, network, original_macs, wholes.reference_latency_ms
FROM timed JOIN wholes USING ({", ".join(CIRCUMSTANCE)}, network, original_macs)
"""
"""The last time of each model in each circumstance. The milliseconds of `timings` are those of the minute in which a
model was timed, and other work on the machine changes them. So each model is compared by its share of the whole
network's time, which was measured in turns with it: its `latency_ms` here is this share of one reference measurement
of the whole network. `is_at_other_speed`: the whole network took clearly more or less time than beside the other
sub-models."""

COMPUTED_STAGES = """
SELECT stage_key, arg_min(compute_s, (cached, written_at)) AS compute_s,
    arg_min(ranks, (cached, written_at)) AS ranks, any_value(parents) AS parents
FROM stages GROUP BY stage_key
"""
"""Each stage once, with the time of the trial that computed it: the first, if two did so at once."""

UNSHARED_COSTS = """
WITH RECURSIVE behind AS (
    SELECT DISTINCT stage_key AS point_key, stage_key FROM operating_points
    UNION
    SELECT point_key, unnest(parents) AS stage_key FROM behind JOIN computed_stages USING (stage_key)
)
SELECT point_key AS stage_key, sum(compute_s) AS compute_s, sum(compute_s * ranks) / 3600 AS device_hours
FROM behind JOIN computed_stages USING (stage_key) GROUP BY point_key
"""
"""What each operating point, named by its stage, takes from the start if it shares nothing: its stage and all before
it; `device_hours` are those of all ranks. A stage without a row counts 0."""


def computed_views(*, several: bool) -> dict[str, str]:
    """Return name -> SQL of each view over several tables, of one run or of several; it names only those before it."""
    names = _names_in(several=several)
    views = {"counted_trials": COUNTED_TRIALS} if several else {}
    return views | {
        "timed_on": TIMED_ON,
        "latencies": LATENCIES,
        "measured_points": MEASURED_POINTS.format(**names),
        "compared_points": COMPARED_POINTS.format(**names),
        "computed_stages": COMPUTED_STAGES,
        "unshared_costs": UNSHARED_COSTS,
    }


def arms_as_planned(rows: str, *, several: bool) -> str:
    """Return the SQL for rows of operating points with the arms of `ARMS_AS_PLANNED`."""
    return ARMS_AS_PLANNED.format(rows=rows, **_names_in(several=several))


def _names_in(*, several: bool) -> dict[str, str]:
    """What the views of one run, or of several, name: the columns of a trial and of a point, and the points' rows."""
    trial = ["run", "trial_id"] if several else ["trial_id"]
    return {
        "key": ", ".join([*trial, "point"]),
        "trial": ", ".join(trial),
        "run": "run," if several else "",
        "path": ", ".join(f"point.{name}" for name in trial),
        "circumstance": ", ".join(CIRCUMSTANCE),
        "points": COUNTED_ROWS.format(rows="operating_points") if several else "operating_points",
    }


def select(table: TableSchema, files_by_run: dict[str, TableFiles], *, several: bool) -> str:
    """Return the SQL for the rows of a table, over runs (name -> files); `several` adds the column `run`."""
    columns = ", ".join(quote(column.name) for column in table.columns)
    selects = []
    for name, files in files_by_run.items():
        run = f"{literal(name)} AS run, " if several else ""
        if files.full:
            paths = ", ".join(file_pattern(path) for path in files.full)
            selects.append(f"SELECT {run}{columns} FROM read_parquet([{paths}], hive_partitioning = false)")
        if files.last is not None:
            selects.append(f"SELECT {run}{columns} FROM {held_name(table.name, name)}")
    if selects:
        return " UNION ALL ".join(selects)
    nulls = (f"CAST(NULL AS {_SQL_TYPES[column.type]}) AS {quote(column.name)}" for column in table.columns)
    run = "CAST(NULL AS VARCHAR) AS run, " if several else ""
    return f"SELECT {run}{', '.join(nulls)} WHERE false"


def held_name(table: str, run: str) -> str:
    """Return the name of DuckDB's table with the rows of a file that may change."""
    return f"last_files.{quote(f'{table} of {run}')}"


def quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def file_pattern(path: Path) -> str:
    """Quote a path for DuckDB, which takes it for a pattern: pattern characters are put in brackets."""
    return literal(str(path.absolute()).translate(_NO_PATTERN))


def literal(value: str) -> str:
    """Quote a text for a query."""
    return "'" + value.replace("'", "''") + "'"


def is_of_points(points: Iterable[tuple[str, int]]) -> str:
    """Return the condition that a row is of one of these operating points, each given by its trial and its number.

    >>> is_of_points([("9f2c", 1), ("a811", 1)])
    "(trial_id, point) IN (('9f2c', 1), ('a811', 1))"
    """
    return f"(trial_id, point) IN ({', '.join(f'({literal(trial_id)}, {point})' for trial_id, point in points)})"
