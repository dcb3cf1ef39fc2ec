"""The one training loop, for a single process and for DistributedDataParallel, and the measurement of a model."""

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tailor.augmentation import centre
from tailor.checkpoint import Checkpoint
from tailor.data import Batch, Samples, batches, normalise
from tailor.distributed import Ranks
from tailor.errors import TrainingError
from tailor.objective import loss_sum, right_count
from tailor.seeds import stream
from tailor.stages import Training

CHECK_EVERY_STEPS = 100  # how often within an epoch a checkpoint may be due; ranks agree on it by one small message
EVALUATION_BATCH = 256

Penalty = Callable[[Batch, Tensor], Tensor]
"""Of a rank's batch and outputs, a scalar whose gradient, averaged over ranks, is added to that of the mean loss."""


def train(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    samples: Samples,
    training: Training,
    augmentation: str,
    ranks: Ranks,
    checkpoint: Checkpoint,
    *,
    penalty: Penalty | None = None,
    after_epoch: Callable[[], None] | None = None,
) -> list[dict[str, Any]]:
    """Train the optimiser's parameters of `model` in place; goes on from the checkpoint if there is one.

    The caller decides what is in training mode and what requires gradients. Each step minimises the mean loss over
    the global batch: ranks sum their shares and divide by the global count, so one rank and several take the same
    step, also where a batch does not divide evenly.

    Args:
        model: trained in place.
        optimiser: from `optimiser_for`; its state goes on from where it is.
        samples: the training images.
        training: epochs, batch size, schedule and seed.
        augmentation: what happens to the images, by name.
        ranks: this process among those that train together.
        checkpoint: where an interrupted training goes on.
        penalty: added to the loss of each step.
        after_epoch: called after the last step of each epoch, before its checkpoint, on every rank.

    Returns:
        One dict per epoch: train_loss (mean over images, without penalty), train_accuracy_fraction (None for real
        values), learning_rate, images, seconds.

    Raises:
        TrainingError: the loss is no longer finite.
    """
    progress = checkpoint.restore(model, optimiser)
    draws = any(drops(module) for module in model.modules())
    parallel = ranks.parallel(model)
    start_s = time.perf_counter() - progress.elapsed_s
    while progress.epoch < training.epochs:
        epoch, epoch_start_s = progress.epoch, time.perf_counter()
        rates = set_learning_rates(optimiser, training, epoch)
        sums = torch.tensor(progress.sums if ranks.rank == 0 else [0.0] * 3, dtype=torch.float64, device=ranks.device)
        losses: list[Tensor] = []
        total_loss, right, images = sums.unbind()  # views: what is added to them is in `sums`
        for batch in batches(samples, training.batch_size, training.seed, epoch, augmentation, ranks, progress.step):
            if draws:  # torch's global generator: seeded each step, so that a resumed training draws alike
                torch.manual_seed(stream(training.seed, "dropout", epoch, progress.step, ranks.rank))
            outputs = parallel(batch.images)
            loss = loss_sum(outputs, batch.labels)
            objective = loss * (ranks.count / batch.global_count)  # DDP averages over ranks
            optimiser.zero_grad()
            (objective if penalty is None else objective + penalty(batch, outputs)).backward()
            optimiser.step()
            losses.append(loss.detach())
            total_loss += losses[-1]
            right += right_count(outputs.detach(), batch.labels)
            images += len(batch.labels)
            progress.step += 1
            if progress.step % CHECK_EVERY_STEPS == 0:
                totals, due = add_up(sums, checkpoint, ranks)
                if due:
                    progress.sums, progress.elapsed_s = totals, time.perf_counter() - start_s
                    checkpoint.save(progress, model, optimiser)
        if after_epoch is not None:
            after_epoch()
        totals, due = add_up(sums, checkpoint, ranks)
        check_finite(totals[0], losses, epoch, progress.step)
        progress.history.append(epoch_row(epoch, totals, max(rates), time.perf_counter() - epoch_start_s))
        progress.epoch, progress.step, progress.sums = epoch + 1, 0, [0.0] * 3
        if progress.epoch < training.epochs and due:
            progress.elapsed_s = time.perf_counter() - start_s
            checkpoint.save(progress, model, optimiser)
    return progress.history


def add_up(sums: Tensor, checkpoint: Checkpoint, ranks: Ranks) -> tuple[list[float], bool]:
    """The sums over all ranks, and whether rank 0's clock says that a checkpoint is due: one message for both."""
    *totals, due = ranks.sum(torch.cat([sums, sums.new_tensor([checkpoint.due()])])).tolist()
    return totals, due > 0


def check_finite(total_loss: float, losses: list[Tensor], epoch: int, steps: int) -> None:
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
    first = next((n for n, loss in enumerate(losses) if not math.isfinite(loss.item())), None)
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


def set_learning_rates(optimiser: torch.optim.Optimizer, training: Training, epoch: int) -> list[float]:
    """Set each group's rate for `epoch` from its `initial_lr`, and return the rates."""
    scale = 1.0
    if training.schedule == "cosine":
        scale = 0.5 * (1.0 + math.cos(math.pi * epoch / training.epochs))
    for group in optimiser.param_groups:
        group["lr"] = group["initial_lr"] * scale
    return [group["lr"] for group in optimiser.param_groups]


def group(parameters: list[nn.Parameter], learning_rate: float) -> dict[str, Any]:
    """A parameter group of the optimiser with a rate that schedules scale."""
    return {"params": parameters, "lr": learning_rate, "initial_lr": learning_rate}


def drops(module: nn.Module) -> bool:
    """Whether a module draws in training: dropout, and torchvision's stochastic depth (known by its name)."""
    is_dropout = isinstance(module, nn.modules.dropout._DropoutNd)
    return (is_dropout or type(module).__name__ == "StochasticDepth") and float(getattr(module, "p", 0.0)) > 0.0


def optimiser_for(parameters: list[dict[str, Any]], training: Training) -> torch.optim.Optimizer:
    """The optimiser that `training` names, over parameter groups from `group`; weight decay is part of the gradient."""
    if training.optimiser == "adam":
        return torch.optim.Adam(parameters, weight_decay=training.weight_decay)
    return torch.optim.SGD(parameters, momentum=training.momentum, weight_decay=training.weight_decay)


@torch.no_grad()
def predict(model: nn.Module, samples: Samples, ranks: Ranks) -> Tensor:
    """The outputs (N, K) for all samples, on the CPU of every rank; each sample is seen by one rank."""
    model.eval()
    mine = centre(samples.images[ranks.rank :: ranks.count], samples.crop_px)
    shares = [model(normalise(mine[i : i + EVALUATION_BATCH])) for i in range(0, len(mine), EVALUATION_BATCH)]
    return ranks.gather_interleaved(torch.cat(shares), len(samples)).cpu()
