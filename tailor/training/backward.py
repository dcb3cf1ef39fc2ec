"""A batch forward and backward by the settings of a training: precision, memory format, accumulation, teacher."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tailor.common.determinism import RepeatableBackward
from tailor.common.errors import ConfigError
from tailor.data.task_data import Batch
from tailor.parallel.process_group import ProcessGroup
from tailor.stages import Training
from tailor.training.compilation import CompiledModel
from tailor.training.distillation import Teaching

Penalty = Callable[[Batch, Tensor], Tensor]
"""Of a rank's batch and outputs, a scalar whose gradient, averaged over ranks, is added to that of the mean loss."""


class Forward:
    """A model on all ranks, in the precision and memory format of a training; perhaps compiled."""

    def __init__(self, model: nn.Module, training: Training, ranks: ProcessGroup) -> None:
        self._is_bf16 = training.precision == "bf16"
        self._is_channels_last = training.memory_format == "channels_last"
        self._device_type = ranks.device.type
        self.repeatable = RepeatableBackward(model)
        if self._is_channels_last:
            model.to(memory_format=torch.channels_last)
        if training.compile:
            model = CompiledModel(model, whole_sizes(training, ranks))
        self._parallel = ranks.parallel(model)

    def __call__(self, images: Tensor) -> Tensor:
        """Return outputs (B, K), always float32, in which losses are computed."""
        if self._is_channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        if not self._is_bf16:
            outputs: Tensor = self._parallel(images)
            return outputs
        with torch.autocast(self._device_type, torch.bfloat16):
            outputs = self._parallel(images)
        return outputs.float()

    def without_message(self) -> AbstractContextManager[None]:
        """Return a context within which each rank adds gradients up without communication."""
        if isinstance(self._parallel, DistributedDataParallel):
            return self._parallel.no_sync()
        return nullcontext()


class Backward:
    """The gradients of the mean loss over a global batch, and of a penalty, on all ranks.

    The penalty is added once per step. Without a teacher, only labels teach.
    """

    def __init__(
        self,
        forward: Forward,
        training: Training,
        ranks: ProcessGroup,
        penalty: Penalty | None,
        teaching: Teaching | None,
    ) -> None:
        self._forward = forward
        self._training = training
        self._ranks = ranks
        self._penalty = penalty
        self._teaching = teaching

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Add a batch's gradients to the model's.

        Returns:
            This rank's loss, summed over its images, and which of its images are correct (B,).
        """
        *all_but_last, last = micro_batches(batch, self._training.accumulation_steps, self._ranks.world_size)
        if not all_but_last:
            return self._pass(last, self._penalty)
        losses = []
        answers = []
        for micro_batch in all_but_last:
            with self._forward.without_message():
                loss, is_right = self._pass(micro_batch, penalty=None)
            losses.append(loss)
            answers.append(is_right)
        loss, is_right = self._pass(last, self._penalty)
        losses.append(loss)
        answers.append(is_right)
        return reduce(torch.add, losses), torch.cat(answers)

    def _pass(self, batch: Batch, penalty: Penalty | None) -> tuple[Tensor, Tensor]:
        """Run one pass forward and backward; return the loss, summed over images, and which images are correct."""
        outputs = self._forward(batch.images)
        loss = batch.loss_sum(outputs, self._training.label_smoothing)
        if self._teaching is not None:
            loss = self._teaching.loss_sum(loss, outputs, batch.images)
        if not loss.requires_grad:
            raise ConfigError(
                "the loss has no gradient by what is trained: the network's forward runs it under torch.no_grad() or "
                "detaches what it puts out; freeze layers by requires_grad_(False) instead"
            )
        weight = self._ranks.world_size / batch.global_count  # DDP averages over ranks
        with self._forward.repeatable.context(batch.images):
            if penalty is None:
                loss.backward(torch.full_like(loss, weight))  # as `loss * weight`, with one operation less each way
            else:
                (loss * weight + penalty(batch, outputs)).backward()
        return loss.detach(), batch.is_right(outputs)


def whole_sizes(training: Training, ranks: ProcessGroup) -> set[int]:
    """Return how many images of a whole batch a rank computes at once.

    It is one number, or two if the rank's share does not divide evenly into micro-batches.
    """
    own_images = len(range(ranks.rank, training.batch_size, ranks.world_size))
    smaller = own_images // training.accumulation_steps
    larger = -(-own_images // training.accumulation_steps)
    return {smaller, larger} - {0}


def micro_batches(batch: Batch, count: int, ranks: int) -> list[Batch]:
    """Return a rank's share of a batch in `count` parts, which keep the global count; fewer if there are fewer images.

    All ranks have the same number of parts, since norms may compute over the images of all ranks.
    """
    if count == 1:
        return [batch]
    most_images_of_a_rank = -(-batch.global_count // ranks)
    count = min(count, most_images_of_a_rank)
    parts = []
    for own in torch.arange(len(batch.labels), device=batch.labels.device).tensor_split(count):
        terms = tuple((labels[own], weights[own]) for labels, weights in batch.terms)
        parts.append(replace(batch, images=batch.images[own], labels=batch.labels[own], terms=terms))
    return parts
