"""What each setting does on average: median and quartiles of the score for each value of what varies."""

from collections.abc import Sequence

from results.arms.comparison import Problem
from results.arms.findings import Findings, problem_condition, scale_of
from results.plot.chart import Chart, Spec
from results.plot.style import GREY, PALETTE, WIDTH, names_width, quantity, row_axis, told
from results.store.answers import answer
from results.store.reader import literal

EFFECTS = """
WITH ends AS (
    SELECT trial_id, label, method, test_score FROM compared_points
    WHERE {problem} QUALIFY row_number() OVER (PARTITION BY trial_id ORDER BY point DESC) = 1
), settings AS (
    SELECT trial_id, setting, json_extract(config_json, '$."' || replace(setting, '.', '"."') || '"') AS json
    FROM planned, (SELECT unnest([{settings}]) AS setting)
)
SELECT setting, coalesce(json_extract_string(json, '$'), 'none') AS value, count(*) AS trials,
    avg(test_score) AS mean_test_score, median(test_score) AS median_test_score,
    quantile_cont(test_score, 0.25) AS lower_quartile, quantile_cont(test_score, 0.75) AS upper_quartile
FROM ends JOIN settings USING (trial_id)
WHERE isfinite(test_score) AND json IS NOT NULL AND json_type(json) <> 'OBJECT'
GROUP BY setting, value
QUALIFY count(*) OVER (PARTITION BY setting) BETWEEN 2 AND {most_values}
ORDER BY setting, try_cast(value AS DOUBLE), value
"""
MOST_VALUES = 12
_MOST_SETTINGS = 10


def effects(found: Findings, problem: Problem, settings: Sequence[str]) -> Chart | None:
    """A group of rows for each setting, that with the widest range on top; None where none varies.

    Args:
        settings: dotted names, such as "optimisation.learning_rate".
    """
    shown = ", ".join(literal(name) for name in settings)
    sql = EFFECTS.format(problem=problem_condition(problem), settings=shown or "NULL", most_values=MOST_VALUES)
    data = answer(found.run, sql)
    if not data.rows:
        return None
    scale = scale_of(found.points, problem)
    records = data.records()
    medians: dict[str, list[float]] = {}
    for record in records:
        medians.setdefault(record["setting"], []).append(record["median_test_score"])
    order = sorted(medians, key=lambda setting: min(medians[setting]) - max(medians[setting]))
    names = [f"{record['value']} ({record['trials']} trials)" for record in records]
    middle, low, high = (f"{name}_shown" for name in ("median", "lower", "upper"))
    columns = {middle: "median_test_score", low: "lower_quartile", high: "upper_quartile"}
    title = f"test {scale.noun}{scale.axis_unit}"
    y = {"field": "name", "type": "nominal", "axis": row_axis(), "sort": {"field": "place"}}
    colour = {"condition": {"test": "datum.setting == 'seed'", "value": GREY}, "value": PALETTE[0]}
    tip = told(setting="setting", name="value", **{middle: f"median {title}|.{scale.digits}f"})
    spec: Spec = {
        "data": {"name": "rows"},
        "transform": [
            {"calculate": f"datum.{column} * {scale.factor}", "as": name} for name, column in columns.items()
        ],
        "columns": 1,
        "spacing": 12,
        "resolve": {"scale": {"x": "shared"}},
        "usermeta": {"left": names_width(names)},
        "concat": [
            {
                "title": {"text": setting, "fontSize": 11},
                "transform": [{"filter": {"field": "setting", "equal": setting}}],
                "width": WIDTH - names_width(names),
                "height": {"step": 20},
                "encoding": {"y": y, "color": colour},
                "layer": [
                    {"mark": {"type": "rule", "strokeWidth": 2},
                     "encoding": {"x": quantity(low, title, axis={"tickCount": 8}), "x2": {"field": high}}},
                    {"mark": {"type": "point", "filled": True, "size": 60, "opacity": 1},
                     "encoding": {"x": quantity(middle, title), "tooltip": tip}},
                ],
            }
            for setting in order[:_MOST_SETTINGS]
        ],
    }  # fmt: skip
    left = len(order) - _MOST_SETTINGS
    note = f"{left} more settings, whose medians lie closer together, are in the table." if left > 0 else ""
    title = f"{problem}: test {scale.noun} for each value, the setting with the largest range on top"
    return Chart(title, spec, data, {"name": names, "place": list(range(len(names)))}, note=note)
