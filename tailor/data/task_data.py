"""Images of a task: loaded and verified once per process, split by a seed, served in batches that ranks share.

Shapes: N samples, M images, B images of one rank in a step, C channels, H height, W width.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from tailor.catalogue import datasets
from tailor.catalogue.datasets import DATASETS, DataInfo
from tailor.catalogue.pool import split_sizes
from tailor.core.errors import ConfigError
from tailor.core.heartbeat import beat
from tailor.core.registry import function_of
from tailor.core.seeds import stream
from tailor.data import objective
from tailor.data.augmentation import augment, centre, draw_places
from tailor.data.objective import Loss
from tailor.data.pool_draw import draw_splits
from tailor.parallel.process_group import ProcessGroup
from tailor.stages import Task

EVALUATION_BATCH = 256


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples:
    """Images with labels. `take` shares the images; `fetch` copies pixels.

    All tensors are on one device: on the host, the images perhaps in a memory map, or on the device that trains.

    >>> two = Samples(images=torch.zeros(2, 1, 8, 8), labels=torch.tensor([0, 1]), ids=torch.tensor([10, 11]))
    >>> len(two), two.take(torch.tensor([1])).ids.tolist()
    (2, [11])
    """

    images: Tensor  # (M, C, H, W) uint8, or rows of numbers (M, inputs) float32
    labels: Tensor  # (N,) int64, from 0, or real values float32
    ids: Tensor  # (N,) int64, the image's number in its data set
    rows: Tensor | None = None  # (N,) int64, each sample's index in `images`; None: N = M, in order
    crop_px: int | None = None  # side of the square that a network sees; None: the whole image
    device: torch.device | None = None  # of fetched samples; None: the device of these
    groups: Tensor | None = None  # (N,) int64, of a whole pool: equal for images that a split must keep together
    loss: Loss | None = None  # of a user's own task; None: that of the labels

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Tensor) -> "Samples":
        """The samples at `indices`, in that order."""
        rows = indices if self.rows is None else self.rows[indices]
        return replace(self, rows=rows, labels=self.labels[indices], ids=self.ids[indices], groups=None)

    def fetch(self, indices: Tensor | None = None) -> "Samples":
        """Copies on `device` of the samples at `indices` (B,), None for all of them: images (B, C, H, W)."""
        if indices is None:
            indices = torch.arange(len(self), device=self.labels.device)
        rows = indices if self.rows is None else self.rows.index_select(0, indices)
        return Samples(
            images=self.select(self.images, rows),
            labels=self.select(self.labels, indices),
            ids=self.select(self.ids, indices),
            crop_px=self.crop_px,
            loss=self.loss,
        )

    def select(self, whole: Tensor, indices: Tensor) -> Tensor:
        """whole[indices] on `device`; from the host to a GPU through pinned memory, while the GPU computes."""
        if self.device is None or self.device == whole.device:
            return whole.index_select(0, indices)
        shape = (len(indices), *whole.shape[1:])
        buffer = torch.empty(shape, dtype=whole.dtype, pin_memory=_has_memory_of_its_own(self.device))
        return torch.index_select(whole, 0, indices, out=buffer).to(self.device, non_blocking=True)


@dataclass(frozen=True, kw_only=True, eq=False)
class Splits:
    """The three splits of a target task. Only the measurement of an operating point may read `test`."""

    train: Samples
    validation: Samples
    test: Samples


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """One rank's share of a global batch; empty if the global batch has fewer images than ranks."""

    images: Tensor  # (B, C, H, W) or (B, inputs) float32, normalised
    labels: Tensor  # (B,)
    global_count: int  # images of this step over all ranks
    loss: Loss | None = None

    def loss_sum(self, outputs: Any, label_smoothing: float = 0.0) -> Tensor:
        """The loss of the outputs (B, K), summed over the images."""
        if self.loss is not None:
            return self.loss(outputs, self.labels) * len(self.labels)
        return objective.loss_sum(outputs, self.labels, label_smoothing)

    def is_right(self, outputs: Any) -> Tensor:
        """Which images (B,) are classified correctly; NaN without classes."""
        if self.loss is not None:
            return torch.full((len(self.labels),), float("nan"), device=self.labels.device)
        return objective.is_right(outputs, self.labels)


def load(name: str, root: str | None = None) -> dict[str, Samples]:
    """Source and target of a data set, and `test` if its test images are fixed.

    Arrays of the catalog are verified against the digest that is in every key. Prepared ones were verified when they
    were written; `transtailor data check` verifies them again.

    Raises:
        ConfigError: no such data set, or its arrays differ from its description (of a user's loader: in number, shape,
            type or labels).
    """
    return _load(name, root, datasets.info(name, root).sha256)


@lru_cache(maxsize=4)
def _load(name: str, root: str | None, _sha256: str | None) -> dict[str, Samples]:
    """Samples are remembered for their digest, and so read again when the data set was prepared again."""
    info = datasets.info(name, root)
    loader = function_of(info.loader)
    if root is not None:
        prepared: dict[str, Samples] = loader(root, name)
        return prepared
    loaded: dict[str, Samples] = loader()
    if problems := list(_problems(loaded, info)):
        raise ConfigError(f"data set {name!r} is not what its DataInfo says: {'; '.join(problems)}; change one of both")
    found, expected = digest(loaded), DATASETS[name].sha256
    if expected is not None and found != expected:
        raise ConfigError(
            f"data set {name!r} has SHA-256 {found}, expected {expected}: "
            "its files differ from those that results are compared on"
        )
    return loaded


