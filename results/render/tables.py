"""Tables of the report that several sections have; the others are those of the answers."""

from collections.abc import Sequence

from results.arms.comparison import Pairing
from results.arms.flags import Facts, flag_lines, flags_of
from results.arms.verdict import comparison_record
from results.columns import answer_columns
from results.text.page import Shown, Table
from results.text.shown import DIFFERENCE_INTERVAL, FLAGS, PROBLEM, VERDICT, WON_LOST_TIED

PAIRINGS = (
    "arm", "asked_removed_macs_fraction", "against", "pairs", "difference", DIFFERENCE_INTERVAL, WON_LOST_TIED, "p",
    "smallest_p", VERDICT, FLAGS,
)  # fmt: skip


def pairings_table(pairings: Sequence[Pairing], facts: Facts, sql: str, *, where: bool) -> Table:
    """Build the table of paired differences, one comparison per row; `where` adds a column for the problem."""
    records = [{**comparison_record(each), "flags": flags_of(each.pairs, facts)} for each in pairings]
    shown: Sequence[str | Shown] = (PROBLEM, *PAIRINGS) if where else PAIRINGS
    columns = answer_columns("compare", "compare")
    return Table(columns=columns, records=records, shown=shown, note=" ".join(flag_lines(records)), sql=sql)
