"""Images of a task: loaded and verified once per process, split by a seed, served in batches that ranks share.

Shapes: N samples, M images, B images of one rank in a step, C channels, H height, W width.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from tailor.catalogue import datasets
from tailor.catalogue.datasets import DATASETS
from tailor.core.errors import ConfigError
from tailor.core.heartbeat import sign
from tailor.core.registry import function_of
from tailor.core.seeds import stream
from tailor.data.augmentation import augmented, centre
from tailor.parallel.process_group import ProcessGroup
from tailor.stages import Task

EVALUATION_BATCH = 256


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples:
    """Images with labels. What is taken of them shares their images; pixels are copied when they are fetched.

    All tensors lie together: on the host, the images perhaps in a memory map, or on the device that trains.
    """

    images: Tensor  # (M, C, H, W) uint8, or rows of numbers (M, inputs) float32
    labels: Tensor  # (N,) int64, from 0, or real values float32
    ids: Tensor  # (N,) int64, the image's number in its data set
    rows: Tensor | None = None  # (N,) int64, each sample's place in `images`; None: N = M, in their order
    crop_px: int | None = None  # a network sees a square of so many pixels of each image; None: all of it
    device: torch.device | None = None  # where fetched samples lie; None: where these do

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Tensor) -> "Samples":
        """The samples at `indices`, in that order."""
        rows = indices if self.rows is None else self.rows[indices]
        return replace(self, rows=rows, labels=self.labels[indices], ids=self.ids[indices])

    def fetch(self, places: Tensor | None = None) -> "Samples":
        """Copies of the samples at `places` (B,), None for all of them: images (B, C, H, W), on `device`."""
        if places is None:
            places = torch.arange(len(self), device=self.labels.device)
        rows = places if self.rows is None else self.rows.index_select(0, places)
        return Samples(
            images=self._selected(self.images, rows),
            labels=self._selected(self.labels, places),
            ids=self._selected(self.ids, places),
            crop_px=self.crop_px,
        )

    def _selected(self, whole: Tensor, places: Tensor) -> Tensor:
        """whole[places] on `device`; from the host to a GPU through pinned memory, beside what the GPU does."""
        if self.device is None or self.device == whole.device:
            return whole.index_select(0, places)
        shape, is_pinned = (len(places), *whole.shape[1:]), self.device.type == "cuda"
        buffer = torch.empty(shape, dtype=whole.dtype, pin_memory=is_pinned)
        return torch.index_select(whole, 0, places, out=buffer).to(self.device, non_blocking=True)


@dataclass(frozen=True, kw_only=True, eq=False)
class Splits:
    """A target task cut in three. Only an operating point's measurement may read `test`."""

    train: Samples
    validation: Samples
    test: Samples


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """One rank's share of a global batch; it may be empty where the global batch has fewer images than ranks."""

    images: Tensor  # (B, C, H, W) or (B, inputs) float32, normalised
    labels: Tensor  # (B,)
    global_count: int  # images of this step over all ranks


@lru_cache(maxsize=4)
def load(name: str, root: str | None = None) -> dict[str, Samples]:
    """Source and target of a data set, and `test` where its test images are fixed.

    Arrays of the catalog's are verified against the digest that stands in every key; prepared ones were when they were
    written, and `python -m tailor data check` does it again.

    Raises:
        ConfigError: no such data set, or its arrays are not those that it is described with.
    """
    loader = function_of(datasets.info(name, root).loader)
    if root is not None:
        prepared: dict[str, Samples] = loader(root, name)
        return prepared
    loaded: dict[str, Samples] = loader()
    found, expected = digest(loaded), DATASETS[name].sha256
    if expected is not None and found != expected:
        raise ConfigError(
            f"data set {name!r} has SHA-256 {found}, expected {expected}: "
            "its files differ from those that results are compared on"
        )
    return loaded


