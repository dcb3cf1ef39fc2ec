"""What a classifier says of each image, and the scores that are made of it.

No score needs the outputs of all classes: N images take N numbers in each column, however many classes there are.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor, arange

from tailor.facts.metrics import RANKS_COUNTED

CALIBRATION_BINS = 15  # of equal width, as Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017), have

Columns = Mapping[str, Tensor]


def columns_of(outputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Return what a model says of N images, from its outputs (N, K) and the classes (N,).

    Returns:
        label, prediction (the class with the largest probability), probability (of the prediction), true_probability
        and true_rank (int32, from 1: how many classes are at least as probable as the true one; of equal ones the first
        counts as the more probable); each of shape (N,).
    """
    probabilities = outputs.softmax(dim=1)
    probability, prediction = probabilities.max(dim=1)
    of_label = probabilities.gather(1, labels[:, None])
    is_above = ~(probabilities <= of_label)  # also where neither is a number, so that such an image ranks last
    is_first_of_equals = (probabilities == of_label) & (arange(outputs.shape[1]) < labels[:, None])
    rank = 1 + is_above.sum(dim=1) + is_first_of_equals.sum(dim=1)
    return {
        "label": labels,
        "prediction": prediction,
        "probability": probability,
        "true_probability": of_label.flatten(),
        "true_rank": rank.clamp_max(outputs.shape[1]).int(),
    }


def import_libraries() -> None:
    """Import what makes the scores, which takes a second or two, before a stage is timed."""
    import scipy.stats  # noqa: F401
    import sklearn.metrics  # noqa: F401


def scores_of(columns: Columns, classes: int) -> dict[str, float | None]:
    """Return the scores of a model by what it says of the images of a split, from `columns_of`.

    Returns:
        accuracy; balanced_accuracy (mean recall of the classes that the split has); macro_f1 (mean F1 of the classes
        that the split has or the model predicts); top_5 (None with five classes or fewer); log_loss in nats;
        calibration_error (expected, of 15 bins of the predictions' probabilities). All but log_loss are in [0, 1]. The
        last two are None if a probability is not a number.
    """
    from scipy.stats import binned_statistic
    from sklearn.metrics import f1_score, log_loss, recall_score

    label, prediction, rank = (columns[name].numpy() for name in ("label", "prediction", "true_rank"))
    probability, of_label = (columns[name].double().numpy() for name in ("probability", "true_probability"))
    is_right = label == prediction
    scores: dict[str, Any] = {
        "accuracy": is_right.mean(),
        "balanced_accuracy": recall_score(label, prediction, labels=np.unique(label), average="macro"),
        "macro_f1": f1_score(label, prediction, average="macro", zero_division=0.0),
        "top_5": (rank <= RANKS_COUNTED).mean() if classes > RANKS_COUNTED else None,
        "log_loss": None,
        "calibration_error": None,
    }
    if np.isfinite(probability).all():
        # The true class against all others: the same as of all classes, without their matrix.
        scores["log_loss"] = log_loss(np.ones(len(label)), of_label, labels=[0, 1])
        # Images x (accuracy - confidence) of each bin.
        gaps = binned_statistic(
            probability, is_right - probability, "sum", CALIBRATION_BINS, range=(0.0, 1.0)
        ).statistic
        scores["calibration_error"] = np.abs(gaps).sum() / len(label)
    return {name: None if score is None else float(score) for name, score in scores.items()}
