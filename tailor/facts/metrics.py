"""The scores of a model: which there are, which of them can decide, and for which tasks. Without torch."""

from typing import Literal

Metric = Literal["accuracy", "balanced_accuracy", "macro_f1", "top_5", "r_squared"]
"""What can decide in a trial: each is the larger the better."""

LOWER_IS_BETTER = ("log_loss", "calibration_error")
"""Scores that decide nothing: they are columns beside the others."""

RANKS_COUNTED = 5  # of top_5: a model is right if the true class is among so many


def default_metric(classes: int) -> Metric:
    """Return what decides unless a trial says otherwise; `classes` is 1 for real values."""
    return "accuracy" if classes > 1 else "r_squared"


def unfit(metric: Metric, classes: int) -> str | None:
    """Return why a metric does not fit a task with so many classes (1: real values), and what to type; None: it fits.

    >>> unfit("top_5", 5)
    'top_5 is always 1 of 5 classes; type accuracy or balanced_accuracy'
    """
    if classes == 1 and metric != "r_squared":
        return f"{metric} needs a target with classes, and this one has real values; leave metric out, for r_squared"
    if classes > 1 and metric == "r_squared":
        return "r_squared needs a target with real values, and this one has classes; leave metric out, for accuracy"
    if metric == "top_5" and classes <= RANKS_COUNTED:
        return f"top_5 is always 1 of {classes} classes; type accuracy or balanced_accuracy"
    return None