def digest(tasks: dict[str, Samples]) -> str:
    """SHA-256 over shapes, images and labels of all tasks."""
    sha256 = hashlib.sha256()
    for name in sorted(tasks):
        samples = tasks[name].fetch()
        for tensor in (samples.images, samples.labels):
            sha256.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
            sha256.update(tensor.contiguous().numpy().tobytes())
    return sha256.hexdigest()


def source(name: str, root: str | None = None, crop_px: int | None = None) -> Samples:
    """All images of the source task."""
    return replace(load(name, root)["source"], crop_px=crop_px)


@lru_cache(maxsize=16)
def splits(task: Task, root: str | None = None) -> Splits:
    """The target's three splits: a permutation by the split seed, whose end is the test split unless that is fixed.

    The test split has the data set's size whatever `train_images` is, so it never moves between trials.
    """
    loaded = load(task.name, root)
    target, fixed_test = loaded["target"], loaded.get("test")
    order = torch.randperm(len(target), generator=generator(task.split_seed, "split"))
    train, rest = order[: task.train_images], order[task.train_images :]
    test_images = 0 if fixed_test is not None else datasets.info(task.name, root).test_images
    validation, test = rest[: len(rest) - test_images], rest[len(rest) - test_images :]
    if task.images_per_class is not None and task.subset_seed is not None:
        train = _draw_per_class(train, target.labels, task.images_per_class, task.subset_seed)
    parts = {
        "train": target.take(train),
        "validation": target.take(validation),
        "test": target.take(test) if fixed_test is None else fixed_test,
    }
    return Splits(**{name: replace(part, crop_px=task.crop_px) for name, part in parts.items()})


def generator(seed: int, purpose: str, *counters: int) -> torch.Generator:
    """A generator of its own for one purpose."""
    return torch.Generator().manual_seed(stream(seed, purpose, *counters))


def batches(
    samples: Samples,
    batch_size: int,
    seed: int,
    epoch: int,
    augmentation: str,
    ranks: ProcessGroup,
    first_step: int = 0,
) -> Iterator[Batch]:
    """The batches of one epoch from step `first_step` on, this rank's share of each.

    Order and augmentation depend on (seed, epoch, image) alone: neither ranks nor resuming change what is seen.
    """
    order = torch.randperm(len(samples), generator=generator(seed, "order", epoch)).to(samples.labels.device)
    for start in range(first_step * batch_size, len(samples), batch_size):
        together = order[start : start + batch_size]
        sign()
        mine = samples.fetch(together[ranks.rank :: ranks.count])
        images = mine.images
        if images.dim() == 4:
            images = augmented(images, mine.ids, augmentation, seed, epoch, samples.crop_px)
        yield Batch(images=normalise(images), labels=mine.labels, global_count=len(together))


def in_order(samples: Samples) -> Iterator[tuple[Tensor, Tensor]]:
    """Images (B, ...) as evaluation sees them, normalised, and their labels (B,), batch by batch."""
    for places in torch.arange(len(samples), device=samples.labels.device).split(EVALUATION_BATCH):
        sign()
        some = samples.fetch(places)
        yield normalise(centre(some.images, samples.crop_px)), some.labels


def normalise(images: Tensor) -> Tensor:
    """Float images in [-1, 1] of uint8 images in [0, 255]; what is float already, as it is."""
    if images.is_floating_point():
        return images
    return images.float().div_(127.5).sub_(1.0)  # torch divides integers to the same bits, many times slower


def _draw_per_class(indices: Tensor, labels: Tensor, per_class: int, seed: int) -> Tensor:
    """`per_class` of the indices for each class, or all that there are, drawn by `seed`; real values are one class."""
    shuffled = indices[torch.randperm(len(indices), generator=generator(seed, "draw"))]
    if labels.is_floating_point():
        return shuffled[:per_class]
    drawn = [shuffled[labels[shuffled] == label][:per_class] for label in labels.unique()]
    return torch.cat(drawn)
