"""What a comparison says, as columns and as text: which arm is better, or why it is inconclusive."""

from typing import Any

from results.arms.comparison import Pairing
from results.text.number_format import SCALES
from transtailor.plural import counted


def no_verdict(*pairings: Pairing) -> str:
    """Return why nothing can be said of these, whatever a test says: incomplete, not equally tuned; empty if it can."""
    if any(pairing.failed for pairing in pairings):
        return "incomplete"
    return "not equally tuned" if any(pairing.tuning_budgets_differ for pairing in pairings) else ""


def verdict_word(pairing: Pairing) -> str:
    """Return the verdict: better, worse, inconclusive, not equally tuned, or incomplete since trials failed."""
    reason = no_verdict(pairing)
    if reason:
        return reason
    if pairing.result.difference.mean is None or pairing.doubts:
        return "inconclusive"
    return "better" if pairing.result.difference.mean > 0 else "worse"


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
