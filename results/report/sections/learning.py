"""Learning curves: epochs of training, label by label, with bands over the trained stages."""

from results.arms.findings import Findings
from results.plot.learning import learning_curves
from results.report.elements.blocks import Figure, Section


def section(found: Findings) -> Section:
    """Draw one figure for each network and data set, with a panel for each kind of stage."""
    made = Section(
        "learning",
        "Learning curves",
        "Median over the stages of a label with quartiles, on the training images. Every stage counts once, however"
        " many trials share it; the curves of several pruning steps overlap.",
        empty="No epochs yet.",
        short="Learning",
    )
    made.blocks += [Figure(f"learning{place}", chart) for place, chart in enumerate(learning_curves(found).values())]
    return made
