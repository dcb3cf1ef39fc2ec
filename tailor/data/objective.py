"""The loss and the score of a task: cross-entropy and accuracy for classes, squared error for real values.

Shapes: N samples, K outputs. Labels are int64 for classes and float32 for real values (one output).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from tailor.common.errors import ConfigError

Metric = Literal["accuracy", "r_squared"]
Loss = Callable[[Any, Tensor], Tensor]
"""Of outputs and labels: the mean loss, a scalar."""


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Score and loss of a model's outputs on a split."""

    metric: Metric
    score: float  # accuracy in [0, 1], or R squared in (-inf, 1]; the larger the better
    loss: float  # mean cross-entropy in nats, or mean squared error


def loss_sum(outputs: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Return the loss of outputs (N, K), summed over samples; smoothing spreads a share of each label over all classes.

    A sample may have many labels (N, ...), such as one of each pixel: its loss is their mean. Outputs are then
    (N, K, ...) for classes, and have the labels' numbers in the same order for real values.

    >>> float(loss_sum(torch.tensor([[1.0], [3.0]]), torch.tensor([1.0, 1.0])))  # real values: squared errors
    4.0
    """
    if labels.is_floating_point():
        total = (outputs.reshape(labels.shape) - labels).square().sum()
    else:
        total = F.cross_entropy(outputs, labels, reduction="sum", label_smoothing=label_smoothing)
    return total if labels.dim() == 1 else total / math.prod(labels.shape[1:])


def weighted_loss_sum(outputs: Tensor, labels: Tensor, weights: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Return the cross-entropy of outputs (N, K), each sample's times its weight (N,), summed over samples."""
    losses = F.cross_entropy(outputs, labels, reduction="none", label_smoothing=label_smoothing)
    return (losses * weights).sum()


def is_right(outputs: Tensor, labels: Tensor) -> Tensor:
    """Return which samples (N,) are classified correctly; NaN for real values."""
    if labels.is_floating_point():
        return torch.full_like(labels, float("nan"))
    return outputs.argmax(dim=1) == labels


def quality(outputs: Tensor, labels: Tensor) -> Quality:
    """Return the score and mean loss of outputs (N, K) for labels (N,).

    A probability below 1e-12 counts as 1e-12, so that the loss of a sample is at most 27.6 nats.

    >>> quality(torch.tensor([[2.0, 0.0], [2.0, 0.0]]), torch.tensor([0, 1])).score
    0.5

    Raises:
        ConfigError: all labels are the same real value, for which R squared does not exist.
    """
    if labels.is_floating_point():
        return _quality_of_real_values(outputs, labels)
    probabilities = outputs.softmax(dim=1)
    of_labels = probabilities.gather(1, labels[:, None]).clamp_min(1e-12)
    accuracy = (probabilities.argmax(dim=1) == labels).sum().item() / len(labels)
    return Quality(metric="accuracy", score=accuracy, loss=float(-of_labels.log().mean()))


def _quality_of_real_values(outputs: Tensor, labels: Tensor) -> Quality:
    """Return R squared and the mean squared error."""
    squared_errors = (outputs.flatten() - labels).double().square()
    deviations = (labels - labels.mean()).double()
    if not deviations.any():
        raise ConfigError(
            f"R squared of {len(labels)} equal labels does not exist: the split needs at least two different "
            "ones; leave it more samples with a smaller data.train_images"
        )
    r_squared = 1.0 - float(squared_errors.sum() / deviations.square().sum())
    return Quality(metric="r_squared", score=r_squared, loss=float(squared_errors.mean()))
