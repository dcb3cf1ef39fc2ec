"""What an epoch has come to on one rank: the sums of its steps."""

import torch
from torch import Tensor


class Tally:
    """The sums of an epoch's steps on this rank: loss, right answers and images, each step added after the last.

    Steps leave their tensors here unread, since reading one waits for the device and adding two costs each step time.

    Args:
        sums: what to go on from.
    """

    def __init__(self, sums: list[float]) -> None:
        self._loss, self._right, self._images = sums
        self._losses: list[Tensor] = []  # unread, of the steps since the last reading
        self._answers: list[Tensor] = []
        self.losses: list[float] = []  # read, in order

    def add(self, loss: Tensor, is_right: Tensor) -> None:
        """Take a step in: its loss, summed over its images, and which of them (B,) it names rightly."""
        self._losses.append(loss)
        self._answers.append(is_right)
        self._images += len(is_right)

    def read(self) -> list[float]:
        """The three sums, in float64."""
        if self._losses:
            losses = torch.stack(self._losses).tolist()
            for loss in losses:  # Python's `sum` rounds otherwise from 3.12 on
                self._loss += loss
            self._right += torch.cat(self._answers).sum().item()
            self.losses += losses
            self._losses, self._answers = [], []
        return [self._loss, self._right, self._images]
