"""The check that methods share which prune in steps."""


def check_path(steps: int, step_macs_fraction: float) -> None:
    """Raise ValueError for a path whose steps together remove the whole network.

    >>> check_path(steps=10, step_macs_fraction=0.1)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: steps x step_macs_fraction = 1 removes the whole network; ...
    """
    if steps * step_macs_fraction >= 1.0:
        raise ValueError(
            f"steps x step_macs_fraction = {steps * step_macs_fraction:g} removes the whole network; "
            "choose fewer steps or a smaller step, so that the product stays below 1"
        )
