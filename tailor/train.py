"""The one training loop, for a single process and for DistributedDataParallel, and the measurement of a model."""

import math
import time
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tailor.checkpoint import Checkpoint
from tailor.data import Samples, batches, normalise
from tailor.distributed import Ranks
from tailor.errors import TrainingError
from tailor.stage import Training

CHECK_EVERY_STEPS = 100  # how often within an epoch a checkpoint may be due; ranks agree on it by one small message
EVALUATION_BATCH = 256

ParameterGroups = list[dict[str, Any]]


def train(
    model: nn.Module,
    parameters: ParameterGroups,
    samples: Samples,
    training: Training,
    augmentation: str,
    ranks: Ranks,
    checkpoint: Checkpoint,
) -> list[dict[str, Any]]:
    """Train `parameters` of `model` in place by SGD; goes on from the checkpoint if there is one.

    The caller decides what is in training mode and what requires gradients. Each step minimises the mean loss over
    the global batch: ranks sum their shares and divide by the global count, so one rank and several take the same
    step, also where a batch does not divide evenly.

    Returns:
        One dict per epoch: train_loss (mean over images), train_accuracy_fraction, learning_rate, images, seconds.

    Raises:
        TrainingError: the loss is no longer finite.
    """
    optimiser = torch.optim.SGD(parameters, momentum=training.momentum, weight_decay=training.weight_decay)
    progress = checkpoint.restore(model, optimiser)
    parallel = ranks.parallel(model)
    start_s = time.perf_counter() - progress.elapsed_s
    while progress.epoch < training.epochs:
        epoch, epoch_start_s = progress.epoch, time.perf_counter()
        rates = set_learning_rates(optimiser, training, epoch)
        sums = torch.tensor(progress.sums if ranks.rank == 0 else [0.0] * 3, dtype=torch.float64, device=ranks.device)
        loss_sum, correct, images = sums.unbind()  # views: what is added to them is in `sums`
        for batch in batches(samples, training.batch_size, training.seed, epoch, augmentation, ranks, progress.step):
            logits = parallel(batch.images)
            loss = F.cross_entropy(logits, batch.labels, reduction="sum")
            optimiser.zero_grad()
            loss.backward(torch.full_like(loss, ranks.count / batch.global_count))  # DDP averages over ranks
            optimiser.step()
            loss_sum += loss.detach()
            correct += (logits.detach().argmax(dim=1) == batch.labels).sum()
            images += len(batch.labels)
            progress.step += 1
            if progress.step % CHECK_EVERY_STEPS == 0:
                totals, due = add_up(sums, checkpoint, ranks)
                if due:
                    progress.sums, progress.elapsed_s = totals, time.perf_counter() - start_s
                    checkpoint.save(progress, model, optimiser)
        totals, due = add_up(sums, checkpoint, ranks)
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


def epoch_row(epoch: int, totals: list[float], learning_rate: float, seconds: float) -> dict[str, Any]:
    """What is written down of an epoch; `totals` are the sums of loss, right answers and images.

    Raises:
        TrainingError: the loss is not finite.
    """
    loss, correct, images = totals
    if not math.isfinite(loss):
        raise TrainingError(f"the loss is {loss} in epoch {epoch}; a smaller learning rate may help")
    return {
        "epoch": epoch,
        "train_loss": loss / images,
        "train_accuracy_fraction": correct / images,
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


@torch.no_grad()
def predict(model: nn.Module, samples: Samples, ranks: Ranks) -> Tensor:
    """Class probabilities (N, classes) of all samples, on the CPU of every rank; each image is seen by one rank."""
    model.eval()
    mine = samples.images[ranks.rank :: ranks.count]
    shares = [model(normalise(mine[i : i + EVALUATION_BATCH])) for i in range(0, len(mine), EVALUATION_BATCH)]
    logits = torch.cat(shares)
    return ranks.gather_interleaved(logits, len(samples)).softmax(dim=1).cpu()


def loss_and_accuracy(probabilities: Tensor, labels: Tensor) -> tuple[float, float]:
    """Mean cross-entropy and the fraction of images whose most probable class is their label."""
    picked = probabilities.gather(1, labels[:, None]).clamp_min(1e-12)
    correct = (probabilities.argmax(dim=1) == labels).sum().item()
    return float(-picked.log().mean()), correct / len(labels)
