"""Tables of the report that several sections have; the others are those of the answers."""

from collections.abc import Sequence

from results.arms.comparison import REPEATS_DIFFER, Pairing
from results.arms.verdict import comparison_record
from results.columns import answer_columns
from results.text.page import Shown, Table
from results.text.shown import DIFFERENCE_INTERVAL, PROBLEM, VERDICT, WON_LOST_TIED

PAIRINGS = (
    "arm", "asked_removed_macs_fraction", "against", "pairs", "difference", DIFFERENCE_INTERVAL, WON_LOST_TIED, "p",
    "smallest_p", VERDICT,
)  # fmt: skip


def pairings_table(pairings: Sequence[Pairing], sql: str, *, where: bool) -> Table:
    """Build the table of paired differences, one comparison per row; `where` adds a column for the problem."""
    records = list(map(comparison_record, pairings))
    shown: Sequence[str | Shown] = (PROBLEM, *PAIRINGS) if where else PAIRINGS
    columns = answer_columns("compare", "compare")
    return Table(columns=columns, records=records, shown=shown, marks=list(map(_marks, pairings)), sql=sql)


def _marks(pairing: Pairing) -> list[str]:
    """Say why to read a comparison with care."""
    result = pairing.result
    marks = []
    if pairing.tuning_budgets_differ:
        marks.append(pairing.doubts[0])
    if pairing.is_mixed:
        marks.append("computed on mixed hardware, ranks or torch versions")
    if pairing.repeats_differ:
        marks.append(REPEATS_DIFFER)
    if pairing.shares_models:
        models = f"{len(pairing.first_models)} and {len(pairing.second_models)}"
        marks.append(f"the {result.difference.n} pairs have only {models} distinct models: n is smaller than it looks")
    if result.unpaired:
        seeds = "1 seed has" if result.unpaired == 1 else f"{result.unpaired} seeds have"
        marks.append(f"{seeds} only one of the two arms: left out")
    return marks
