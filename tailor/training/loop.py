"""The one training loop, for a single process and for DistributedDataParallel."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tailor.common import heartbeat
from tailor.common.errors import TrainingError
from tailor.common.seeds import stream
from tailor.data.task_data import Samples, batches
from tailor.model.state import ModelState
from tailor.stages import Training
from tailor.training.backward import Backward, Forward, Penalty
from tailor.training.checkpoint import Checkpoint, CheckpointAction, RankSync, TrainingProgress, parameters_of
from tailor.training.distillation import Teaching
from tailor.training.epoch_meter import EpochMeter
from tailor.training.layer_order import layer_numbers
from tailor.training.lr_schedule import scale, set_learning_rates
from tailor.training.prediction import EpochValidation
from tailor.training.weight_average import WeightAverage

LONG_EPOCH_S = 10.0  # after which the step is also reported


def do_nothing(*_given: object) -> None:
    """Do nothing: what a training does by default beside its steps."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingExtras:
    """What a training does in addition to minimising the loss of the labels."""

    penalty: Penalty | None = None  # added to the loss of each step
    teaching: Teaching | None = None  # what a teacher adds to the labels
    before_step: Callable[[int], None] = do_nothing  # gets the number of the global batch's images, on every rank
    after_epoch: Callable[[], None] = do_nothing  # called on every rank after an epoch, before its checkpoint
    validation: EpochValidation | None = None
    until_epoch: int | None = None  # where a part of the training ends; None: at the end

    def validate(self, model: nn.Module, epochs: int) -> dict[str, Any]:
        """Return the columns of the validation after `epochs` epochs; empty without one."""
        return {} if self.validation is None else self.validation.measure(model, epochs)


NO_EXTRAS = TrainingExtras()


