"""Numbers printed in papers, to show in addition to measured ones; they are never averaged or tested."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from results.store.reader import Run
from results.text.names import at_budget

PRINTED = """
SELECT paper, place, label, method, network, dataset, asked_removed_macs_fraction, metric, value, note
FROM printed WHERE value IS NOT NULL ORDER BY ALL
"""


@dataclass(frozen=True)
class PrintedPoint:
    """One number as a paper prints it; `asked_removed_macs_fraction` is None where it gives none."""

    paper: str
    place: str
    label: str
    method: str
    network: str
    dataset: str
    asked_removed_macs_fraction: float | None
    metric: str
    value: float
    note: str | None

    @property
    def name(self) -> str:
        """The name of its row in a table."""
        return f"{at_budget(self.label, self.asked_removed_macs_fraction)}, as printed in {self.paper}, {self.place}"


def printed_numbers(run: Run) -> list[PrintedPoint]:
    """Return all printed numbers of a run."""
    return [PrintedPoint(**row) for row in run.rows(PRINTED)]


def numbers_at_budget(numbers: Iterable[PrintedPoint], asked: float | None) -> list[PrintedPoint]:
    """Return the numbers at a budget and those without one; all for None."""
    if asked is None:
        return list(numbers)
    chosen = []
    for number in numbers:
        own = number.asked_removed_macs_fraction
        if not own or math.isclose(own, asked, abs_tol=1e-6):
            chosen.append(number)
    return chosen


def belongs_to(number: PrintedPoint, network: str, dataset: str, metric: str) -> bool:
    """Whether the number is of that network, data set and metric."""
    return (number.network, number.dataset, number.metric) == (network, dataset, metric)


def rows_by_name(numbers: Sequence[PrintedPoint]) -> dict[str, list[PrintedPoint]]:
    """Group the numbers by the name of their row in a table."""
    rows: dict[str, list[PrintedPoint]] = {}
    for number in numbers:
        rows.setdefault(number.name, []).append(number)
    return rows
