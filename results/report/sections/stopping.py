"""What each stop rule would have chosen on the recorded paths."""

from dataclasses import replace

from results.analysis.stopping import COLUMNS, outcome_row, rule_outcomes
from results.arms import comparison, tuning
from results.arms.comparison import Problem
from results.figures.rows import Line, Mark, rows_of_dots
from results.figures.svg import Key
from results.report.elements import tables
from results.report.elements.blocks import Answer, Figure, Section, TableBlock, answer
from results.report.elements.findings import Findings
from results.report.elements.problems import problem_condition, scale_of
from results.report.elements.tables import HtmlTable, TableRow

TOLERANCE = 0.003
"""TransTailor's printed tau, 0.3 percentage points of accuracy. For R squared, the same number is our choice."""
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
_MOST_LABELS = 20
_TOLERANCES = (0.0, 0.003, 0.01, 0.02)


def section(found: Findings) -> Section:
    """Compare the rules for each problem; then list what the paper's rule chose, trial by trial."""
    made = Section(
        "stop",
        "What stop rules would have chosen",
        "Every trial runs its whole path, so stop rules are applied afterwards, to the validation score only."
        f" The paper's Algorithm 1 stops at the first point more than {100 * TOLERANCE:g} percentage points (of"
        f" R²: {TOLERANCE:g}) below the one before. “Best point” is the best by validation on the whole path.",
        empty="No path has two operating points yet.",
        short="Stop rules",
    )
    rules = ", ".join(
        f"({place}, 'paper''s, tolerance {tolerance:g}', {tolerance})" for place, tolerance in enumerate(_TOLERANCES)
    )
    for place, problem in enumerate(found.problems):
        data = answer(found.run, RULES.format(problem=problem_condition(problem), rules=rules))
        if data.rows:
            made.blocks.append(_figure(found, f"stop{place}", problem, data))
    if outcomes := _outcomes(found):
        made.blocks.append(outcomes)
    return _paper(made, found)


def _paper(made: Section, found: Findings) -> Section:
    """Add what the paper's rule chose on each path of TransTailor; with [tuning], on paths of the best setting."""
    done = {row["trial_id"] for row in found.run.rows("SELECT trial_id FROM trials WHERE status = 'finished'")}
    unfinished = {point.trial_id for point in found.points} - done
    choices = comparison.choices_of(found.points, TOLERANCE)
    if not choices:
        return made
    best = tuning.best_settings(comparison.chosen_points(choices), found.ended)
    trials = {point.trial_id for point in best}
    shown = [choice for choice in choices if choice.chosen.trial_id in trials]
    table = tables.choices_table(shown, TOLERANCE, unfinished, comparison.POINTS)
    made.blocks.append(
        TableBlock(table, "The paper's rule on TransTailor's paths", derived=True, folded=len(table.rows) > 8)
    )
    return made


def _outcomes(found: Findings) -> TableBlock | None:
    """List all rules for each label, compared with the paper's rule seed by seed."""
    ends = [replace(point, asked=None) for point in {point.trial_id: point for point in found.points}.values()]
    trials = {point.trial_id for point in tuning.best_settings(ends, found.ended)}
    paths = [point for point in found.points if point.trial_id in trials]
    rows = []
    for (problem, label), several in rule_outcomes(paths, found.environments).items():
        rows += [TableRow((str(problem), label, *outcome_row(one)[:-1])) for one in several]
    table = HtmlTable(("where", "label", *COLUMNS[:-1]), (False, False, False, *[True] * 8), rows, comparison.POINTS)
    return TableBlock(table, "All rules, label by label", derived=True, folded=len(rows) > 8) if rows else None


def _figure(found: Findings, name: str, problem: Problem, data: Answer) -> Figure:
    scale = scale_of(found.points, problem)
    records = data.records()
    rules = sorted({(record["place"], record["rule"]) for record in records})
    labels = sorted({record["label"] for record in records})
    lines = []
    for label in labels[:_MOST_LABELS]:
        panels: list[list[Mark]] = [[], []]
        for row, record in enumerate(records):
            if record["label"] == label:
                place = record["place"]
                values = (100 * record["removed_macs_fraction"], scale.factor * _number(record["test_score"]))
                for panel, value in zip(panels, values, strict=True):
                    panel.append(Mark(value=value, series=place, colour=f"c{place}", row=row))
        lines.append(Line(label, panels))
    title = f"{problem}: what each rule would have chosen, means over trials"
    panels_across = ["removed MACs (%)", f"test {scale.noun}{scale.axis_unit}"]
    drawing = rows_of_dots(title, panels_across, lines)
    legend = [Key(place, rule, f"c{place}") for place, rule in rules]
    left = len(labels) - len(labels[:_MOST_LABELS])
    note = f"{left} more labels are in the table." if left else ""
    return Figure(name, title, drawing, data, legend, titled_by=("label", "rule"), note=note)


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
