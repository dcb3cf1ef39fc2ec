"""The verdict of a comparison as text: which arm is better, or why it is inconclusive."""

from results.arms.comparison import Pairing
from results.text.number_format import SCALES
from transtailor.plural import counted


def verdict_word(pairing: Pairing) -> str:
    """Write the verdict in a few words: better, worse, inconclusive, not equally tuned, or how many failed."""
    if pairing.failed:
        return f"incomplete, {pairing.failed} failed"
    if pairing.tuning_budgets_differ:
        return "not equally tuned"
    if pairing.result.difference.mean is None or pairing.doubts:
        return "inconclusive"
    return "better" if pairing.result.difference.mean > 0 else "worse"


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
    if pairing.doubts:
        side = "ahead" if mean > 0 else "behind"
        lean = f"{first} is {side} by {amount}" if mean else "the two are equal on average"
        return f"Inconclusive: {'; '.join(pairing.doubts)}. So far {lean} over {pairs}."
    return (
        f"{first if mean > 0 else second} is better, by {amount} over {pairs} (p = {result.p:.3g}; the smallest they"
        f" can reach is {result.smallest_p:.3g})."
    )
