"""Figures of labels against layers, and of labels against labels, at one budget for each problem."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from results.arms.comparison import Problem
from results.figures.heat import heat
from results.report.elements.blocks import Answer, Figure
from results.report.elements.findings import Findings

MOST_LABELS = 40
MOST_IN_MATRIX = 24

Cell = Callable[[dict[str, Any]], tuple[float, str]]
"""Gives how dark the cell of a record is, in [0, 1], and the text inside it."""


def budgets(found: Findings) -> Iterator[tuple[int, Problem, float, str]]:
    """Yield each problem with pruned sub-models: its place, itself, the budget to compare at, and this as text."""
    for place, problem in enumerate(found.problems):
        asked = _budget_of(found, problem)
        if asked is not None:
            yield place, problem, asked, f"at {100 * asked:g}% fewer MACs, or where a rule decided"


def _budget_of(found: Findings, problem: Problem) -> float | None:
    """Choose the budget at which most labels can be compared; of several, the one closest to a fifth."""
    labels = {(point.asked, point.label) for point in found.points if point.problem == problem and point.asked}
    counts = Counter(asked for asked, _ in labels if asked is not None)
    return min(counts, key=lambda asked: (-counts[asked], abs(asked - 0.2)), default=None)


def layers_figure(name: str, title: str, data: Answer, cell: Cell) -> Figure:
    """Draw labels against layers; each record has `label`, `layer` and `order`, the layer's place."""
    records = data.records()
    labels = sorted({record["label"] for record in records})
    shown = labels[:MOST_LABELS]
    layers = list(dict.fromkeys(layer for _, layer in sorted({(one["order"], one["layer"]) for one in records})))
    cells = {
        (shown.index(record["label"]), layers.index(record["layer"])): (*cell(record), row)
        for row, record in enumerate(records)
        if record["label"] in shown
    }
    note = f"{len(labels) - len(shown)} more labels are in the table." if len(labels) > len(shown) else ""
    return Figure(name, title, heat(title, shown, layers, cells), data, titled_by=("label", "layer"), note=note)


def pairs_figure(name: str, title: str, data: Answer, cell: Cell) -> Figure:
    """Draw labels against labels; each record has `label` and `other_label` and stands for both orders."""
    records = data.records()
    labels = sorted({record[side] for record in records for side in ("label", "other_label")})
    cells = {}
    for row, record in enumerate(records):
        one, other = labels.index(record["label"]), labels.index(record["other_label"])
        cells[one, other] = shaded = (*cell(record), row)
        cells.setdefault((other, one), shaded)
    drawing = heat(title, labels, labels, dict(sorted(cells.items())))
    return Figure(name, title, drawing, data, titled_by=("label", "other_label"))
