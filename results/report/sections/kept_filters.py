"""Which filters are kept: how far seeds and methods agree on them, with what chance would give taken out."""

from typing import Any

from results.arms.filter_agreement import OF_LABELS, OF_SEEDS, agreement_sql
from results.report.elements.blocks import Section, answer
from results.report.elements.findings import Findings
from results.report.elements.problems import problem_condition
from results.report.sections.by_layer import MOST_IN_MATRIX, budgets, layers_figure, pairs_figure


def section(found: Findings) -> Section:
    """For each problem one figure of labels against layers, and one of labels against labels where they are few."""
    made = Section(
        "kept",
        "Which filters are kept",
        "Cohen's kappa of two selections of filters: 1 where both keep the same, 0 where they agree as two draws of"
        " such sizes would by chance, below 0 where less. The stronger the colour, the more they agree. Compared are"
        " sub-models pruned from the same source weights, in layers that lost filters in both; other sources have"
        " other filters.",
        empty="No two sub-models are written yet whose filters can be compared.",
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
