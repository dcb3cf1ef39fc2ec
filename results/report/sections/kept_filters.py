"""Which filters are kept: how far seeds and methods agree on them, corrected for chance."""

from results.arms.findings import Findings
from results.plot.layers import budgets, kept_filters
from results.report.elements.blocks import Figure, Section


def section(found: Findings) -> Section:
    """Draw for each problem labels against layers, and labels against labels if they are few."""
    made = Section(
        "kept",
        "Which filters are kept",
        "Cohen's kappa of two selections of filters: 1 if both keep the same filters, 0 if they agree as much as"
        " random selections of these sizes, below 0 if less. The stronger the colour, the more they agree. Only"
        " sub-models pruned from the same source weights are compared, in layers that lost filters in both.",
        empty="No two sub-models yet whose filters can be compared.",
        short="Filters",
    )
    for place, problem, asked, at in budgets(found):
        charts = kept_filters(found, problem, asked, at)
        made.blocks += [Figure(f"{name}{place}", chart) for name, chart in charts.items()]
    return made
