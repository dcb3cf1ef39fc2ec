"""What each stop rule would have chosen on the recorded paths: a row for each label, a mark for each rule."""

from results.arms.comparison import Problem
from results.arms.findings import Findings, problem_condition, scale_of
from results.plot.chart import Chart, Spec
from results.plot.style import PALETTE, WIDTH, names_width, quantity, row_axis, told
from results.store.answers import answer

RULES = """
WITH path AS (
    SELECT label, seed, trial_id, point, removed_macs_fraction, validation_score, test_score,
        round(lag(validation_score) OVER (PARTITION BY trial_id ORDER BY point) - validation_score, 9) AS drop
    FROM compared_points
    WHERE {problem}
    QUALIFY count(*) OVER (PARTITION BY trial_id) > 1
), rules AS (
    SELECT * FROM (VALUES {rules}) AS rules(place, rule, tolerance)
), stops AS (
    SELECT place, rule, trial_id, min(point) FILTER (drop > tolerance OR isnan(validation_score)) AS stop
    FROM path, rules GROUP BY ALL
), chosen AS (
    SELECT place, rule, trial_id, coalesce(max(point) FILTER (stop IS NULL OR point < stop), min(point)) AS point
    FROM stops JOIN path USING (trial_id) GROUP BY ALL
    UNION ALL
    SELECT 4, 'best by validation', trial_id, coalesce(
        arg_max(point, (validation_score, removed_macs_fraction)) FILTER (isfinite(validation_score)), min(point))
    FROM path GROUP BY trial_id
    UNION ALL
    SELECT 5, 'end of the path', trial_id, max(point) FROM path GROUP BY trial_id
)
SELECT label, rule, place, count(*) AS trials, avg(point) AS mean_point, avg(removed_macs_fraction)
    AS removed_macs_fraction, avg(validation_score) AS validation_score, avg(test_score) AS test_score
FROM chosen JOIN path USING (trial_id, point)
GROUP BY ALL ORDER BY label, place
"""
"""A path is walked from its first point; a drop is measured from the point before, in the validation score. It is
rounded, because 0.9 - 0.897 is 0.0030000000000000027 in floating point and must count as 0.003."""
TOLERANCES = (0.0, 0.003, 0.01, 0.02)
_MOST_LABELS = 20


def stop_rules(found: Findings, problem: Problem) -> Chart | None:
    """Means over trials of what each rule would have chosen; None where no path has two points."""
    rules = ", ".join(f"({n}, 'paper''s, tolerance {one:g}', {one})" for n, one in enumerate(TOLERANCES))
    data = answer(found.run, RULES.format(problem=problem_condition(problem), rules=rules))
    if not data.rows:
        return None
    scale = scale_of(found.points, problem)
    labels = sorted(set(data.column("label")))
    shown = labels[:_MOST_LABELS]
    ordered = [rule for _, rule in sorted(set(zip(data.column("place"), data.column("rule"), strict=True)))]
    left = names_width(shown)
    axes = {"removed": "removed MACs (%)", "score": f"test {scale.noun}{scale.axis_unit}"}
    forms = {"removed": ".1f", "score": f".{scale.digits}f"}
    tip = told(label="arm", rule="rule", trials="trials", **{name: f"{axes[name]}|{forms[name]}" for name in axes})
    rule = {"field": "rule", "type": "nominal", "sort": ordered}
    spec: Spec = {
        "data": {"name": "rows"},
        "transform": [
            {"filter": {"field": "label", "oneOf": shown}},
            {"calculate": "datum.removed_macs_fraction * 100", "as": "removed"},
            {"calculate": f"datum.test_score * {scale.factor}", "as": "score"},
        ],
        "columns": 2,
        "resolve": {"scale": {"y": "shared"}},
        "usermeta": {"left": left},
        "concat": [
            {
                "width": (WIDTH - left) / 2 - 24,
                "height": {"step": 9, "for": "offset"},
                "mark": {"type": "point", "filled": True, "size": 50, "opacity": 1},
                "encoding": {
                    "x": quantity(name, title),
                    "y": {"field": "label", "type": "nominal", "axis": row_axis(labels=name == "removed")},
                    "yOffset": rule,
                    "color": rule | {"title": None, "scale": {"domain": ordered, "range": PALETTE[: len(ordered)]}},
                    "tooltip": tip,
                },
            }
            for name, title in axes.items()
        ],
    }
    note = f"{len(labels) - len(shown)} more labels are in the table." if len(labels) > len(shown) else ""
    return Chart(f"{problem}: what each rule would have chosen, means over trials", spec, data, note=note)
