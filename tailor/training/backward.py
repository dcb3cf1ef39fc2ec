"""A batch forward and backward by the settings of a training: precision, memory format, accumulation, teacher."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tailor.core.determinism import RepeatableBackward
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
        self._parallel = ranks.parallel(
            CompiledModel(model, whole_sizes(training, ranks)) if training.compile else model
        )

    def __call__(self, images: Tensor) -> Tensor:
        """Outputs (B, K), always float32, in which losses are computed."""
        if self._is_channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        if not self._is_bf16:
            outputs: Tensor = self._parallel(images)
            return outputs
        with torch.autocast(self._device_type, torch.bfloat16):
            outputs = self._parallel(images)
        return outputs.float()

    def without_message(self) -> AbstractContextManager[None]:
        """Within the context, each rank adds gradients up without communication."""
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
        self._forward, self._training, self._ranks = forward, training, ranks
        self._penalty, self._teaching = penalty, teaching

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Add a batch's gradients; this rank's loss, summed over its images, and which images are correct."""
        *first, last = micro_batches(batch, self._training.accumulation_steps, self._ranks.world_size)
        if not first:
            return self._pass(last, self._penalty)
        passed = []
        for part in first:
            with self._forward.without_message():
                passed.append(self._pass(part, None))
        passed.append(self._pass(last, self._penalty))
        losses, right = zip(*passed, strict=True)
        return reduce(torch.add, losses), torch.cat(right)

    def _pass(self, part: Batch, penalty: Penalty | None) -> tuple[Tensor, Tensor]:
        outputs = self._forward(part.images)
        loss = part.loss_sum(outputs, self._training.label_smoothing)
        if self._teaching is not None:
            loss = self._teaching.loss_sum(loss, outputs, part.images)
        share = self._ranks.world_size / part.global_count  # DDP averages over ranks
        with self._forward.repeatable.context(part.images):
            if penalty is None:
                loss.backward(torch.full_like(loss, share))  # like a product, with one operation less in each direction
            else:
                (loss * share + penalty(part, outputs)).backward()
        return loss.detach(), part.is_right(outputs)


def whole_sizes(training: Training, ranks: ProcessGroup) -> set[int]:
    """How many images of a whole batch a rank computes at once: one number, or two where its share does not divide."""
    share, parts = len(range(ranks.rank, training.batch_size, ranks.world_size)), training.accumulation_steps
    return {share // parts, -(-share // parts)} - {0}


def micro_batches(batch: Batch, count: int, ranks: int) -> list[Batch]:
    """A rank's share of a batch in `count` parts that keep its global count; fewer parts if it has fewer images.

    All ranks have the same number of parts, since norms may compute over the images of all ranks.
    """
    if count == 1:
        return [batch]
    count = min(count, -(-batch.global_count // ranks))
    shares = zip(batch.images.tensor_split(count), batch.labels.tensor_split(count), strict=True)
    return [replace(batch, images=images, labels=labels) for images, labels in shares]
