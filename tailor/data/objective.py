"""What a task minimises and what it is judged by: classes by cross-entropy, real values by the squared error.

Shapes: N samples, K outputs. Labels are int64 for classes and float32 for real values (one output).
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from tailor.core.errors import ConfigError

Metric = Literal["accuracy", "r_squared"]


@dataclass(frozen=True, kw_only=True)
class Quality:
    """How good a model's outputs are on a split."""

    metric: Metric
    score: float  # accuracy in [0, 1], or R squared in (-inf, 1]; the larger the better
    loss: float  # mean cross-entropy in nats, or mean squared error


def loss_sum(outputs: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """The loss of outputs (N, K), summed over samples; of classes, that share of each label is spread over all."""
    if labels.is_floating_point():
        return (outputs.flatten() - labels).square().sum()
    return F.cross_entropy(outputs, labels, reduction="sum", label_smoothing=label_smoothing)


def is_right(outputs: Tensor, labels: Tensor) -> Tensor:
    """Which samples (N,) are named rightly; NaN for real values, which have no right and wrong."""
    if labels.is_floating_point():
        return torch.full_like(labels, float("nan"))
    return outputs.argmax(dim=1) == labels


def quality(outputs: Tensor, labels: Tensor) -> Quality:
    """The score and mean loss of outputs (N, K) for labels (N,).

    Raises:
        ConfigError: real values that are all equal, of which no share can be explained.
    """
    if labels.is_floating_point():
        residual, spread = (outputs.flatten() - labels).double(), (labels - labels.mean()).double()
        if not spread.any():
            raise ConfigError(
                f"R squared of {len(labels)} equal labels does not exist: the split needs two different ones at least; "
                "leave more samples to it with a smaller data.train_images"
            )
        score = 1.0 - float(residual.square().sum() / spread.square().sum())
        return Quality(metric="r_squared", score=score, loss=float(residual.square().mean()))
    probabilities = outputs.softmax(dim=1)
    picked = probabilities.gather(1, labels[:, None]).clamp_min(1e-12)
    score = (probabilities.argmax(dim=1) == labels).sum().item() / len(labels)
    return Quality(metric="accuracy", score=score, loss=float(-picked.log().mean()))
