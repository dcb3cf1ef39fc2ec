"""Which layers lost filters: the widths of the sub-models, and how far seeds and methods agree on them."""

from typing import Any

from results.report.elements.blocks import Section, answer
from results.report.elements.findings import Findings
from results.report.elements.problems import problem_condition
from results.report.sections.by_layer import MOST_IN_MATRIX, budgets, layers_figure, pairs_figure

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
        data = answer(found.run, WIDTHS.format(problem=problem_condition(problem), asked=repr(asked)))
        if not data.rows:
            continue
        title = f"{problem}: filters left in each layer (%) {at}"
        made.blocks.append(layers_figure(f"widths{place}", title, data, _gone))
        if 1 < len({row[0] for row in data.rows}) <= MOST_IN_MATRIX:
            pairs = answer(found.run, AGREEMENT.format(widths=data.sql))
            title = f"{problem}: agreement of two labels on the widths (100 less the mean difference in points)"
            made.blocks.append(pairs_figure(f"agreement{place}", title, pairs, _differing))
    return made


def _gone(record: dict[str, Any]) -> tuple[float, str]:
    return 1 - record["kept_fraction"], f"{100 * record['kept_fraction']:.0f}"


def _differing(record: dict[str, Any]) -> tuple[float, str]:
    return 1 - record["agreement"], f"{100 * record['agreement']:.0f}"
