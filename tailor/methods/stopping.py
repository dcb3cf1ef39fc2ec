"""TransTailor's stop rule."""


def falls_too_far(accuracy_before: float, accuracy_after: float, tolerance_fraction: float) -> bool:
    """Whether Acc(W_o) - Acc(W_p) > tau (Algorithm 1); False where an accuracy is NaN (not known while planning).

    The difference is rounded to 1e-9, so that a fall of exactly the tolerance goes on whatever the binary fractions.
    """
    return round(accuracy_before - accuracy_after, 9) > tolerance_fraction
