"""TransTailor's stop rule."""


def exceeds_tolerance(accuracy_before: float, accuracy_after: float, tolerance_fraction: float) -> bool:
    """Whether Acc(W_o) - Acc(W_p) > tau (Algorithm 1); False if an accuracy is NaN (not known in a plan).

    The difference is rounded to 1e-9, so that a drop of exactly the tolerance does not stop a path by rounding errors.

    >>> exceeds_tolerance(0.9, 0.897, 0.003), exceeds_tolerance(0.9, 0.89, 0.003)
    (False, True)
    """
    return round(accuracy_before - accuracy_after, 9) > tolerance_fraction