def train(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    samples: Samples,
    training: Training,
    augmentation: str,
    checkpoint: Checkpoint,
    extras: TrainingExtras = NO_EXTRAS,
) -> list[dict[str, Any]]:
    """Train the optimiser's parameters of `model` in place; resume from the checkpoint if there is one.

    The caller decides what is in training mode and what requires gradients. Each step minimises the mean loss over
    the global batch: ranks sum their shares and divide by the global count, so one rank and several take the same
    step, also if a batch does not divide evenly. If the training averages the weights, the model ends with the average.
    A part of the training, which ends before the last epoch, leaves its state in the checkpoint for the next part.

    Args:
        model: trained in place.
        optimiser: from `optimiser_for`; its state is kept.
        training: its settings; the optimiser is made by it already, and the norms are set by the caller.
        checkpoint: where an interrupted training resumes; its ranks train together.
        extras: penalty, teacher and what is done after each epoch.

    Returns:
        One dict per epoch: train_loss (mean over images, without penalty),
        train_accuracy_fraction (None for real values), images, seconds; learning_rate and head_learning_rate of the
        last step; where the extras measure it, validation_loss, validation_score and each score, as in
        validation_macro_f1.

    Raises:
        Paused: on all ranks, if rank 0 is asked to pause; the state is in the checkpoint.
        TrainingError: the loss is no longer finite.
    """
    ranks = checkpoint.ranks
    backward = Backward(Forward(model, training, ranks), training, ranks, extras.penalty, extras.teaching)
    average = WeightAverage(model, training.ema_decay)
    until_epoch = training.epochs if extras.until_epoch is None else extras.until_epoch
    progress = checkpoint.restore(model, optimiser, average, until_epoch)
    has_dropout = any(draws_randomly(module) for module in model.modules())
    steps = -(-len(samples) // training.batch_size)
    rank_sync = RankSync(checkpoint)
    heartbeat.report_progress_by(lambda: describe_progress(progress, training.epochs, steps))
    while progress.epoch < until_epoch:
        epoch = progress.epoch
        start_s = time.perf_counter() - progress.elapsed_s
        meter = EpochMeter(progress.sums if ranks.rank == 0 else [0.0] * 3)  # the sums have the steps of all ranks
        for batch in batches(
            samples, training.batch_size, training.seed, epoch, augmentation, ranks, progress.step, training
        ):
            if has_dropout:  # torch's global generator is seeded each step, so that a resumed training draws the same
                torch.manual_seed(stream(training.seed, "dropout", epoch, progress.step, ranks.rank))
            set_learning_rates(optimiser, scale(training, epoch, progress.step, steps))
            optimiser.zero_grad()
            loss, is_right = backward(batch)
            if training.clip_gradient_norm is not None:
                nn.utils.clip_grad_norm_(parameters_of(optimiser), training.clip_gradient_norm)
            extras.before_step(batch.global_count)
            optimiser.step()
            progress.step += 1
            average.update(epoch * steps + progress.step)
            meter.add(loss, is_right)
            if rank_sync.count_step():
                totals, action = rank_sync.synchronise(meter.read())
                progress.sums = totals
                progress.elapsed_s = time.perf_counter() - start_s
                checkpoint.follow(action, progress, model, optimiser, average)
        extras.after_epoch()
        totals, action = rank_sync.synchronise(meter.read())
        check_finite(totals[0], meter.losses, epoch, progress.step)
        row = epoch_row(epoch, totals, time.perf_counter() - start_s) | learning_rates(training, epoch, steps)
        progress.finish_epoch(row | extras.validate(model, epoch + 1))
        if progress.epoch < training.epochs:  # a finished training is stored as a stage and needs no checkpoint
            is_end_of_part = progress.epoch == until_epoch  # the next part continues from here
            checkpoint.follow(CheckpointAction.WRITE if is_end_of_part else action, progress, model, optimiser, average)
    average.move_in()
    return progress.history


def describe_progress(progress: TrainingProgress, epochs: int, steps: int) -> tuple[float, str]:
    """Return the progress of a training of `epochs` epochs of `steps` steps, as a fraction and a text.

    Loss and speed are those of the last finished epoch; in the first epoch the speed is that of this epoch. It waits
    for no device.
    """
    images = progress.sums[2]  # of the present epoch at the last synchronisation
    seconds = progress.elapsed_s
    words = [f"epoch {min(progress.epoch + 1, epochs)} of {epochs}"]
    if seconds > LONG_EPOCH_S:
        words.append(f"step {progress.step} of {steps}")
    if progress.history:
        last_row = progress.history[-1]
        images = last_row["images"]
        seconds = last_row["seconds"]
        words.append(f"loss {last_row['train_loss']:.4g}")
    if seconds > 0.0:
        words.append(f"{images / seconds:,.0f} images/s")
    epochs_done = progress.epoch + progress.step / steps
    fraction = min(1.0, epochs_done / max(1, epochs))
    return fraction, ", ".join(words)


def check_finite(total_loss: float, losses: list[float], epoch: int, steps: int) -> None:
    """Raise TrainingError if an epoch's loss over all ranks is not finite, with the first such step of this rank.

    `losses` are those of this rank's last steps, in order; the epoch has had `steps` steps.
    """
    if math.isfinite(total_loss):
        return
    first_index = next((index for index, loss in enumerate(losses) if not math.isfinite(loss)), None)
    location = "on another rank" if first_index is None else f"from step {steps - len(losses) + first_index} on"
    raise TrainingError(f"the loss is {total_loss} in epoch {epoch}, {location}; a smaller learning rate may help")


def epoch_row(epoch: int, totals: list[float], seconds: float) -> dict[str, Any]:
    """Return the row of an epoch but for its learning rates; `totals` are the sums of loss, correct answers, images."""
    loss, correct, images = totals
    return {
        "epoch": epoch,
        "train_loss": loss / images,
        "train_accuracy_fraction": None if math.isnan(correct) else correct / images,
        "images": int(images),
        "seconds": seconds,
    }


def learning_rates(training: Training, epoch: int, steps: int) -> dict[str, float]:
    """Return the learning rates of an epoch's last step: of the head, and of all else; 0 of what does not train."""
    factor = scale(training, epoch, steps - 1, steps)
    return {
        "learning_rate": training.learning_rate * factor,
        "head_learning_rate": training.head_learning_rate * factor,
    }


def group(parameters: list[nn.Parameter], learning_rate: float) -> dict[str, Any]:
    """Return a parameter group of the optimiser, with the learning rate that the schedule scales."""
    return {"params": parameters, "lr": learning_rate, "initial_lr": learning_rate}


def parameter_groups(model: nn.Module, state: ModelState, training: Training) -> list[dict[str, Any]]:
    """Return the groups of all parameters of `model` that train: the head's at its own rate, the others' at theirs.

    With `layer_decay` d, the rate of layer i of 0 to L is multiplied by d^(L - i). With it or AdamW, weight decay acts
    only on weights of two dims or more, not on norms, biases, positions, tokens and tables: as timm has it
    (`param_groups_layer_decay` with each network's `no_weight_decay`).

    Args:
        state: what the model was built from.

    Raises:
        ConfigError: with `layer_decay`, the network's layers have no order.
    """
    head = set(state.head_names())
    layers: dict[str, int] = {}
    if training.layer_decay != 1.0:
        layers = layer_numbers(state.network, state.classes, state.input_shape)
    last = max(layers.values(), default=0)
    decays_all = training.optimiser != "adamw" and not layers
    members: dict[tuple[float, bool], list[nn.Parameter]] = {}  # by rate, and whether the weights decay
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            rate = training.head_learning_rate if name in head else training.learning_rate
            rate *= training.layer_decay ** (last - layers.get(name, last))
            decays = decays_all or (parameter.dim() > 1 and name.endswith("weight"))
            members.setdefault((rate, decays), []).append(parameter)
    groups = []
    for (rate, decays), parameters in members.items():
        groups.append(group(parameters, rate) | ({} if decays else {"weight_decay": 0.0}))
    return groups


def draws_randomly(module: nn.Module) -> bool:
    """Whether a module draws in training: dropout, torchvision's stochastic depth, timm's kinds, by their names.

    A network that calls `F.dropout` itself is not detected.
    """
    class_name = type(module).__name__
    if "Drop" not in class_name and class_name != "StochasticDepth":
        return False
    for attribute in ("p", "drop_prob", "prob"):
        if hasattr(module, attribute):
            return float(getattr(module, attribute) or 0.0) > 0.0
    return False


def optimiser_for(groups: list[dict[str, Any]], training: Training) -> torch.optim.Optimizer:
    """Return the optimiser that `training` names, over parameter groups from `group`.

    Weight decay is part of the gradient; AdamW's is apart from it.
    """
    if training.optimiser == "adamw":
        return torch.optim.AdamW(groups, weight_decay=training.weight_decay)
    if training.optimiser == "adam":
        return torch.optim.Adam(groups, weight_decay=training.weight_decay)
    return torch.optim.SGD(groups, momentum=training.momentum, weight_decay=training.weight_decay)
