"""Which filters are kept: how far seeds and methods agree on them, with what chance would give taken out."""

from results.figures.heat import heat
from results.kept import OF_LABELS, OF_SEEDS, agreement_sql
from results.report.blocks import Answer, Figure, Section, answer
from results.report.findings import Findings
from results.report.problems import of_problem
from results.report.widths import MOST_IN_MATRIX, MOST_LABELS, budget_of


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
    for place, problem in enumerate(found.problems):
        asked = budget_of(found, problem)
        if asked is None:
            continue
        where = of_problem(problem)
        data = answer(found.run, agreement_sql(found.run, OF_SEEDS, where=where, asked=asked))
        at = f"{100 * asked:g}% fewer MACs, or as many as a rule decided"
        if data.rows:
            title = f"{problem}: how far the seeds of a label keep the same filters (kappa) at {at}"
            made.blocks.append(_of_seeds(f"kept{place}", title, data))
        labels = {point.label for point in found.points if point.problem == problem and point.removed > 0}
        if len(labels) <= MOST_IN_MATRIX:
            data = answer(found.run, agreement_sql(found.run, OF_LABELS, where=where, asked=asked))
            if data.rows:
                title = f"{problem}: how far two labels keep the same filters with one seed, and a label with two seeds"
                made.blocks.append(_of_labels(f"same-filters{place}", f"{title} (kappa) at {at}", data))
    return made


def _of_seeds(name: str, title: str, data: Answer) -> Figure:
    records = data.records()
    labels = sorted({record["label"] for record in records})
    layers = list(dict.fromkeys(layer for _, layer in sorted({(one["order"], one["layer"]) for one in records})))
    cells = {
        (labels.index(record["label"]), layers.index(record["layer"])):
            (record["kappa"], f"{record['kappa']:.2f}", row)
        for row, record in enumerate(records) if labels.index(record["label"]) < MOST_LABELS
    }  # fmt: skip
    left = len(labels) - len(labels[:MOST_LABELS])
    note = f"{left} more labels are in the table." if left else ""
    drawing = heat(title, labels[:MOST_LABELS], layers, cells)
    return Figure(name, title, drawing, data, titled_by=("label", "layer"), note=note)


def _of_labels(name: str, title: str, data: Answer) -> Figure:
    records = data.records()
    labels = sorted({record[side] for record in records for side in ("label", "other_label")})
    cells = {}
    for row, record in enumerate(records):
        one, other = labels.index(record["label"]), labels.index(record["other_label"])
        cells[one, other] = cells[other, one] = record["kappa"], f"{record['kappa']:.2f}", row
    return Figure(name, title, heat(title, labels, labels, cells), data, titled_by=("label", "other_label"))
