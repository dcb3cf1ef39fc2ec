"""What each stop rule would have chosen on the recorded paths."""

from dataclasses import replace

from results.analysis.stopping import COLUMNS, outcome_row, rule_outcomes
from results.arms import comparison, tuning
from results.arms.findings import Findings
from results.plot.stopping import stop_rules
from results.report.elements import tables
from results.report.elements.blocks import Figure, Section, TableBlock
from results.report.elements.tables import HtmlTable, TableRow

TOLERANCE = 0.003
"""TransTailor's printed tau, 0.3 percentage points of accuracy. For R squared, the same number is our choice."""


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
    for place, problem in enumerate(found.problems):
        if chart := stop_rules(found, problem):
            made.blocks.append(Figure(f"stop{place}", chart))
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
