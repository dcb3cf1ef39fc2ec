"""What pruning left of each layer, as shaded cells: arms against layers, and arms against arms."""

import json
from collections.abc import Callable, Iterator
from typing import NamedTuple

from results.arms.comparison import TRANSTAILOR
from results.arms.filter_agreement import OF_ARMS, OF_SEEDS, agreement_sql
from results.arms.findings import Findings, problem_condition
from results.arms.problem import Problem
from results.render.blocks import Figure, Section
from results.render.chart import Chart, Spec
from results.render.style import (
    WIDTH,
    arm_channels,
    names_width,
    order_arms,
    row_axis,
    shading,
    tooltip,
    whole_axis,
)
from results.store.query_table import query_table
from results.store.views import literal
from results.text.page import Table

WIDTHS = """
WITH chosen AS (
    SELECT trial_id, point, arm, seed FROM compared_points
    WHERE is_compared AND {problem}
        AND (abs(asked_removed_macs_fraction - {asked}) < 1e-6 OR asked_removed_macs_fraction IS NULL)
    QUALIFY row_number() OVER (PARTITION BY trial_id ORDER BY point DESC) = 1
)
SELECT arm, layer, min("order") AS "order", max(original_width) AS original_width, count(DISTINCT seed) AS seeds,
    avg(width) AS mean_width, min(width) AS least_width, max(width) AS most_width,
    avg(width / original_width) AS kept_fraction,
    coalesce(stddev_samp(width / original_width), 0) AS spread_of_kept_fraction
FROM layers JOIN chosen USING (trial_id, point)
GROUP BY arm, layer
ORDER BY arm, "order", layer
"""
AGREEMENT = """
WITH widths AS ({widths})
SELECT one.arm, other.arm AS other_arm, count(*) AS layers,
    1 - avg(abs(one.kept_fraction - other.kept_fraction)) AS agreement
FROM widths AS one JOIN widths AS other USING (layer)
GROUP BY ALL ORDER BY ALL
"""

OVER_DATA = """
WITH chosen AS (
    SELECT trial_id, point, seed, dataset || CASE
        WHEN min(train_images) OVER of_set < max(train_images) OVER of_set
            THEN ' (' || train_images || ' training images)' ELSE '' END AS dataset
    FROM compared_points
    WHERE is_compared AND network = {network} AND arm = {arm}
        AND (abs(asked_removed_macs_fraction - {asked}) < 1e-6 OR asked_removed_macs_fraction IS NULL)
    WINDOW of_set AS (PARTITION BY dataset)
    QUALIFY row_number() OVER (PARTITION BY trial_id ORDER BY point DESC) = 1
), kept AS (
    SELECT dataset, seed, layer, min("order") AS "order", avg(width / original_width) AS kept_fraction
    FROM layers JOIN chosen USING (trial_id, point) GROUP BY dataset, seed, layer
)
"""
"""How much of each layer an arm keeps on each data set; for TransTailor's Figure 4."""
OF_DATA = """
SELECT dataset, layer, min("order") AS "order", count(*) AS seeds, avg(kept_fraction) AS kept_fraction
FROM kept GROUP BY dataset, layer ORDER BY dataset, "order", layer
"""
BETWEEN_DATA = """
SELECT one.dataset, other.dataset AS other_dataset, count(DISTINCT (one.seed, other.seed)) AS pairs,
    1 - avg(abs(one.kept_fraction - other.kept_fraction)) AS agreement
FROM kept AS one JOIN kept AS other USING (layer)
WHERE one.dataset < other.dataset OR one.dataset = other.dataset AND one.seed < other.seed
GROUP BY ALL ORDER BY ALL
"""
"""Two data sets: any two seeds. One data set: two seeds, which shows how far chance alone moves the widths."""


class Shading(NamedTuple):
    """Expressions on a row: how dark its cell is, from 0 to 1, and the text inside it."""

    shade: str
    text: str


Figures = Callable[[Findings, Problem, float, str], dict[str, Chart]]
"""From a problem, a budget and its text to figures by name: `widths` and `kept_filters`."""
_NEAR_BUDGET = 0.2
"""Of several budgets that fit equally, the one closest to this is chosen."""
_MOST_ROWS = 40
_MOST_IN_MATRIX = 24
_MOST_STEP = 90  # pixels of a cell
_LEAST_STEP_WITH_TEXT = 26  # pixels of a cell


