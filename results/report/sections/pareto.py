"""Score against cost: every operating point against MACs, parameters, hours and, if timed, latency and memory."""

from results.analysis.pareto import TIMED, circumstance_lines
from results.arms.findings import Findings
from results.plot.front import front, means_of
from results.report.elements.blocks import Figure, Section, Words


def section(found: Findings) -> Section:
    """Draw one figure with a panel for each problem that has test scores."""
    made = Section(
        "pareto",
        "Score against cost",
        "MACs are multiply-accumulate operations of one forward pass of one image; an operating point is a sub-model"
        " that was measured. Small marks: every operating point. Large:"
        " the mean of each arm at each asked budget, with its 95% t interval."
        " Lines join the budgets of an arm; the dashed line is the front: no other mean beats these in both cost and"
        " score. Rank-time is the time of all stages that led to the point, times their ranks, without sharing. Point"
        " at a mark to read it, click on it to see its trial; click on an arm to isolate it (with Shift, several);"
        " drag a rectangle to select points for the table below. Ranks are by the score on the validation split; the"
        " test score is shown and ranks nothing.",
        empty="No test predictions yet.",
        short="Score and cost",
    )
    means = means_of(found)
    chart = front(found, means)
    if chart is None:
        return made
    made.blocks.append(Figure("pareto-figure", chart))
    if any(cost in TIMED for _, cost in means):
        made.blocks += [Words(line) for line in circumstance_lines(found.run)]
    return made
