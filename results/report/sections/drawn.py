"""Sections that are a text and figures: learning curves, layers, kept filters, printed numbers."""

from results.arms.findings import Findings
from results.plot.layers import Figures, budgets, kept_filters, over_data, widths
from results.plot.learning import learning_curves
from results.plot.printed import printed_numbers
from results.report.elements.blocks import Figure, Section
from results.store.reader import Run


def learning_section(found: Findings) -> Section:
    """Draw one figure for each network and data set, with a panel for each kind of stage."""
    made = Section(
        "learning",
        "Learning curves",
        "Median over the stages of an arm with quartiles, on the training images; dashed: on the validation split,"
        " where the spec asks for it (validate_every), else it is not recorded. Every stage counts once, however many"
        " trials share it; the curves of several pruning steps overlap.",
        empty="No epochs yet.",
        short="Learning",
    )
    made.blocks += [Figure(f"learning{place}", chart) for place, chart in enumerate(learning_curves(found).values())]
    return made


def widths_section(found: Findings) -> Section:
    """Draw the widths for each problem, the agreement of arms if there are several, and one arm over data sets."""
    made = _of_layers(found, widths, Section(
        "widths",
        "What is left of each layer",
        "Filters that are left in each layer, in per cent of the original ones: the mean over seeds. The stronger"
        " the colour, the more are removed. Point at a cell to see how far the seeds agree. Below, two arms face to"
        " face: choose them in the table of arms, the second one with Shift.",
        empty="No layers of pruned networks yet.",
        short="Layers",
    ))  # fmt: skip
    for place, network in enumerate(dict.fromkeys(problem.network for problem in found.problems)):
        made.blocks += [Figure(f"{name}{place}", chart) for name, chart in over_data(found, network).items()]
    return made


def kept_filters_section(found: Findings) -> Section:
    """Draw for each problem arms against layers, and arms against arms if they are few."""
    return _of_layers(found, kept_filters, Section(
        "kept",
        "Which filters are kept",
        "Cohen's kappa of two selections of filters: 1 if both keep the same filters, 0 if they agree as much as"
        " random selections of these sizes, below 0 if less. The stronger the colour, the more they agree. Only"
        " sub-models pruned from the same source weights are compared, in layers that lost filters in both.",
        empty="No two sub-models yet whose filters can be compared.",
        short="Filters",
    ))  # fmt: skip


def printed_section(run: Run) -> Section | None:
    """Draw one row for each printed number; None if the run has none."""
    charts = printed_numbers(run)
    if not charts:
        return None
    made = Section(
        "printed",
        "What the papers print",
        "Rings: the number as printed. Full dots: the mean over this run's trials of an arm with that label on that"
        " data set, with one standard deviation. Unless a note says otherwise, the papers' data, weights and training"
        " differ from those of this run.",
        short="Papers",
    )
    made.blocks += [Figure(f"printed{place}", chart) for place, chart in enumerate(charts)]
    return made


def _of_layers(found: Findings, figures: Figures, made: Section) -> Section:
    for place, problem, asked, at in budgets(found):
        charts = figures(found, problem, asked, at)
        made.blocks += [Figure(f"{name}{place}", chart) for name, chart in charts.items()]
    return made
