"""Distillation (Hinton, Vinyals, Dean; 2015): a teacher's outputs for an image, in addition to its label.

Shapes: N samples, K classes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, kw_only=True)
class Teaching:
    """A teacher and its weight; it sees the same images as its student."""

    teacher: Callable[[Tensor], Tensor]  # images -> outputs (N, K)
    weight: float  # in (0, 1]; the labels count 1 - weight
    temperature: float

    def loss_sum(self, of_labels: Tensor, outputs: Tensor, images: Tensor) -> Tensor:
        """(1 - weight) x the loss by the labels + weight x T^2 x KL(teacher || student), summed over samples."""
        with torch.no_grad():
            taught = self.teacher(images)
        divergence = divergence_sum(outputs, taught, self.temperature)
        return (1.0 - self.weight) * of_labels + self.weight * self.temperature**2 * divergence


def divergence_sum(outputs: Tensor, taught: Tensor, temperature: float) -> Tensor:
    """KL(softmax(taught / T) || softmax(outputs / T)) of outputs (N, K), in nats, summed over samples.

    >>> float(divergence_sum(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 2.0]]), temperature=4.0))
    0.0
    """
    student, teacher = ((logits / temperature).log_softmax(dim=1) for logits in (outputs, taught))
    return F.kl_div(student, teacher, reduction="sum", log_target=True)
