"""The two functions of each kind of stage: `compute` makes what the stage stores, `apply` makes the next state from it.

Only `apply` makes the next state, whether the stage was computed now or read from the cache, so cached equals
computed. Both are collective: all ranks call them in the same order.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property, singledispatch
from pathlib import Path
from typing import Any

from torch import Tensor

from tailor.data import donor_images, task_data
from tailor.data.device_images import DeviceImages
from tailor.facts import datasets
from tailor.facts.datasets import DataInfo
from tailor.model.state import ModelState
from tailor.parallel.process_group import ProcessGroup
from tailor.stages import Stage, Task
from tailor.training.checkpoint import Checkpoint, Pause, never
from tailor.training.prediction import EpochValidation

Tensors = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True, eq=False)
class StageOutput:
    """What a stage stores: facts as JSON values, and the tensors that it changed."""

    info: dict[str, Any] = field(default_factory=dict)
    tensors: Tensors = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StageContext:
    """What a stage needs to be computed; it does not change the result."""

    ranks: ProcessGroup
    checkpoint_folder: Path | None
    checkpoint_every_s: float
    data_root: str | None = None  # of prepared data sets
    crop_px: int | None = None  # of the source's images; the input shape of the stages that read them has it
    weights: Path | None = None  # the file that `LoadWeights` reads
    latency_table: Path | None = None  # the file that `PruneByTable` reads
    validate_every: int | None = None  # epochs of a fine-tuning; None: it is not measured while it trains
    pause: Pause = never

    def checkpoint(self, key: str) -> Checkpoint:
        """The checkpoint of the stage with this key."""
        path = None if self.checkpoint_folder is None else self.checkpoint_folder / f"{key}.checkpoint"
        return Checkpoint(path, self.checkpoint_every_s, self.ranks, self.pause)

    def info(self, name: str) -> DataInfo:
        """What is known of a data set of the trial."""
        return datasets.info(name, self.data_root)

    def source(self, name: str) -> task_data.Samples:
        """All samples of the source task, fetched to this rank's device."""
        return self._device_images.place(task_data.source(name, self.data_root, self.crop_px))

    def outputs(self, task: Task) -> int:
        """Outputs of a head for a task: its classes, or 1 for real values."""
        info = self.info(task.name)
        return info.source_classes if task.images == "source" else info.target_classes

    def train(self, task: Task) -> task_data.Samples:
        """The images that a model is scored or trained by, fetched to this rank's device."""
        if task.images == "target":
            return self.splits(task).train
        return self._device_images.place(donor_images.train_samples(task, self.data_root))

    def splits(self, task: Task) -> task_data.Splits:
        """The target's splits, fetched to this rank's device."""
        splits = task_data.splits(task, self.data_root)
        images = self._device_images
        return task_data.Splits(
            train=images.place(splits.train),
            validation=images.place(splits.validation),
            test=images.place(splits.test),
        )

    def validation(self, task: Task) -> EpochValidation | None:
        """What measures the validation split while a model trains on this task, if it is asked for."""
        if self.validate_every is None:
            return None
        return EpochValidation(samples=self.splits(task).validation, every=self.validate_every, ranks=self.ranks)

    @cached_property
    def _device_images(self) -> DeviceImages:
        return DeviceImages(self.ranks.device)


@singledispatch
def compute(stage: Stage, parent: ModelState | None, context: StageContext) -> StageOutput:  # noqa: ARG001
    """Compute a stage from its parent's state; by default it stores nothing, and `apply` does all.

    Raises:
        ConfigError: the stage is impossible on this model (for example, a budget that it cannot lose).
        TrainingError: training diverged.
    """
    return StageOutput()


@singledispatch
def apply(stage: Stage, parent: ModelState | None, tensors: Tensors) -> ModelState:  # noqa: ARG001
    """The state after a stage, from its parent's state and what the stage stored.

    By default each part that is stored replaces that of the state; of `tensors` those that were not stored stay.
    """
    assert parent is not None  # stages without a parent have a function of their own
    parts = sorted({name.partition("/")[0] for name in tensors})
    stored: dict[str, Any] = {name: without_prefix(name, tensors) for name in parts}
    if "tensors" in stored:
        stored["tensors"] = parent.tensors | stored["tensors"]
    return replace(parent, **stored)


def add_prefix(part: str, tensors: Tensors) -> Tensors:
    """Tensors with the name of their part as a prefix, for `StageOutput.tensors`."""
    return {f"{part}/{name}": tensor for name, tensor in tensors.items()}


def without_prefix(name: str, tensors: Tensors) -> Tensors:
    """The tensors of one part without the prefix; sorted, because safetensors' order differs between processes."""
    prefix = f"{name}/"
    names = sorted(full_name for full_name in tensors if full_name.startswith(prefix))
    return {full_name.removeprefix(prefix): tensors[full_name] for full_name in names}
