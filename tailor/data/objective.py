"""The loss and the scores of a task: of classes by cross-entropy, of real values by squared error.

Shapes: N samples, K outputs. Labels are int64 for classes and float32 for real values (one output).
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tailor.common.errors import ConfigError
from tailor.data.scores import Columns, columns_of, scores_of
from tailor.facts.metrics import Metric, default_metric

Loss = Callable[[Any, Tensor], Tensor]
"""Of outputs and labels: the mean loss, a scalar."""
_SAME_NUMBERS = re.compile(r"(Unsafe)?View|Reshape|(Uns|S)queeze|Permute|Transpose|T|Alias|Clone|ToCopy")
"""Operations, as autograd calls them, that only give outputs another shape or place."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Quality:
    """How good a model's outputs on a split are."""

    metric: Metric
    loss: float  # mean cross-entropy in nats, or mean squared error
    columns: Columns  # what the model says of each sample: that of `columns_of`, or label and prediction
    classes: int = 1  # 1: real values

    @cached_property
    def scores(self) -> dict[str, float | None]:
        """All scores of the task by name: those of `scores_of`, or r_squared; None: it does not exist."""
        if self.classes == 1:
            return {"r_squared": r_squared(self.columns["prediction"], self.columns["label"])}
        return scores_of(self.columns, self.classes)

    def scores_on(self, split: str) -> dict[str, Any]:
        """Return the scores that exist of a task with classes, by the names of their columns: "test_accuracy".

        R squared is always the score that decides, and has no column of its own: real values have none.
        """
        if self.classes == 1:
            return {}
        return {f"{split}_{name}": score for name, score in self.scores.items() if score is not None}

    @property
    def score(self) -> float:
        """The score by the metric, the larger the better. Raises ConfigError: it does not exist."""
        score = self.scores[self.metric]
        if score is None:
            raise ConfigError(
                f"R squared of {len(self.columns['label'])} equal labels does not exist: the split needs at least two "
                "different ones; validation has more with a smaller data.train_images"
            )
        return score


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


def last_function(outputs: Tensor) -> str:
    """Return "softmax" or "sigmoid" if outputs (N, K) are those of one, of which cross-entropy should not take another.

    A softmax is known by its sums, a sigmoid by the operation that autograd has noted; "" for all else.

    >>> weights = torch.zeros(2, 4, requires_grad=True)
    >>> last_function(weights.softmax(dim=1)), last_function(weights.sigmoid()), last_function(weights * 1)
    ('softmax', 'sigmoid', '')
    """
    if are_shares(outputs):
        return "softmax"
    node = outputs.grad_fn
    while node is not None and _SAME_NUMBERS.fullmatch(node.name().partition("Backward")[0]):
        node = node.next_functions[0][0]
    return "sigmoid" if node is not None and "sigmoid" in node.name().lower() else ""


def are_shares(rows: Tensor) -> bool:
    """Whether each of several rows has numbers from 0 on that sum to 1."""
    return bool((rows >= 0.0).all()) and torch.allclose(rows.sum(dim=1), torch.ones(()).to(rows))


def weighted_loss_sum(outputs: Tensor, labels: Tensor, weights: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Return the cross-entropy of outputs (N, K), each sample's times its weight (N,), summed over samples."""
    losses = F.cross_entropy(outputs, labels, reduction="none", label_smoothing=label_smoothing)
    return (losses * weights).sum()


def is_right(outputs: Tensor, labels: Tensor) -> Tensor:
    """Return which samples (N,) are classified correctly; NaN for real values."""
    if labels.is_floating_point():
        return torch.full_like(labels, float("nan"))
    return outputs.argmax(dim=1) == labels


def quality(outputs: Tensor, labels: Tensor, metric: Metric | None = None) -> Quality:
    """Return score and mean loss of outputs (N, K) for labels (N,); without a metric, accuracy or R squared.

    A probability below 1e-12 counts as 1e-12, so that the loss of a sample is at most 27.6 nats.

    >>> quality(torch.tensor([[2.0, 0.0], [2.0, 0.0]]), torch.tensor([0, 1])).score
    0.5
    """
    if labels.is_floating_point():
        estimates = outputs.flatten()
        loss = float((estimates - labels).double().square().mean())
        return Quality(
            metric=metric or default_metric(1), loss=loss, columns={"label": labels, "prediction": estimates}
        )
    classes = outputs.shape[1]
    columns = columns_of(outputs, labels)
    loss = float(-columns["true_probability"].clamp_min(1e-12).log().mean())
    return Quality(metric=metric or default_metric(classes), loss=loss, columns=columns, classes=classes)


def r_squared(estimates: Tensor, labels: Tensor) -> float | None:
    """Return R squared of N estimates for N real values; None if all values are the same: it does not exist."""
    deviations = (labels - labels.mean()).double()
    if not deviations.any():
        return None
    return 1.0 - float((estimates - labels).double().square().sum() / deviations.square().sum())
