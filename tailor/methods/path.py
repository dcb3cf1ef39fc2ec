"""The path of a method that prunes in steps: how long it can be, and TransTailor's rule that stops it."""


def check_path(steps: int, step_removed_macs_fraction: float) -> None:
    """Raise ValueError for a path whose steps together remove the whole network.

    >>> check_path(steps=10, step_removed_macs_fraction=0.1)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: steps x step_removed_macs_fraction = 1 removes the whole network; ...
    """
    if steps * step_removed_macs_fraction >= 1.0:
        raise ValueError(
            f"steps x step_removed_macs_fraction = {steps * step_removed_macs_fraction:g} removes the whole network; "
            "choose fewer steps or a smaller step, so that the product stays below 1"
        )


def exceeds_tolerance(accuracy_before: float, accuracy_after: float, tolerance_fraction: float) -> bool:
    """Whether Acc(W_o) - Acc(W_p) > tau (Algorithm 1); False if an accuracy is NaN (not known in a plan).

    The difference is rounded to 1e-9, so that a drop of exactly the tolerance does not stop a path by rounding errors.

    >>> exceeds_tolerance(0.9, 0.897, 0.003), exceeds_tolerance(0.9, 0.89, 0.003)
    (False, True)
    """
    return round(accuracy_before - accuracy_after, 9) > tolerance_fraction
