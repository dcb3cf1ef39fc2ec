"""The sums of an epoch's steps on one rank."""

import torch
from torch import Tensor


class EpochMeter:
    """The sums of an epoch's steps on this rank: loss, correct answers and images.

    Tensors of steps are only kept, since reading one waits for the device and adding two takes time in each step.

    >>> meter = EpochMeter([0.0, 0.0, 0.0])
    >>> meter.add(torch.tensor(1.5), torch.tensor([True, False]))
    >>> meter.read()
    [1.5, 1.0, 2.0]
    """

    def __init__(self, sums: list[float]) -> None:
        self._loss, self._right, self._images = sums
        self._losses: list[Tensor] = []  # unread, of the steps since the last reading
        self._answers: list[Tensor] = []
        self.losses: list[float] = []  # read, in order

    def add(self, loss: Tensor, is_right: Tensor) -> None:
        """Add a step: its loss, summed over its images, and which of them (B,) are correct."""
        self._losses.append(loss)
        self._answers.append(is_right)
        self._images += len(is_right)

    def read(self) -> list[float]:
        """Return the three sums, in float64."""
        if self._losses:
            losses = torch.stack(self._losses).tolist()
            for loss in losses:  # Python's `sum` rounds differently from 3.12 on
                self._loss += loss
            self._right += torch.cat(self._answers).sum().item()
            self.losses += losses
            self._losses = []
            self._answers = []
        return [self._loss, self._right, self._images]
