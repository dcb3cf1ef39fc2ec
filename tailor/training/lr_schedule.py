"""The learning rate over a training: constant, cosine or steps, behind a linear warm-up."""

import math

import torch

from tailor.stages import Training


def scale(training: Training, epoch: int, step: int, steps: int) -> float:
    """By what the learning rates are multiplied, in [0, 1].

    Cosine and steps change from epoch to epoch; the warm-up rises with every step, to 1 at its last, and the cosine
    spans the epochs behind it.

    Args:
        training: schedule, milestones, gamma and warm-up are read.
        epoch: from 0.
        step: of that epoch, from 0.
        steps: of an epoch.
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


def set_learning_rates(optimiser: torch.optim.Optimizer, scale: float) -> float:
    """Set each group's rate to its `initial_lr` times `scale`; the largest of them."""
    for group in optimiser.param_groups:
        group["lr"] = group["initial_lr"] * scale
    return max(float(group["lr"]) for group in optimiser.param_groups)