def budgets(findings: Findings) -> Iterator[tuple[int, Problem, float, str]]:
    """Yield each problem with pruned sub-models: its number, itself, the budget to compare at, and this as text."""
    for number, problem in enumerate(findings.problems):
        asked = _budget_of(findings, problem)
        if asked is not None:
            yield number, problem, asked, f"at {100 * asked:g}% fewer MACs, or where a rule decided"


def _budget_of(findings: Findings, problem: Problem) -> float | None:
    """Choose the budget at which most arms can be compared; of several, the one closest to a fifth."""
    arms_at: dict[float, set[str]] = {}
    for point in findings.points:
        if point.problem == problem and point.asked:
            arms_at.setdefault(point.asked, set()).add(point.arm)
    return min(arms_at, key=lambda asked: (-len(arms_at[asked]), abs(asked - _NEAR_BUDGET)), default=None)


def compared_filters(findings: Findings) -> str:
    """Return the SQL condition on the rows of `kept_filters` that `kept_filters` can read."""
    budgets_asked = {asked for _, _, asked, _ in budgets(findings)}
    conditions = [f"abs(asked_removed_macs_fraction - {asked!r}) < 1e-6" for asked in budgets_asked]
    condition = " OR ".join(["asked_removed_macs_fraction IS NULL", *sorted(conditions)])
    compared = f"FROM operating_points WHERE {condition}"
    # Numbers in the condition leave out rows before the last one of each key is looked for; a subquery does not.
    numbers = [str(row["point"]) for row in findings.run.rows(f"SELECT DISTINCT point {compared} ORDER BY point")]
    return f"point IN ({', '.join(numbers) or 'NULL'}) AND (trial_id, point) IN (SELECT (trial_id, point) {compared})"


def widths(findings: Findings, problem: Problem, asked: float, at: str) -> dict[str, Chart]:
    """Draw the filters left in each layer, and how far two arms agree on that; both are left out where no rows are.

    Args:
        problem, asked, at: from `budgets`.
    """
    charts: dict[str, Chart] = {}
    data = query_table(findings.run, WIDTHS.format(problem=problem_condition(problem), asked=repr(asked)))
    if data.records:
        title = f"{problem}: filters left in each layer (%) {at}"
        text = "format(100 * datum.kept_fraction, '.0f')"
        charts["widths"] = _by_layer(title, data, Shading("1 - datum.kept_fraction", text))
        charts["facing"] = _facing(findings, f"{problem}: filters of each layer, two arms face to face", data)
    arms = set(data.column("arm"))
    if 1 < len(arms) <= _MOST_IN_MATRIX:
        pairs = query_table(findings.run, AGREEMENT.format(widths=data.sql))
        title = f"{problem}: agreement of two arms on the widths (100 less the mean difference in points)"
        text = "format(100 * datum.agreement, '.0f')"
        charts["agreement"] = _by_pair(title, pairs, Shading("1 - datum.agreement", text))
    return charts


def over_data(findings: Findings, network: str) -> dict[str, Chart]:
    """Draw one arm's sub-models of a network over data sets, as TransTailor's Figure 4: widths, and how far they agree.

    The arm and the budget are those with most data sets; of several, TransTailor's and the one closest to a fifth.

    Returns:
        Charts "over-data" and "data-agreement"; none if no arm has pruned the network on two data sets.
    """
    datasets_of: dict[tuple[str, str, float], set[str]] = {}  # method, arm and budget -> data sets
    for point in findings.points:
        if point.problem.network == network and point.asked:
            datasets_of.setdefault((point.method, point.arm, point.asked), set()).add(point.problem.dataset)
    on_several = [key for key, datasets in datasets_of.items() if len(datasets) > 1]
    if not on_several:
        return {}

    def preference(key: tuple[str, str, float]) -> tuple[int, bool, float, str, float]:
        method, arm, asked = key
        return -len(datasets_of[key]), method != TRANSTAILOR, abs(asked - _NEAR_BUDGET), arm, asked

    _, arm, asked = min(on_several, key=preference)
    kept = OVER_DATA.format(network=literal(network), arm=literal(arm), asked=repr(asked))
    widths_of_data = query_table(findings.run, kept + OF_DATA)
    pairs = query_table(findings.run, kept + BETWEEN_DATA)
    at = f"{network}, {arm}, at {100 * asked:g}% fewer MACs"
    charts = {}
    if widths_of_data.records:
        title = f"{at}: filters left in each layer (%) on each data set"
        text = "format(100 * datum.kept_fraction, '.0f')"
        charts["over-data"] = _by_layer(title, widths_of_data, Shading("1 - datum.kept_fraction", text), of="dataset")
    if pairs.records:  # none, for example, where one data set has widths, of one seed
        title = f"{at}: agreement of two data sets, and of two seeds of one (100 less the mean difference in points)"
        text = "format(100 * datum.agreement, '.0f')"
        charts["data-agreement"] = _by_pair(title, pairs, Shading("1 - datum.agreement", text), of="dataset")
    return charts


