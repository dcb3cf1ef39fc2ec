"""The learning rate over a training: constant, cosine or steps, after a linear warm-up."""

import math

import torch

from tailor.stages import Training


def scale(training: Training, epoch: int, step: int, steps: int) -> float:
    """Return the factor of the learning rates, in [0, 1].

    The schedules `cosine` and `step` change from epoch to epoch. The warm-up rises with every step, to 1 at its last;
    the cosine spans the epochs after it.

    Args:
        training: has the schedule.
        epoch: counted from 0.
        step: of this epoch, counted from 0.
        steps: of each epoch.

    >>> training = Training(epochs=4, batch_size=32, seed=0, schedule="step", milestones=(0.5,))
    >>> [scale(training, epoch, step=0, steps=10) for epoch in range(4)]
    [1.0, 1.0, 0.1, 0.1]
    """
    warm_up = training.warm_up_epochs
    if epoch < warm_up:
        return (epoch * steps + step + 1) / (warm_up * steps)
    if training.schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * (epoch - warm_up) / (training.epochs - warm_up)))
    if training.schedule == "step":
        passed = sum(epoch >= milestone * training.epochs for milestone in training.milestones)
        return float(training.gamma**passed)
    return 1.0


def set_learning_rates(optimiser: torch.optim.Optimizer, scale: float) -> None:
    """Set each group's rate to its `initial_lr` times `scale`."""
    for group in optimiser.param_groups:
        group["lr"] = group["initial_lr"] * scale
