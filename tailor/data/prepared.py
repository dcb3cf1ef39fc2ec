"""A prepared data set as samples for training; all of a task's samples share its memory map."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tailor.data.task_data import Samples
from tailor.prepare import arrays


def load(root: str, name: str) -> dict[str, Samples]:
    """The tasks `source`, `target` without its test images, and `test` with these; images uint8 (N, 3, H, W).

    A pool has no `test`: its target has all images, with their groups.

    Raises:
        ConfigError: no such data set, or files that differ from its manifest.
    """
    found = arrays.load(Path(root), name)
    tasks = {task: _samples(part) for task, part in found.items()}
    target, groups = tasks["target"], found["target"].group
    if groups is not None:
        return tasks | {"target": replace(target, groups=torch.from_numpy(groups.copy()))}
    is_test = torch.from_numpy(found["target"].is_test.copy())
    return {
        "source": tasks["source"],
        "target": target.take((~is_test).nonzero().flatten()),
        "test": target.take(is_test.nonzero().flatten()),
    }


def _samples(part: arrays.Arrays) -> Samples:
    return Samples(
        images=image_tensor(part.images),
        labels=torch.from_numpy(part.labels.copy()),
        ids=torch.from_numpy(part.ids.copy()),
    )


def image_tensor(images: NDArray[np.uint8]) -> Tensor:
    """The images of `Arrays` as a tensor over the same pages of memory, without a copy.

    The map is private: writing to the tensor would not change the file.
    """
    assert isinstance(images, np.memmap) and images.filename is not None
    return torch.from_numpy(np.load(images.filename, mmap_mode="c", allow_pickle=False))
