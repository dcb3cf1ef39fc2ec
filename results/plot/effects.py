"""What each setting does on average, value by value, and the two settings that interact most."""

from collections.abc import Sequence

from results.analysis.effects import SETTINGS, Effects, level_order, means_by_level, strongest_pair
from results.arms.comparison import POINTS, Problem
from results.arms.findings import Findings, problem_condition
from results.plot.chart import Chart, Spec
from results.plot.style import GREY, PALETTE, WIDTH, names_width, quantity, row_axis, told
from results.store.answers import Answer, answer
from results.store.views import literal
from results.text.number_format import SCALES, number, p_text

EFFECTS = """
WITH ends AS (
    SELECT trial_id, test_score FROM compared_points
    WHERE {problem} QUALIFY row_number() OVER (PARTITION BY trial_id ORDER BY point DESC) = 1
), settings AS (
    SELECT trial_id, setting, json_extract(config_json, '$."' || replace(setting, '.', '"."') || '"') AS json
    FROM planned, (SELECT unnest([{settings}]) AS setting) WHERE {problem}
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
    scale = found.scales[problem]
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


def interaction(effects: Effects) -> Chart | None:
    """The mean score of each combination of the two settings that interact most; None if only one setting varies."""
    found = strongest_pair(effects)
    if found is None:
        return None
    pair, effect = found
    levels = {name: sorted(set(effects.factors[name]), key=level_order) for name in pair}
    across, lines = sorted(pair, key=lambda name: -len(levels[name]))
    cells = list(zip(effects.factors[across], effects.factors[lines], strict=True))
    means = sorted(means_by_level(cells, effects.points).items(), key=lambda one: [*map(level_order, one[0])])
    rows = [(*cell, mean.n, mean.mean, mean.low, mean.high) for cell, mean in means]
    scale = SCALES[effects.metric]
    title = f"test {scale.noun}{scale.axis_unit}"
    names = {"mean": "mean_test_score", "lowest": "low", "highest": "high"}
    spec: Spec = {
        "data": {"name": "rows"},
        "transform": [{"calculate": f"isValid(datum.{column}) ? datum.{column} * {scale.factor} : null", "as": name}
                      for name, column in names.items()],
        "width": WIDTH - 80,
        "height": 220,
        "encoding": {
            "x": {"field": "value", "type": "nominal", "sort": levels[across], "title": across,
                  "axis": {"labelAngle": 0}, "scale": {"type": "point", "padding": 0.5}},
            "color": {"field": "other_value", "type": "nominal", "title": lines, "sort": levels[lines],
                      "scale": {"range": [*PALETTE]}},
            "tooltip": told(value=across, other_value=lines, mean=f"mean {title}|.{scale.digits}f", seeds="seeds"),
        },
        "layer": [
            {"mark": {"type": "rule", "opacity": 0.5},
             "encoding": {"y": quantity("lowest", title), "y2": {"field": "highest"}}},
            {"mark": {"type": "line", "point": {"size": 50}}, "encoding": {"y": quantity("mean", title)}},
        ],
    }  # fmt: skip
    data = Answer(("value", "other_value", "seeds", *names.values()), rows, f"{SETTINGS};\n{POINTS.strip()}")
    title = f"The settings that interact most: {across} and {lines}"
    note = (
        "Means over seeds with 95% t intervals. The interaction's share of the variance is"
        f" {number(effect.eta_squared, 3)}, its p {p_text(effect.p)}."
    )
    return Chart(title, spec, data, note=note, derived=True)
