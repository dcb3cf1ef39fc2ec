"""The SQL of the view `points`, which `points.py` describes, and the columns of its settings."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from results.store.schema import COLUMNS_OF_VIEWS, TABLES
from results.store.views import literal
from results.text.settings import leaves
from transtailor.documents import read_json

if TYPE_CHECKING:
    import duckdb

_TEST_SCORES = [column.name for column in TABLES["test_scores"].columns if column.source.startswith("scores.")]
SCORES = [*(name.replace("test_", "validation_", 1) for name in _TEST_SCORES), *_TEST_SCORES]
"""The columns of all scores, beside the two of the trial's metric."""
VIEW = """
CREATE OR REPLACE TEMP VIEW points AS
SELECT {run} AS run, trial_id, arm, label, method, network, dataset, train_images, seed, point,
    asked_removed_macs_fraction, asked_latency_ms, asked_latency_fraction, removed_macs_fraction, macs, original_macs,
    params, latency_ms, speed, speed_lower_quartile, speed_upper_quartile, is_steady, is_at_other_speed,
    peak_memory_bytes, metric, validation_score, test_score, test_images, {scores}, trained_epochs, compute_s,
    device_hours * 3600 AS rank_s, coalesce(is_compared, false) AS is_compared, settings.* EXCLUDE ({trial})
FROM measured_points LEFT JOIN (SELECT {trial}, point, is_compared FROM compared_points) USING ({trial}, point)
LEFT JOIN unshared_costs USING (stage_key)
LEFT JOIN settings_of_trials AS settings USING ({trial})
WHERE is_compared OR ({trial}) IN (SELECT ({trial}) FROM trials WHERE status = 'finished')
ORDER BY network, dataset, train_images, arm, seed, trial_id, point
"""
"""`is_compared`: whether `transtailor compare` takes the point. It takes none that a search tried, of [tuning] only the
values that are best on the validation split, and of several points at one budget the last of each trial."""


def create_view(connection: "duckdb.DuckDBPyConnection", runs: Sequence[str]) -> pa.Schema:
    """Make the view `points` of runs whose tables are views of the connection.

    Args:
        runs: their names.

    Returns:
        the fields of the settings, with their units and meanings.
    """
    trial = ["run", "trial_id"] if len(runs) > 1 else ["trial_id"]
    settings = _settings_of(connection, trial)
    connection.register("settings_of_trials", settings)
    run = "run" if len(runs) > 1 else literal(runs[0])
    connection.execute(VIEW.format(trial=", ".join(trial), run=run, scores=", ".join(SCORES)))
    return settings.schema


def _settings_of(connection: "duckdb.DuckDBPyConnection", trial: Sequence[str]) -> pa.Table:
    """Return the settings of all planned trials, after the columns that name the trial."""
    planned = connection.sql(f"SELECT {', '.join(trial)}, config_json FROM planned ORDER BY ALL").to_arrow_table()
    table = planned.select(list(trial))
    settings = settings_table(read_json(text.as_py()) for text in planned["config_json"])
    for field, column in zip(settings.schema, settings.columns, strict=True):
        table = table.append_column(field, column)
    return table


def settings_table(configs: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Return a row for each configuration with a column for each setting that any of them has.

    A column has whole numbers, numbers, truth values or texts if all its values are such; else, as with lists, their
    JSON. A setting that a configuration does not have is null.

    >>> configs = [{"seed": 1, "data": {"name": "dogs", "sizes": [8, 9]}}, {"data": {"sizes": 8}, "rate": 0.5}]
    >>> settings_table(configs).to_pylist()
    [{'data_name': 'dogs', 'data_sizes': '[8, 9]', 'rate': None}, {'data_name': None, 'data_sizes': '8', 'rate': 0.5}]
    """
    values: dict[str, list[Any]] = {}  # of each setting, in the order in which they first occur
    count = 0
    for config in configs:  # one after the other takes less memory
        for key, value in leaves(config):
            column = values.setdefault(key, [])
            column += [None] * (count - len(column))
            column.append(value)
        count += 1
    columns = []
    fields = []
    for key, name in column_names(values).items():
        column = _column(values[key] + [None] * (count - len(values[key])))
        columns.append(column)
        fields.append(pa.field(name, column.type, metadata={"unit": "", "meaning": f"the trial's setting {key}"}))
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def column_names(keys: Iterable[str]) -> dict[str, str]:
    """Return setting -> its column: dots become underscores, two where another column has the name with one.

    Settings that a column of every row says are left out: `seed`, and what was asked of the point, which a setting has
    for the path's end.

    >>> column_names(["seed", "method.asked_removed_macs_fraction", "optimisation.learning_rate", "model.a", "model_a"])
    {'optimisation.learning_rate': 'optimisation_learning_rate', 'model.a': 'model__a', 'model_a': 'model_a'}
    """
    columns_of_points = {column.name for column in (*TABLES["operating_points"].columns, *COLUMNS_OF_VIEWS["points"])}
    settings = [key for key in keys if key not in columns_of_points and not key.rpartition(".")[2].startswith("asked_")]
    uses = Counter(key.replace(".", "_") for key in settings)
    uses.update(columns_of_points)
    names = {}
    for key in settings:
        name = key.replace(".", "_")
        names[key] = name if uses[name] == 1 else key.replace(".", "__")
    return names


def _column(values: list[Any]) -> pa.Array:
    """Return the values with the type that all of them have, or as JSON."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int} and all(abs(value) < 2**63 for value in values if value is not None):
        return pa.array(values, pa.int64())
    if kinds <= {int, float}:
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    if kinds == {bool}:
        return pa.array(values, pa.bool_())
    if kinds == {str}:
        return pa.array(values, pa.string())
    return pa.array([None if value is None else json.dumps(value, ensure_ascii=False) for value in values], pa.string())
