"""What people see of several columns at once: an interval, an arm at its budget, a verdict with its doubts."""

from results.text.names import at_budget, problem_text
from results.text.number_format import NOTHING
from results.text.page import Shown, TableRecord
from results.text.scales import scaled


def interval(low: str, scale: str, heading: str = "95%") -> Shown:
    """Show an interval, "1.20 … 3.40"; a dash without one.

    Args:
        low: column of its lower end; that of the upper one ends with "high" instead of "low".
    """
    high = f"{low.removesuffix('low')}high"

    def text(record: TableRecord) -> str:
        if record[low] is None or record[high] is None:
            return NOTHING
        metric = record["metric"]
        return f"{scaled(record[low], scale, metric)} … {scaled(record[high], scale, metric)}"

    return Shown(low, heading, text)


def _arm_text(record: TableRecord) -> str:
    return at_budget(record["arm"], record["asked_removed_macs_fraction"])


def _won_lost_tied(record: TableRecord) -> str:
    return f"{record['wins']}–{record['losses']}–{record['ties']}"


def verdict_text(record: TableRecord) -> str:
    """Write the verdict of a comparison in a few words."""
    verdict: str | None = record["verdict"]
    if verdict is None:
        return NOTHING
    if verdict == "incomplete":
        return f"incomplete, {record['failed_trials']} failed or NaN"
    if record.get("has_collapse") and verdict != "no difference that matters":
        verdict += ", with a collapse"
    return verdict


def blank(name: str, before: str = "", *, is_text: bool | None = None) -> Shown:
    """Show a column with nothing where it is null, and with these words before its value."""

    def text(record: TableRecord) -> str:
        return "" if record[name] is None else f"{before}{record[name]}"

    return Shown(name, text=text, is_text=is_text)


def _problem_text(record: TableRecord) -> str:
    if record["network"] is None:
        return "pooled"
    return problem_text(record["network"], record["dataset"], record["train_images"])


PROBLEM = Shown("problem", "where", _problem_text, is_text=True)
ARM_AT_BUDGET = Shown("arm", text=_arm_text)
SCORE_INTERVAL = interval("score_low", "score")
DIFFERENCE_INTERVAL = interval("difference_low", "difference")
WON_LOST_TIED = Shown("won_lost_tied", "won–lost–tied", _won_lost_tied)
VERDICT = Shown("verdict", text=verdict_text)
FLAGS = Shown("flags", text=lambda record: ", ".join(record["flags"]), is_text=True)
