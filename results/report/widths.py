"""Which layers the filters went from: the widths of the sub-models, and how far seeds and methods agree on them."""

from collections import Counter

from results.comparison import Problem
from results.figures.heat import heat
from results.report.blocks import Answer, Figure, Section, answer
from results.report.findings import Findings
from results.report.problems import of_problem

WIDTHS = """
WITH chosen AS (
    SELECT trial_id, point, label, seed FROM operating_points
    WHERE {problem} AND (abs(asked_removed_macs_fraction - {asked}) < 1e-6 OR asked_removed_macs_fraction IS NULL)
    QUALIFY row_number() OVER (PARTITION BY trial_id ORDER BY point DESC) = 1
)
SELECT label, layer, min("order") AS "order", max(original_width) AS original_width, count(DISTINCT seed) AS seeds,
    avg(width) AS mean_width, min(width) AS least_width, max(width) AS most_width,
    avg(width / original_width) AS kept_fraction,
    coalesce(stddev_samp(width / original_width), 0) AS spread_of_kept_fraction
FROM layers JOIN chosen USING (trial_id, point)
GROUP BY label, layer
ORDER BY label, "order", layer
"""
AGREEMENT = """
WITH widths AS ({widths})
SELECT one.label, other.label AS other_label, count(*) AS layers,
    1 - avg(abs(one.kept_fraction - other.kept_fraction)) AS agreement
FROM widths AS one JOIN widths AS other USING (layer)
GROUP BY ALL ORDER BY ALL
"""
MOST_LABELS = 40
MOST_IN_MATRIX = 24


def section(found: Findings) -> Section:
    """One figure of widths for each problem, and one of the agreement of labels where there are several."""
    made = Section(
        "widths",
        "What is left of each layer",
        "Filters that are left in each layer, in per cent of the original ones: the mean over seeds. The stronger"
        " the colour, the more are gone. Pointing at a cell shows how far the seeds agree. The tables hold"
        " widths; which filters they are stands below.",
        empty="No layers of pruned networks are written yet.",
        short="Layers",
    )
    for place, problem in enumerate(found.problems):
        asked = budget_of(found, problem)
        if asked is None:
            continue
        data = answer(found.run, WIDTHS.format(problem=of_problem(problem), asked=repr(asked)))
        if not data.rows:
            continue
        at = f"{100 * asked:g}% fewer MACs, or as many as a rule decided"
        made.blocks.append(_widths(f"widths{place}", f"{problem}: filters left in each layer (%) at {at}", data))
        matrix = answer(found.run, AGREEMENT.format(widths=data.sql))
        if 1 < len({row[0] for row in data.rows}) <= MOST_IN_MATRIX:
            title = f"{problem}: agreement of two labels on the widths (100 less the mean difference in points)"
            made.blocks.append(_agreement(f"agreement{place}", title, matrix))
    return made


def budget_of(found: Findings, problem: Problem) -> float | None:
    """The budget at which most labels can be compared; of several, the one closest to a fifth."""
    labels = {(point.asked, point.label) for point in found.points if point.problem == problem and point.asked}
    counts = Counter(asked for asked, _ in labels if asked is not None)
    return min(counts, key=lambda asked: (-counts[asked], abs(asked - 0.2)), default=None)


def _widths(name: str, title: str, data: Answer) -> Figure:
    records = data.records()
    labels = sorted({record["label"] for record in records})
    layers = [layer for _, layer in sorted({(record["order"], record["layer"]) for record in records})]
    layers = list(dict.fromkeys(layers))
    cells = {
        (labels.index(record["label"]), layers.index(record["layer"])):
            (1 - record["kept_fraction"], f"{100 * record['kept_fraction']:.0f}", row)
        for row, record in enumerate(records) if labels.index(record["label"]) < MOST_LABELS
    }  # fmt: skip
    left = len(labels) - len(labels[:MOST_LABELS])
    note = f"{left} more labels are in the table." if left else ""
    return Figure(
        name, title, heat(title, labels[:MOST_LABELS], layers, cells), data, titled_by=("label", "layer"), note=note
    )


def _agreement(name: str, title: str, data: Answer) -> Figure:
    records = data.records()
    labels = sorted({record["label"] for record in records})
    cells = {
        (labels.index(record["label"]), labels.index(record["other_label"])):
            (1 - record["agreement"], f"{100 * record['agreement']:.0f}", row)
        for row, record in enumerate(records)
    }  # fmt: skip
    return Figure(name, title, heat(title, labels, labels, cells), data, titled_by=("label", "other_label"))
