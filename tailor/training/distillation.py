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

    def loss_sum(self, labels_loss: Tensor, outputs: Tensor, images: Tensor) -> Tensor:
        """Return (1 - weight) x labels_loss + weight x T^2 x KL(teacher || student), summed over samples.

        Args:
            labels_loss: the student's loss by the labels, summed over samples.
            outputs: of the student (N, K).
            images: of the samples, for the teacher.
        """
        with torch.no_grad():
            teacher_outputs = self.teacher(images)
        divergence = divergence_sum(outputs, teacher_outputs, self.temperature)
        return (1.0 - self.weight) * labels_loss + self.weight * self.temperature**2 * divergence


def divergence_sum(outputs: Tensor, teacher_outputs: Tensor, temperature: float) -> Tensor:
    """Return KL(softmax(teacher_outputs / T) || softmax(outputs / T)) of outputs (N, K), in nats, summed over samples.

    >>> float(divergence_sum(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 2.0]]), temperature=4.0))
    0.0
    """
    student_log_probabilities = (outputs / temperature).log_softmax(dim=1)
    teacher_log_probabilities = (teacher_outputs / temperature).log_softmax(dim=1)
    return F.kl_div(student_log_probabilities, teacher_log_probabilities, reduction="sum", log_target=True)
