"""Images of a task: loaded and verified once per process, split by a seed, served in batches that ranks share.

Shapes: N images, B images of one rank in a step, C channels, H height, W width.
"""

import hashlib
import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from tailor.catalog import DATASETS
from tailor.distributed import Ranks
from tailor.errors import ConfigError
from tailor.seeds import stream
from tailor.stage import Task


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples:
    """Images with labels, resident in memory."""

    images: Tensor  # (N, C, H, W) uint8
    labels: Tensor  # (N,) int64, from 0
    ids: Tensor  # (N,) int64, the image's number in its data set

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Tensor) -> "Samples":
        """The samples at `indices`, in that order."""
        return Samples(images=self.images[indices], labels=self.labels[indices], ids=self.ids[indices])

    def to(self, device: torch.device) -> "Samples":
        """The same samples on a device."""
        return Samples(images=self.images.to(device), labels=self.labels.to(device), ids=self.ids.to(device))


@dataclass(frozen=True, kw_only=True, eq=False)
class Splits:
    """A target task cut in three. Only an operating point's measurement may read `test`."""

    train: Samples
    validation: Samples
    test: Samples


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """One rank's share of a global batch; it may be empty where the global batch has fewer images than ranks."""

    images: Tensor  # (B, C, H, W) float32, normalised
    labels: Tensor  # (B,)
    global_count: int  # images of this step over all ranks


@lru_cache(maxsize=4)
def load(name: str) -> dict[str, Samples]:
    """Source and target of a data set by name, its arrays verified against the digest that stands in every key.

    Raises:
        ConfigError: the arrays are not those that the catalog describes.
    """
    info = DATASETS[name]
    module, function = info.loader.split(":")
    loaded: dict[str, Samples] = getattr(importlib.import_module(module), function)()
    found = digest(loaded)
    if found != info.sha256:
        raise ConfigError(
            f"data set {name!r} has SHA-256 {found}, expected {info.sha256}: "
            "its files differ from those that results are compared on"
        )
    return loaded


def digest(tasks: dict[str, Samples]) -> str:
    """SHA-256 over shapes, images and labels of all tasks."""
    sha256 = hashlib.sha256()
    for name in sorted(tasks):
        for tensor in (tasks[name].images, tasks[name].labels):
            sha256.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
            sha256.update(tensor.contiguous().numpy().tobytes())
    return sha256.hexdigest()


def source(name: str) -> Samples:
    """All images of the source task."""
    return load(name)["source"]


@lru_cache(maxsize=16)
def splits(task: Task) -> Splits:
    """The target's three splits: a permutation by the split seed, whose end is the test split.

    The test split has the catalog's size whatever `train_images` is, so it never moves between trials.
    """
    target, info = load(task.name)["target"], DATASETS[task.name]
    order = torch.randperm(len(target), generator=generator(task.split_seed, "split"))
    train, rest = order[: task.train_images], order[task.train_images :]
    validation, test = rest[: -info.test_images], rest[-info.test_images :]
    if task.images_per_class is not None and task.subset_seed is not None:
        train = _draw_per_class(train, target.labels, task.images_per_class, task.subset_seed)
    return Splits(train=target.take(train), validation=target.take(validation), test=target.take(test))


def generator(seed: int, purpose: str, *counters: int) -> torch.Generator:
    """A generator of its own for one purpose."""
    return torch.Generator().manual_seed(stream(seed, purpose, *counters))


def batches(
    samples: Samples, batch_size: int, seed: int, epoch: int, augmentation: str, ranks: Ranks, first_step: int = 0
) -> Iterator[Batch]:
    """The batches of one epoch from step `first_step` on, this rank's share of each.

    Order and augmentation depend on (seed, epoch, image) alone: neither ranks nor resuming change what is seen.
    """
    order = torch.randperm(len(samples), generator=generator(seed, "order", epoch)).to(samples.images.device)
    for start in range(first_step * batch_size, len(samples), batch_size):
        together = order[start : start + batch_size]
        mine = together[ranks.rank :: ranks.count]
        images, labels = samples.images.index_select(0, mine), samples.labels.index_select(0, mine)
        if augmentation == "shift":
            images = shift(images, samples.ids.index_select(0, mine), seed, epoch)
        yield Batch(images=normalise(images), labels=labels, global_count=len(together))


def normalise(images: Tensor) -> Tensor:
    """Float images in [-1, 1] of uint8 images in [0, 255]."""
    return images.div(127.5).sub_(1.0)  # dividing integers gives float32


def shift(images: Tensor, ids: Tensor, seed: int, epoch: int) -> Tensor:
    """Images (B, C, H, W) each moved by -1, 0 or 1 pixel in both directions, black coming in at the border.

    The move is a hash of (seed, epoch, image id), so no generator's state decides what an image looks like.
    """
    height, width = images.shape[-2:]
    draw = mix(ids + (stream(seed, "shift", epoch) & 0x7FFFFFFF))
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1))
    rows = (draw % 3)[:, None] + torch.arange(height, device=images.device)
    columns = (draw // 3 % 3)[:, None] + torch.arange(width, device=images.device)
    which = torch.arange(len(images), device=images.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[which, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def mix(numbers: Tensor) -> Tensor:
    """A 31-bit hash of each non-negative integer (two multiply-and-shift rounds on 32 bits)."""
    mask = 0xFFFFFFFF
    mixed = numbers & mask
    for multiplier in (0x45D9F3B, 0x119DE1F3):
        mixed = ((mixed ^ (mixed >> 16)) * multiplier) & mask
    return (mixed ^ (mixed >> 16)) >> 1


def _draw_per_class(indices: Tensor, labels: Tensor, per_class: int, seed: int) -> Tensor:
    """`per_class` of the indices for each class, or all that there are, drawn by `seed`."""
    shuffled = indices[torch.randperm(len(indices), generator=generator(seed, "draw"))]
    drawn = [shuffled[labels[shuffled] == label][:per_class] for label in labels.unique()]
    return torch.cat(drawn)
