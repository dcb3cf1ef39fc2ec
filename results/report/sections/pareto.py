"""Score against cost: every operating point against MACs, parameters, hours and, if timed, latency and memory."""

from collections.abc import Mapping

from results.analysis.pareto import DEVICE_HOURS, TIMED, FrontPoint, circumstance_lines
from results.arms.comparison import POINTS as ROWS
from results.arms.comparison import Problem
from results.arms.findings import Findings
from results.plot.front import front, means_of
from results.report.elements.blocks import Figure, Section, TableBlock, Words
from results.report.elements.tables import HtmlTable, TableRow
from results.text.number_format import NOTHING, number

COSTS = {"macs": "MACs", "params": "parameters", DEVICE_HOURS: "rank-time"}
"""The costs that every point has, with short names."""
OF_TIMED = dict(zip(TIMED, ("latency", "memory"), strict=True))
_SETTLED_NOT = 0.02
"""Arms that are on the front in a smaller share of the resamples are left out of the table."""

Fronts = Mapping[str, Mapping[Problem, list[FrontPoint]]]


def section(found: Findings) -> Section:
    """Draw one figure for each problem with test scores, and list the arms that may be on its fronts."""
    made = Section(
        "pareto",
        "Score against cost",
        "MACs are multiply-accumulate operations of one forward pass of one image; an operating point is a sub-model"
        " that was measured. Small marks: every operating point. Large:"
        " the mean of each label at each asked budget, with its 95% t interval."
        " Lines join the budgets of a label; the dashed line is the front: no other mean beats these in both cost and"
        " score. Rank-time is the time of all stages that led to the point, times their ranks, without sharing. Point"
        " at a mark to read it, click on it to see its trial; click on an arm to isolate it (with Shift, several);"
        " drag a rectangle to select points for the table below.",
        empty="No test predictions yet.",
        short="Score and cost",
    )
    means = means_of(found)
    chart = front(found, means)
    if chart is None:
        return made
    fronts = {cost: of_cost for (score, cost), of_cost in means.items() if score == "test_score"}
    made.blocks += [Figure("pareto-figure", chart), *(_table(problem, fronts) for problem in found.problems)]
    if any(cost in fronts for cost in OF_TIMED):
        made.blocks += [Words(line) for line in circumstance_lines(found.run)]
    return made


def _table(problem: Problem, fronts: Fronts) -> TableBlock:
    """List the arms that are, or may be, on the front of any cost; "yes" or "no", and the share of resamples."""
    rows: dict[str, dict[str, str]] = {}
    for cost, by_problem in fronts.items():
        for point in by_problem.get(problem, []):
            if point.is_on_front or (point.share or 0.0) >= _SETTLED_NOT:
                share = "one seed" if point.share is None else number(point.share, 2)
                rows.setdefault(str(point.arm), {})[cost] = f"{'yes' if point.is_on_front else 'no'}, {share}"
    names = ("arm", *(f"front of {(COSTS | OF_TIMED)[cost]}, share" for cost in fronts))
    lines = [TableRow((arm, *(by_cost.get(cost, NOTHING) for cost in fronts))) for arm, by_cost in sorted(rows.items())]
    note = (
        "The share of 1000 resamples of the seeds in which no other arm is as cheap and as good: near 1 or 0 it is"
        f" settled, in between it is not. Arms below {_SETTLED_NOT:g} everywhere are left out."
    )
    table = HtmlTable(names, (False,) * len(names), lines, ROWS, note)
    return TableBlock(table, f"{problem}: which arms are on the front", derived=True, folded=True)
