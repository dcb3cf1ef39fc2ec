"""The effect of each setting: the score at the end of the path for each value of each setting that varies."""

import math

from results.analysis.effects import SETTINGS, Effects, effects_of, effects_table
from results.arms.comparison import POINTS, Problem
from results.errors import ResultsError
from results.figures.rows import Line, Mark, rows_of_dots
from results.report.elements.blocks import Answer, Figure, Section, TableBlock, Words, answer, literal
from results.report.elements.findings import Findings
from results.report.elements.problems import problem_condition, scale_of
from results.report.elements.tables import HtmlTable, TableRow
from results.report.sections.trials import TrialSettings
from results.text.number_format import SCALES

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
_MOST_VALUES = 12
_MOST_SETTINGS = 10
_NO_PATH = frozenset('"\\')
"""A setting with one of these in its name has no JSON path; its values are in the trials' panels."""
_OF_THE_PROBLEM = ("network", "data.name", "data.train_images")


def section(found: Findings, settings: TrialSettings) -> Section:
    """Draw one figure for each problem, with one group of rows for each setting that varies."""
    made = Section(
        "effects",
        "Effects of the settings",
        "The test score of each trial's last operating point, for each value of each setting that varies: median"
        " and quartiles over all trials with that value. The difference of two rows is the effect of the setting only"
        " if all values occur with the same other settings (crossed axes). The rows of the seed show the effect of"
        " chance.",
        empty=f"No setting has between 2 and {_MOST_VALUES} values in trials with a test score.",
    )
    keys = [key for key in settings.varying if key not in _OF_THE_PROBLEM and not set(key) & _NO_PATH]
    keys = sorted(keys, key=lambda key: (key == "seed", len(set(settings.varying[key])), key))
    if not keys:
        return made
    made.blocks += _analyses(found)
    shown = ", ".join(literal(key) for key in keys)
    for place, problem in enumerate(found.problems):
        sql = EFFECTS.format(problem=problem_condition(problem), settings=shown, most_values=_MOST_VALUES)
        data = answer(found.run, sql)
        if data.rows:
            made.blocks.append(_figure(found, f"effects{place}", problem, data))
    return made


def _analyses(found: Findings) -> list[TableBlock | Words]:
    """Build the analysis of variance for each metric, or explain why there is none."""
    try:
        several = effects_of(found.run)
    except ResultsError as error:
        return [Words(f"No analysis of variance: {error}.")]
    return [_analysis(effects) for effects in several]


def _analysis(effects: Effects) -> TableBlock:
    page = effects_table(effects.result)
    rows = [TableRow(tuple(map(str, row))) for row in page.rows[:-1]]  # without the noise
    title = f"Analysis of variance of the test {SCALES[effects.metric].noun} at the end of each trial's path"
    table = HtmlTable(
        tuple(page.columns), (False, *[True] * 7), rows, f"{SETTINGS};\n{POINTS}", " ".join(effects.notes)
    )
    return TableBlock(table, title, derived=True)


def _figure(found: Findings, name: str, problem: Problem, data: Answer) -> Figure:
    scale = scale_of(found.points, problem)
    records = data.records()
    settings = list(dict.fromkeys(record["setting"] for record in records))
    spread = {setting: _spread([r for r in records if r["setting"] == setting]) for setting in settings}
    settings.sort(key=lambda setting: -spread[setting])
    lines = []
    for place, setting in enumerate(settings[:_MOST_SETTINGS]):
        lines.append(Line(setting))
        for row, record in enumerate(records):
            if record["setting"] == setting:
                mark = Mark(
                    value=scale.factor * record["median_test_score"], series=place,
                    colour="cx" if setting == "seed" else "c0", row=row,
                    low=scale.factor * record["lower_quartile"], high=scale.factor * record["upper_quartile"],
                )  # fmt: skip
                lines.append(Line(f"{record['value']} ({record['trials']} trials)", [[mark]]))
    left = len(settings) - len(settings[:_MOST_SETTINGS])
    note = f"{left} more settings, whose medians are closer together, are in the table." if left else ""
    title = f"{problem}: test {scale.noun} for each value, the setting with the largest range on top"
    drawing = rows_of_dots(title, [f"test {scale.noun}{scale.axis_unit}"], lines)
    return Figure(name, title, drawing, data, titled_by=("setting", "value"), note=note)


def _spread(records: list[dict[str, float]]) -> float:
    medians = [record["median_test_score"] for record in records if math.isfinite(record["median_test_score"])]
    return max(medians, default=0.0) - min(medians, default=0.0)
