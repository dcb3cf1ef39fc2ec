"""A prepared data set as samples for training; all of a task's samples share its memory map."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tailor.data import arrays
from tailor.data.task_data import Samples


def load(root: str, name: str) -> dict[str, Samples]:
    """Return the tasks `source`, `target` without its test images, and `test` with these; images uint8 (N, 3, H, W).

    A pool has no `test`: its target has all images, with their groups. Other targets may have groups, too.

    Raises:
        ConfigError: no such data set, or files that differ from its manifest.
    """
    arrays_by_task = arrays.load(Path(root), name)
    samples_by_task = {task: _samples(task_arrays) for task, task_arrays in arrays_by_task.items()}
    target = samples_by_task["target"]
    group = arrays_by_task["target"].group
    groups = None if group is None else torch.from_numpy(group.copy())
    is_test = torch.from_numpy(arrays_by_task["target"].is_test.copy())
    if not is_test.any():
        return samples_by_task | {"target": replace(target, groups=groups)}
    trained = (~is_test).nonzero().flatten()
    return {
        "source": samples_by_task["source"],
        "target": replace(target.take(trained), groups=None if groups is None else groups[trained]),
        "test": target.take(is_test.nonzero().flatten()),
    }


def _samples(task_arrays: arrays.Arrays) -> Samples:
    return Samples(
        images=image_tensor(task_arrays.images),
        labels=torch.from_numpy(task_arrays.labels.copy()),
        ids=torch.from_numpy(task_arrays.ids.copy()),
    )


def image_tensor(images: NDArray[np.uint8]) -> Tensor:
    """Return the images of `Arrays` as a tensor over the same pages of memory, without a copy.

    The map is private: writing to the tensor would not change the file.
    """
    assert isinstance(images, np.memmap) and images.filename is not None
    return torch.from_numpy(np.load(images.filename, mmap_mode="c", allow_pickle=False))
