"""What a comparison says, as columns and as text: which arm is better, or why it is inconclusive."""

from typing import Any

from results.arms.comparison import Pairing
from results.statistics.pairs import Paired, doubts
from results.text.number_format import SCALES
from transtailor.plural import counted

NO_VERDICT = ("incomplete", "not equally tuned")
"""Words of comparisons that are open whatever their pairs show."""


def no_verdict(pairing: Pairing) -> str:
    """Return why a page that does not count lost pairs says nothing of these: incomplete, not equally tuned; or empty.

    `compare` and `effects` count them: see `word_of`.
    """
    return _open(pairing.failed, are_equally_tuned=not pairing.tuning_budgets_differ)


def verdict_word(pairing: Pairing) -> str:
    """Return the verdict on two arms, as `word_of`."""
    return word_of(pairing.result, pairing.failed, are_equally_tuned=not pairing.tuning_budgets_differ)


def word_of(result: Paired, failed: int, *, are_equally_tuned: bool) -> str:
    """Return the verdict: better, worse, or why there is none: incomplete, not equally tuned, inconclusive.

    Args:
        failed: trials of both sides that failed or have no finite score; incomplete says that these leave it open.
    """
    mean = result.difference.mean
    if mean is not None and are_equally_tuned and not doubts(result):
        return "better" if mean > 0 else "worse"
    return _open(failed, are_equally_tuned=are_equally_tuned) or "inconclusive"


def _open(failed: int, *, are_equally_tuned: bool) -> str:
    if failed:
        return "incomplete"
    return "" if are_equally_tuned else "not equally tuned"


def comparison_record(pairing: Pairing) -> dict[str, Any]:
    """Return the columns of a comparison that are the same in every table; a pooled one has no problem."""
    result = pairing.result
    difference = result.difference
    problem: dict[str, Any] = dict.fromkeys(("network", "dataset", "train_images"))
    return {
        **(problem if pairing.problem is None else pairing.problem.record), "problems": pairing.problems,
        "metric": pairing.metric, "arm": pairing.arm, "asked_removed_macs_fraction": pairing.asked,
        "against": pairing.second,
        "pairs": difference.n, "difference": difference.mean,
        "difference_low": difference.low, "difference_high": difference.high,
        "wins": result.wins, "losses": result.losses, "ties": result.ties, "ahead_fraction": result.improvement,
        "p": result.p, "smallest_p": result.smallest_p,
        "verdict": verdict_word(pairing), "failed_trials": pairing.failed, "trained_longer": pairing.trained_longer,
    }  # fmt: skip


def verdict(pairing: Pairing) -> str:
    """Write the verdict in one or two sentences: which arm is better, or why it is inconclusive."""
    result = pairing.result
    first = pairing.first
    second = pairing.second
    mean = result.difference.mean
    if mean is None:
        return f"Inconclusive: no seed has both {first} and {second}."
    scale = SCALES[pairing.metric]
    pairs = counted(result.difference.n, "pair")
    amount = f"{scale.value(abs(mean))}{scale.difference_unit} on average"
    explains = ", which may explain part of it" if mean > 0 else ""
    longer = f" {first} trained for longer{explains}." if pairing.trained_longer else ""
    if pairing.doubts:
        side = "ahead of" if mean > 0 else "behind"
        lean = f"{first} is {side} {second} by {amount}" if mean else f"{first} and {second} are equal on average"
        return f"{lean} over {pairs}. Inconclusive: {'; '.join(pairing.doubts)}.{longer}"
    word = "better" if mean > 0 else "worse"
    return (
        f"{first} is {word} than {second}, by {amount} over {pairs} (p = {result.p:.3g}; the smallest they can reach is"
        f" {result.smallest_p:.3g}).{longer}"
    )
