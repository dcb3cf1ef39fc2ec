"""Which layers lost filters: the widths of the sub-models, and how far seeds and methods agree on them."""

from results.arms.findings import Findings
from results.plot.layers import budgets, widths
from results.report.elements.blocks import Figure, Section


def section(found: Findings) -> Section:
    """Draw the widths for each problem, and the agreement of labels if there are several."""
    made = Section(
        "widths",
        "What is left of each layer",
        "Filters that are left in each layer, in per cent of the original ones: the mean over seeds. The stronger"
        " the colour, the more are removed. Point at a cell to see how far the seeds agree. These are widths; the"
        " next section shows which filters are kept.",
        empty="No layers of pruned networks yet.",
        short="Layers",
    )
    for place, problem, asked, at in budgets(found):
        charts = widths(found, problem, asked, at)
        made.blocks += [Figure(f"{name}{place}", chart) for name, chart in charts.items()]
    return made