def kept_filters(findings: Findings, problem: Problem, asked: float, at: str) -> dict[str, Chart]:
    """Draw how far seeds keep the same filters, layer by layer, and how far two arms do. As `widths` otherwise."""
    charts: dict[str, Chart] = {}
    text = "format(datum.kappa, '.2f')"
    where = problem_condition(problem)
    data = query_table(findings.run, agreement_sql(findings.run, OF_SEEDS, where=where, asked=asked))
    if data.records:
        title = f"{problem}: how far the seeds of an arm keep the same filters (kappa) {at}"
        charts["kept"] = _by_layer(title, data, Shading("datum.kappa", text))
    arms = {point.arm for point in findings.points if point.problem == problem and point.removed > 0}
    if len(arms) <= _MOST_IN_MATRIX:
        data = query_table(findings.run, agreement_sql(findings.run, OF_ARMS, where=where, asked=asked))
        if data.records:
            title = f"{problem}: how far two arms keep the same filters with one seed, and an arm with two seeds"
            charts["same-filters"] = _by_pair(f"{title} (kappa) {at}", data, Shading("datum.kappa", text))
    return charts


def _facing(findings: Findings, title: str, data: Table) -> Chart:
    """Draw bars of two arms for each layer, inside the outline of the original; `isolated` chooses other arms."""
    pruned = set(data.column("arm"))
    arms = [arm for arm in order_arms(findings.methods) if arm in pruned]
    two = f"(length(isolated) > 1 ? isolated : {json.dumps(arms[:2])})"
    layers = _ordered_layers(data)
    y = {"field": "layer", "type": "nominal", "sort": layers, "axis": row_axis()}
    colour = arm_channels(findings.methods, arms, with_shape=False)["color"]
    colour["legend"]["values"] = {"expr": two}
    filters = whole_axis([0, *data.column("original_width")])
    tip = tooltip(arm="arm", layer="layer", mean_width="mean filters|.1f", original_width="of", seeds="seeds")
    spec: Spec = {
        "params": [{"name": "isolated", "value": []}],
        "data": {"name": "rows"},
        "transform": [{"filter": f"indexof({two}, datum.arm) >= 0"}],
        "width": WIDTH - names_width(layers),
        "height": {"step": 9, "for": "offset"},
        "usermeta": {"left": names_width(layers)},
        "encoding": {"y": y, "yOffset": {"field": "arm"}, "color": colour, "tooltip": tip},
        "layer": [
            {"mark": {"type": "bar", "filled": False, "strokeWidth": 1},
             "encoding": {"x": {"field": "original_width", "type": "quantitative", "title": "filters", "stack": None,
                                "axis": filters}}},
            {"mark": "bar", "encoding": {"x": {"field": "mean_width", "type": "quantitative", "stack": None}}},
        ],
    }  # fmt: skip
    return Chart(title, spec, data)


def _ordered_layers(data: Table) -> list[str]:
    """Return the names of the layers, from the input of the network to its output.

    Args:
        data: with the columns `layer` and `order`, the layer's place.
    """
    layers: list[str] = []
    for _, layer in sorted(set(zip(data.column("order"), data.column("layer"), strict=True))):
        if layer not in layers:
            layers.append(layer)
    return layers


def _by_layer(title: str, data: Table, cell: Shading, of: str = "arm") -> Chart:
    """Draw arms, or the values of another column, against layers.

    Args:
        data: with that column, `layer` and `order`, the layer's place.
    """
    names = sorted(set(data.column(of)))
    shown = names[:_MOST_ROWS]
    hidden = len(names) - len(shown)
    note = f"{hidden} more {of}s are in the table." if hidden else ""
    return _heat(title, data, [(of, "layer")], shown, _ordered_layers(data), cell, note)


