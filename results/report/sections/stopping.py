"""What each stop rule would have chosen on the recorded paths."""

from results.analysis.stopping import COLUMNS, outcome_row
from results.arms import comparison
from results.arms.findings import Findings
from results.plot.stopping import outcomes_of, stop_rules
from results.report.elements.blocks import Figure, Section, TableBlock
from results.report.elements.tables import HtmlTable, TableRow

TOLERANCE = 0.003
"""TransTailor's printed tau, 0.3 percentage points of accuracy. For R squared, the same number is our choice."""


def section(found: Findings) -> Section:
    """Compare the rules for each problem, and arm by arm."""
    made = Section(
        "stop",
        "What stop rules would have chosen",
        "Every trial runs its whole path, so stop rules are applied afterwards, to the validation score only."
        f" The paper's Algorithm 1 stops at the first point more than {100 * TOLERANCE:g} percentage points (of"
        f" R²: {TOLERANCE:g}) below the one before. “Best point” is the best by validation on the whole path.",
        empty="No path has two operating points yet.",
        short="Stop rules",
    )
    rows = []
    for place, problem in enumerate(found.problems):
        outcomes = outcomes_of(found, problem)
        if chart := stop_rules(found, problem, outcomes):
            made.blocks.append(Figure(f"stop{place}", chart))
        for name, several in outcomes.items():
            rows += [TableRow((str(problem), name, *outcome_row(one)[:-1])) for one in several]
    if rows:
        columns, numeric = ("where", "arm", *COLUMNS[:-1]), (False, False, False, *[True] * 8)
        table = HtmlTable(columns, numeric, rows, comparison.POINTS)
        made.blocks.append(TableBlock(table, "All rules, arm by arm", derived=True, folded=len(rows) > 8))
    return made
