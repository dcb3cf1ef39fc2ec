"""What each kind of stage does: `compute` makes what the stage stores, `apply` turns the parent's state into the next.

`apply` alone makes the next state, whether the stage was computed now or read from the cache: so cached equals
computed. Both are collective: all ranks call them in the same order.
"""

from dataclasses import dataclass, field
from functools import cached_property, singledispatch
from pathlib import Path
from typing import Any

from torch import Tensor

from tailor.catalogue import datasets
from tailor.catalogue.datasets import DataInfo
from tailor.core.errors import ConfigError
from tailor.data import task_data
from tailor.data.device_images import Residence
from tailor.model.state import ModelState
from tailor.parallel.process_group import ProcessGroup
from tailor.stages import Stage, Task
from tailor.training.checkpoint import Checkpoint, Pause, never

Tensors = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True, eq=False)
class Made:
    """What a stage stores: facts as JSON values, and the tensors that it changed."""

    info: dict[str, Any] = field(default_factory=dict)
    tensors: Tensors = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Workplace:
    """Where a stage is computed; nothing here changes its result."""

    ranks: ProcessGroup
    checkpoint_folder: Path | None
    checkpoint_every_s: float
    data_root: str | None = None  # of prepared data sets
    crop_px: int | None = None  # of the source's images; it stands in the input shape of the stages that read them
    weights: Path | None = None  # the file that `LoadWeights` reads
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
        return self._residence.place(task_data.source(name, self.data_root, self.crop_px))

    def splits(self, task: Task) -> task_data.Splits:
        """The target's splits, fetched to this rank's device."""
        found, place = task_data.splits(task, self.data_root), self._residence.place
        return task_data.Splits(train=place(found.train), validation=place(found.validation), test=place(found.test))

    @cached_property
    def _residence(self) -> Residence:
        return Residence(self.ranks.device)


@singledispatch
def compute(todo: Stage, parent: ModelState | None, place: Workplace) -> Made:  # noqa: ARG001
    """Do the work of a stage on its parent's state; by default there is none, and `apply` says it all.

    Raises:
        ConfigError: the stage is impossible on this model (a budget that it cannot lose, say).
        TrainingError: training diverged.
    """
    return Made()


@singledispatch
def apply(done: Stage, parent: ModelState | None, tensors: Tensors) -> ModelState:  # noqa: ARG001
    """The state after a stage, from its parent's state and what the stage stored."""
    raise ConfigError(f"no way to apply a stage of kind {done.kind!r}")


def named(part: str, tensors: Tensors) -> Tensors:
    """Tensors under the name of the part that they belong to, for `Made.tensors`."""
    return {f"{part}/{name}": tensor for name, tensor in tensors.items()}


def part(name: str, tensors: Tensors) -> Tensors:
    """The tensors of one part, as `named` stored them; sorted, because safetensors' order differs between processes."""
    return {n.removeprefix(f"{name}/"): tensors[n] for n in sorted(tensors) if n.startswith(f"{name}/")}
