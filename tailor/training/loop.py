"""The one training loop, for a single process and for DistributedDataParallel, and the measurement of a model."""

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tailor.core import heartbeat
from tailor.core.errors import TrainingError
from tailor.core.seeds import stream
from tailor.data.task_data import Samples, batches, in_order
from tailor.parallel.process_group import ProcessGroup
from tailor.stages import Training
from tailor.training.backward import Backward, Forward, Penalty
from tailor.training.checkpoint import Agreements, Checkpoint, TrainingProgress, parameters_of
from tailor.training.distillation import Teaching
from tailor.training.epoch_meter import Tally
from tailor.training.lr_schedule import scale, set_learning_rates
from tailor.training.weight_average import WeightAverage

LONG_EPOCH_S = 10.0  # from which on people want to know the step


def train(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    samples: Samples,
    training: Training,
    augmentation: str,
    ranks: ProcessGroup,
    checkpoint: Checkpoint,
    *,
    penalty: Penalty | None = None,
    teaching: Teaching | None = None,
    after_epoch: Callable[[], None] | None = None,
) -> list[dict[str, Any]]:
    """Train the optimiser's parameters of `model` in place; goes on from the checkpoint if there is one.

    The caller decides what is in training mode and what requires gradients. Each step minimises the mean loss over
    the global batch: ranks sum their shares and divide by the global count, so one rank and several take the same
    step, also where a batch does not divide evenly. Where an average of the weights is kept, the model ends with it.

    Args:
        model: trained in place.
        optimiser: from `optimiser_for`; its state goes on from where it is.
        samples: the training images.
        training: how; the optimiser is already made of it, and what the norms do is the caller's.
        augmentation: what happens to the images, by name.
        ranks: this process among those that train together.
        checkpoint: where an interrupted training goes on.
        penalty: added to the loss of each step.
        teaching: what a teacher adds to the labels; None learns from them alone.
        after_epoch: called after the last step of each epoch, before its checkpoint, on every rank.

    Returns:
        One dict per epoch: train_loss (mean over images, as it is minimised but without penalty),
        train_accuracy_fraction (None for real values), learning_rate (of the last step), images, seconds.

    Raises:
        Paused: on all ranks, where rank 0 is asked to; what was reached stands in the checkpoint.
        TrainingError: the loss is no longer finite.
    """
    backward = Backward(Forward(model, training, ranks), training, ranks, penalty, teaching)
    average = WeightAverage(model, training.ema_decay)
    progress = checkpoint.restore(model, optimiser, average)
    draws = any(drops(module) for module in model.modules())
    steps = -(-len(samples) // training.batch_size)
    agreements = Agreements(checkpoint, ranks)
    heartbeat.tell(partial(where, progress, training.epochs, steps))
    while progress.epoch < training.epochs:
        epoch, start_s = progress.epoch, time.perf_counter() - progress.elapsed_s
        tally = Tally(progress.sums if ranks.rank == 0 else [0.0] * 3)
        for batch in batches(samples, training.batch_size, training.seed, epoch, augmentation, ranks, progress.step):
            if draws:  # torch's global generator: seeded each step, so that a resumed training draws alike
                torch.manual_seed(stream(training.seed, "dropout", epoch, progress.step, ranks.rank))
            set_learning_rates(optimiser, scale(training, epoch, progress.step, steps))
            optimiser.zero_grad()
            loss, is_right = backward(batch)
            if training.clip_gradient_norm is not None:
                nn.utils.clip_grad_norm_(parameters_of(optimiser), training.clip_gradient_norm)
            optimiser.step()
            progress.step += 1
            average.update(epoch * steps + progress.step)
            tally.add(loss, is_right)
            if agreements.after_step():
                totals, wish = agreements.reach(tally.read())
                progress.sums, progress.elapsed_s = totals, time.perf_counter() - start_s
                checkpoint.follow(wish, progress, model, optimiser, average)
        if after_epoch is not None:
            after_epoch()
        totals, wish = agreements.reach(tally.read())
        check_finite(totals[0], tally.losses, epoch, progress.step)
        rate = set_learning_rates(optimiser, scale(training, epoch, steps - 1, steps))
        progress.history.append(epoch_row(epoch, totals, rate, time.perf_counter() - start_s))
        progress.epoch, progress.step, progress.sums, progress.elapsed_s = epoch + 1, 0, [0.0] * 3, 0.0
        if progress.epoch < training.epochs:  # a finished training is stored as a stage
            checkpoint.follow(wish, progress, model, optimiser, average)
    average.move_in()
    return progress.history


def where(progress: TrainingProgress, epochs: int, steps: int) -> tuple[float, str]:
    """How far a training of `epochs` epochs of `steps` steps is: the fraction, and words; waits for no device.

    Loss and speed are those of the last finished epoch; as long as there is none, the speed is that of this one.
    """
    images, seconds = progress.sums[2], progress.elapsed_s  # as the ranks agreed last
    words = [f"epoch {min(progress.epoch + 1, epochs)} of {epochs}"]
    if seconds > LONG_EPOCH_S:
        words.append(f"step {progress.step} of {steps}")
    if progress.history:
        last = progress.history[-1]
        images, seconds = last["images"], last["seconds"]
        words.append(f"loss {last['train_loss']:.4g}")
    if seconds > 0.0:
        words.append(f"{images / seconds:,.0f} images/s")
    return min(1.0, (progress.epoch + progress.step / steps) / max(1, epochs)), ", ".join(words)


def check_finite(total_loss: float, losses: list[float], epoch: int, steps: int) -> None:
    """Nothing, as long as an epoch's loss is finite.

    Args:
        total_loss: over all ranks.
        losses: of this rank's last steps of the epoch, in order.
        epoch: from 0.
        steps: that the epoch has had.

    Raises:
        TrainingError: the loss is not finite; the text names the first such step that this rank saw.
    """
    if math.isfinite(total_loss):
        return
    first = next((n for n, loss in enumerate(losses) if not math.isfinite(loss)), None)
    step = "on another rank" if first is None else f"from step {steps - len(losses) + first} on"
    raise TrainingError(f"the loss is {total_loss} in epoch {epoch}, {step}; a smaller learning rate may help")


def epoch_row(epoch: int, totals: list[float], learning_rate: float, seconds: float) -> dict[str, Any]:
    """What is written down of an epoch; `totals` are the sums of loss, right answers and images."""
    loss, right, images = totals
    return {
        "epoch": epoch,
        "train_loss": loss / images,
        "train_accuracy_fraction": None if math.isnan(right) else right / images,
        "learning_rate": learning_rate,
        "images": int(images),
        "seconds": seconds,
    }


def group(parameters: list[nn.Parameter], learning_rate: float) -> dict[str, Any]:
    """A parameter group of the optimiser with a rate that schedules scale."""
    return {"params": parameters, "lr": learning_rate, "initial_lr": learning_rate}


def drops(module: nn.Module) -> bool:
    """Whether a module draws in training: dropout, torchvision's stochastic depth, timm's kinds, known by their names.

    A network that calls `F.dropout` itself is not seen to.
    """
    name = type(module).__name__
    chance = next((getattr(module, kept) for kept in ("p", "drop_prob", "prob") if hasattr(module, kept)), 0.0)
    return ("Drop" in name or name == "StochasticDepth") and float(chance or 0.0) > 0.0


def optimiser_for(parameters: list[dict[str, Any]], training: Training) -> torch.optim.Optimizer:
    """The optimiser that `training` names, over parameter groups from `group`; weight decay is part of the gradient."""
    if training.optimiser == "adam":
        return torch.optim.Adam(parameters, weight_decay=training.weight_decay)
    return torch.optim.SGD(parameters, momentum=training.momentum, weight_decay=training.weight_decay)


@torch.no_grad()
def predict(model: nn.Module, samples: Samples, ranks: ProcessGroup) -> Tensor:
    """The outputs (N, K) for all samples, on the CPU of every rank; each sample is seen by one rank."""
    model.eval()
    mine = samples.take(torch.arange(ranks.rank, len(samples), ranks.count, device=samples.labels.device))
    shares = [model(images) for images, _ in in_order(mine)]
    return ranks.gather_interleaved(torch.cat(shares), len(samples)).cpu()