def _problems(loaded: dict[str, Samples], info: DataInfo) -> Iterator[str]:
    """In what a loader's samples differ from their record; the target's number there includes the test images."""
    counts = {"source": info.source_images, "target": info.target_images}
    if "test" in loaded:
        counts |= {"target": info.target_images - info.test_images, "test": info.test_images}
    for task, count in counts.items():
        if task in loaded:
            samples, classes = loaded[task], info.source_classes if task == "source" else info.target_classes
            found = {
                "number of labels": (len(samples), count),
                "number of ids": (len(samples.ids), count),
                "number of images": (len(samples.images if samples.rows is None else samples.rows), count),
                "shape of a sample": (tuple(samples.images.shape[1:]), tuple(info.input_shape)),
                "type of labels": (samples.labels.dtype, torch.float32 if classes == 1 else torch.int64),
            }
            yield from (
                f"the {what} of {task} is {is_}, expected {of}" for what, (is_, of) in found.items() if is_ != of
            )
            labels = {*samples.labels.unique().tolist()} if classes > 1 else set()
            if others := labels - {*range(classes)}:
                yield f"{task} has labels such as {min(others)}, expected 0 to {classes - 1}"
        elif count:
            yield f"it has no {task!r}"


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
    """All images of the source task.

    >>> len(source("digits"))
    901
    """
    return replace(load(name, root)["source"], crop_px=crop_px)


@lru_cache(maxsize=16)
def splits(task: Task, root: str | None = None) -> Splits:
    """The target's three splits: a permutation by the split seed; its end is the test split unless that is fixed.

    The size of the test split does not depend on `train_images`, so all trials with one split seed have the same test
    split. Of a pool the three are drawn class by class, see `pool_draw.py`.

    Raises:
        ConfigError: the images of a class of a pool cannot be divided.
    """
    loaded, info = load(task.name, root), datasets.info(task.name, root)
    target, fixed_test = loaded["target"], loaded.get("test")
    random = generator(task.split_seed, "split")
    if target.groups is not None:
        sizes = split_sizes(info.pool, task.train_images, info.test_images)
        train, validation, test = draw_splits(target.labels, target.groups, sizes, random)
    else:
        order = torch.randperm(len(target), generator=random)
        test_images = 0 if fixed_test is not None else info.test_images
        rest = len(target) - task.train_images - test_images
        train, validation, test = order.split([task.train_images, rest, test_images])
    if task.images_per_class is not None and task.subset_seed is not None:
        train = _draw_per_class(train, target.labels, task.images_per_class, task.subset_seed)
    parts = {
        "train": target.take(train),
        "validation": target.take(validation),
        "test": target.take(test) if fixed_test is None else fixed_test,
    }
    return Splits(**{name: replace(part, crop_px=task.crop_px) for name, part in parts.items()})


def generator(seed: int, purpose: str, *counters: int) -> torch.Generator:
    """A generator for one purpose, seeded by `tailor.core.seeds.stream`."""
    return torch.Generator().manual_seed(stream(seed, purpose, *counters))


def _has_memory_of_its_own(device: torch.device) -> bool:
    """Whether a copy to the device is one from pinned memory, which the host need not wait for."""
    return device.type not in ("cpu", "meta")


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

    Order and augmentation depend only on (seed, epoch, image), so the number of ranks and interruptions change nothing.

    >>> alone = ProcessGroup(rank=0, world_size=1, device=torch.device("cpu"))
    >>> [len(batch.labels) for batch in batches(source("digits"), 400, 0, 0, "none", alone)]
    [400, 400, 101]
    """
    home = samples.labels.device
    drawn = torch.randperm(
        len(samples), generator=generator(seed, "order", epoch), pin_memory=_has_memory_of_its_own(home)
    )
    order = drawn.to(home, non_blocking=True)  # pinned memory: the host does not wait for a GPU
    are_images, places = samples.images.dim() == 4, None
    if are_images:
        places = draw_places(augmentation, samples.ids, samples.images.shape[2:], samples.crop_px, seed, epoch)
    for start in range(first_step * batch_size, len(samples), batch_size):
        together = order[start : start + batch_size]
        beat()
        share = together[ranks.rank :: ranks.world_size]
        mine = samples.fetch(share)
        images = mine.images
        if are_images:
            there = None if places is None else samples.select(places, share)
            images = augment(images, augmentation, there, samples.crop_px)
        yield Batch(images=normalise(images), labels=mine.labels, global_count=len(together), loss=samples.loss)


def ordered_batches(samples: Samples) -> Iterator[tuple[Tensor, Tensor]]:
    """Images (B, ...) as evaluation sees them, normalised, and their labels (B,), batch by batch."""
    for indices in torch.arange(len(samples), device=samples.labels.device).split(EVALUATION_BATCH):
        beat()
        part = samples.fetch(indices)
        yield normalise(centre(part.images, samples.crop_px)), part.labels


def normalise(images: Tensor) -> Tensor:
    """Float images in [-1, 1] of uint8 images in [0, 255]; float images are returned as they are.

    >>> normalise(torch.tensor([0, 255], dtype=torch.uint8)).tolist()
    [-1.0, 1.0]
    """
    if images.is_floating_point():
        return images
    return images.float().div_(127.5).sub_(1.0)  # dividing integers gives the same bits, many times slower


def _draw_per_class(indices: Tensor, labels: Tensor, per_class: int, seed: int) -> Tensor:
    """`per_class` of the indices for each class, or all if there are fewer, by `seed`; real values are one class."""
    shuffled = indices[torch.randperm(len(indices), generator=generator(seed, "draw"))]
    if labels.is_floating_point():
        return shuffled[:per_class]
    drawn = [shuffled[labels[shuffled] == label][:per_class] for label in labels.unique()]
    return torch.cat(drawn)
