"""Which filters are kept: how far seeds and methods agree on them, corrected for chance."""

from typing import Any

from results.arms.filter_agreement import OF_LABELS, OF_SEEDS, agreement_sql
from results.report.elements.blocks import Section, answer
from results.report.elements.findings import Findings
from results.report.elements.problems import problem_condition
from results.report.sections.by_layer import MOST_IN_MATRIX, budgets, layers_figure, pairs_figure


def section(found: Findings) -> Section:
    """Draw for each problem labels against layers, and labels against labels if they are few."""
    made = Section(
        "kept",
        "Which filters are kept",
        "Cohen's kappa of two selections of filters: 1 if both keep the same filters, 0 if they agree as much as"
        " random selections of these sizes, below 0 if less. The stronger the colour, the more they agree. Only"
        " sub-models pruned from the same source weights are compared, in layers that lost filters in both.",
        empty="No two sub-models yet whose filters can be compared.",
        short="Kept filters",
    )
    for place, problem, asked, at in budgets(found):
        where = problem_condition(problem)
        data = answer(found.run, agreement_sql(found.run, OF_SEEDS, where=where, asked=asked))
        if data.rows:
            title = f"{problem}: how far the seeds of a label keep the same filters (kappa) {at}"
            made.blocks.append(layers_figure(f"kept{place}", title, data, _agreeing))
        labels = {point.label for point in found.points if point.problem == problem and point.removed > 0}
        if len(labels) <= MOST_IN_MATRIX:
            data = answer(found.run, agreement_sql(found.run, OF_LABELS, where=where, asked=asked))
            if data.rows:
                title = f"{problem}: how far two labels keep the same filters with one seed, and a label with two seeds"
                made.blocks.append(pairs_figure(f"same-filters{place}", f"{title} (kappa) {at}", data, _agreeing))
    return made


def _agreeing(record: dict[str, Any]) -> tuple[float, str]:
    return record["kappa"], f"{record['kappa']:z.2f}"