def _by_pair(title: str, data: Table, cell: Shading, of: str = "arm") -> Chart:
    """Draw arms against arms; a row with `arm` and `other_arm` is for both orders. As `_by_layer` otherwise."""
    other = f"other_{of}"
    names = sorted({*data.column(of), *data.column(other)})
    pairs = set(zip(data.column(of), data.column(other), strict=True))
    orders = [(of, other)]
    has_both_orders = all((second, first) in pairs for first, second in pairs)
    if not has_both_orders:
        orders.append((other, of))
    return _heat(title, data, orders, names, names, cell, "")


def _heat(
    title: str,
    data: Table,
    orders: list[tuple[str, str]],
    rows: list[str],
    columns: list[str],
    cell: Shading,
    note: str,
) -> Chart:
    """Draw shaded cells.

    Args:
        orders: the columns of `data` that are drawn upwards and across; with two orders, each row is two cells.
        rows, columns: the names beside and above the cells.
    """
    left = names_width(rows)
    step = min((WIDTH - left) / max(len(columns), 1), _MOST_STEP)
    titles = {}
    for name in data.records[0]:
        titles[name] = name.replace("_", " ")
        if isinstance(data.column(name)[0], float):
            titles[name] += "|.4~g"
    tip = tooltip(**titles)
    fill, ink = shading("shade")
    layers: list[Spec] = []
    for up, across in orders:
        where = {
            "y": {"field": up, "type": "nominal", "scale": {"domain": rows}, "axis": row_axis()},
            "x": {"field": across, "type": "nominal", "scale": {"domain": columns},
                  "axis": {"title": None, "orient": "top", "ticks": False, "domain": False, "labelLimit": 150}},
        }  # fmt: skip
        layers.append(
            {"mark": {"type": "rect", "stroke": "white"}, "encoding": {**where, "color": fill, "tooltip": tip}}
        )
        if step >= _LEAST_STEP_WITH_TEXT:
            words = {"text": {"field": "text", "type": "nominal"}, "color": ink}
            layers.append({"mark": {"type": "text", "fontSize": 11}, "encoding": {**where, **words}})
    spec: Spec = {
        "data": {"name": "rows"},
        "transform": [
            {"filter": {"field": orders[0][0], "oneOf": rows}},
            {"calculate": cell.shade, "as": "shade"},
            {"calculate": cell.text, "as": "text"},
        ],
        "width": {"step": step},
        "height": {"step": 24},
        "layer": layers,
    }
    return Chart(title, spec, data, note=note)


def widths_section(findings: Findings) -> Section:
    """Draw the widths for each problem, the agreement of arms if there are several, and one arm over data sets."""
    section_widths = Section(
        "widths",
        "What is left of each layer",
        "Filters that are left in each layer, in per cent of the original ones: the mean over seeds. The stronger"
        " the colour, the more are removed. Point at a cell to see how far the seeds agree. Below, two arms face to"
        " face: choose them in the table of arms, the second one with Shift.",
        empty="No layers of pruned networks yet.",
        short="Layers",
    )
    section_widths.blocks += _figures_of_problems(findings, widths)
    networks: list[str] = []
    for problem in findings.problems:
        if problem.network not in networks:
            networks.append(problem.network)
    for number, network in enumerate(networks):
        charts = over_data(findings, network)
        section_widths.blocks += [Figure(f"{name}{number}", chart) for name, chart in charts.items()]
    return section_widths


def kept_filters_section(findings: Findings) -> Section:
    """Draw for each problem arms against layers, and arms against arms if they are few."""
    section_kept = Section(
        "kept",
        "Which filters are kept",
        "Cohen's kappa of two selections of filters: 1 if both keep the same filters, 0 if they agree as much as"
        " random selections of these sizes, below 0 if less. The stronger the colour, the more they agree. Only"
        " sub-models pruned from the same source weights are compared, in layers that lost filters in both.",
        empty="No two sub-models yet whose filters can be compared.",
        short="Filters",
    )
    section_kept.blocks += _figures_of_problems(findings, kept_filters)
    return section_kept


def _figures_of_problems(findings: Findings, figures: Figures) -> list[Figure]:
    """Draw these figures of each problem; their names end with its number."""
    drawn = []
    for number, problem, asked, at in budgets(findings):
        charts = figures(findings, problem, asked, at)
        drawn += [Figure(f"{name}{number}", chart) for name, chart in charts.items()]
    return drawn
