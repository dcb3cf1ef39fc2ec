"""Images of a task: loaded and verified once per process, split by a seed, served in batches that ranks share.

Shapes: N samples, M images, B images of one rank in a step, C channels, H height, W width.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, reduce
from typing import Any

import torch
from torch import Tensor

from tailor.common.errors import ConfigError, explain_errors
from tailor.common.heartbeat import beat
from tailor.common.registry import function_of
from tailor.common.seeds import stream
from tailor.data import objective
from tailor.data.augmentation import augment, centre, draw_places
from tailor.data.image_changes import Draws, change_pixels, draw, erase, mix
from tailor.data.objective import Loss
from tailor.data.pool_draw import draw_splits
from tailor.data.sampling import AGAIN, balanced_order, image_weights, times_before
from tailor.facts import datasets
from tailor.facts.datasets import DATASETS, DataInfo
from tailor.facts.pool import split_sizes, two_sizes
from tailor.parallel.process_group import ProcessGroup
from tailor.stages import ImageChanges, Task, TrainingSettings

EVALUATION_BATCH = 256
PLAIN = TrainingSettings()


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
    groups: Tensor | None = None  # (N,) int64, of a whole target: equal for images that a split must keep together
    loss: Loss | None = None  # of a user's own task; None: that of the labels

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Tensor) -> "Samples":
        """Return the samples at `indices`, in that order."""
        rows = indices if self.rows is None else self.rows[indices]
        return replace(self, rows=rows, labels=self.labels[indices], ids=self.ids[indices], groups=None)

    def fetch(self, indices: Tensor | None = None) -> "Samples":
        """Return copies on `device` of the samples at `indices` (B,), None for all of them: images (B, C, H, W)."""
        if indices is None:
            indices = torch.arange(len(self), device=self.labels.device)
        return Samples(
            images=self.fetch_images(indices),
            labels=self.select(self.labels, indices),
            ids=self.select(self.ids, indices),
            crop_px=self.crop_px,
            loss=self.loss,
        )

    def fetch_images(self, indices: Tensor) -> Tensor:
        """Return copies on `device` of the images (B, C, H, W) at `indices` (B,), without their labels."""
        rows = indices if self.rows is None else self.rows.index_select(0, indices)
        return self.select(self.images, rows)

    def select(self, whole: Tensor, indices: Tensor) -> Tensor:
        """Return whole[indices] on `device`; from the host to a GPU through pinned memory, while the GPU computes."""
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
    is_whole: bool = True  # whether the epoch has no larger one
    loss: Loss | None = None
    terms: tuple[tuple[Tensor, Tensor], ...] = ()
    """Labels (B,) and the weights (B,) of their losses, which are added up; (): `labels`, each with weight 1."""

    def loss_sum(self, outputs: Any, label_smoothing: float = 0.0) -> Tensor:
        """Return the loss of the outputs (B, K), summed over the images."""
        if self.loss is not None:
            return self.loss(outputs, self.labels) * len(self.labels)
        if not self.terms:
            return objective.loss_sum(outputs, self.labels, label_smoothing)
        losses = [objective.weighted_loss_sum(outputs, *term, label_smoothing) for term in self.terms]
        return reduce(torch.add, losses)

    def is_right(self, outputs: Any) -> Tensor:
        """Return which images (B,) are classified correctly; NaN without classes."""
        if self.loss is not None:
            return torch.full((len(self.labels),), float("nan"), device=self.labels.device)
        return objective.is_right(outputs, self.labels)


def load(name: str, root: str | None = None) -> dict[str, Samples]:
    """Return source and target of a data set, and `test` if its test images are fixed.

    Arrays of the catalog are verified against the digest that is in every key. Prepared ones were verified when they
    were written; `transtailor data check` verifies them again.

    Raises:
        ConfigError: no such data set, or its arrays differ from its description (of a user's loader: in number, shape,
            type or labels).
    """
    return _load(name, root, datasets.info(name, root).sha256)


@lru_cache(maxsize=4)
def _load(name: str, root: str | None, _sha256: str | None) -> dict[str, Samples]:
    """Load a data set. With the digest as argument, a data set that was prepared again is read again."""
    info = datasets.info(name, root)
    if root is not None:
        prepared: dict[str, Samples] = function_of(info.loader)(root, name)
        return prepared
    with explain_errors(f"data set {name!r} cannot be loaded", "mend the loader of its DataInfo"):
        loaded: dict[str, Samples] = function_of(info.loader)()
    problems = [f"its loader returns a {type(loaded).__name__}, expected a dictionary of 'source' and 'target'"]
    if isinstance(loaded, dict):
        problems = list(_problems(loaded, info))
    if problems:
        raise ConfigError(f"data set {name!r} is not what its DataInfo says: {'; '.join(problems)}; change one of both")
    sha256 = digest(loaded)
    expected = DATASETS[name].sha256
    if expected is not None and sha256 != expected:
        raise ConfigError(
            f"data set {name!r} has SHA-256 {sha256}, expected {expected}: "
            "its files differ from those that results are compared on"
        )
    return loaded


def _problems(loaded: dict[str, Samples], info: DataInfo) -> Iterator[str]:
    """Yield each difference between a loader's samples and their record, as a message.

    The record's number of target images includes the test images.
    """
    if info.test_images < 1:
        yield f"its test_images is {info.test_images}, expected 1 or more"
    for task, samples in loaded.items():
        for part in ("images", "labels", "ids"):
            given = getattr(samples, part, None)
            if not isinstance(given, Tensor):
                yield f"{part} of {task}: expected Samples of tensors, given a {type(given).__name__}"
                return
    ids = torch.cat([samples.ids for samples in loaded.values()])
    repeated_count = len(ids) - len(ids.unique())
    if repeated_count:
        yield f"{repeated_count} ids are there twice, expected each once over {', '.join(loaded)} together"
    counts = {"source": info.source_images, "target": info.target_images}
    if "test" in loaded:
        counts["target"] = info.target_images - info.test_images
        counts["test"] = info.test_images
    for task, count in counts.items():
        if task in loaded:
            classes = info.source_classes if task == "source" else info.target_classes
            yield from _problems_of_task(task, loaded[task], count, classes, info.input_shape)
        elif count:
            yield f"it has no {task!r}"


def _problems_of_task(
    task: str, samples: Samples, count: int, classes: int, input_shape: tuple[int, ...]
) -> Iterator[str]:
    """Yield each difference between a task's samples and what they should be."""
    images_count = len(samples.images if samples.rows is None else samples.rows)
    label_type = torch.float32 if classes == 1 else torch.int64
    actual_and_expected = {
        "number of labels": (len(samples), count),
        "number of ids": (len(samples.ids), count),
        "number of images": (images_count, count),
        "shape of a sample": (tuple(samples.images.shape[1:]), tuple(input_shape)),
        "shape of a label": (tuple(samples.labels.shape[1:]), ()),
        "type of labels": (samples.labels.dtype, label_type),
    }
    if samples.images.dtype != torch.uint8:
        actual_and_expected["type of images"] = (samples.images.dtype, torch.float32)
    for subject, (actual, expected) in actual_and_expected.items():
        if actual != expected:
            yield f"the {subject} of {task} is {actual}, expected {expected}"
    for part, numbers in {"images": samples.images, "labels": samples.labels}.items():
        if numbers.is_floating_point() and (count := int((~numbers.isfinite()).sum())):
            yield f"{count} numbers in the {part} of {task} are NaN or infinite"
    if classes != 1:
        invalid_labels = set(samples.labels.unique().tolist()) - set(range(classes))
        if invalid_labels:
            yield f"{task} has labels such as {min(invalid_labels)}, expected 0 to {classes - 1}"


def digest(tasks: dict[str, Samples]) -> str:
    """Return the SHA-256 over shapes, images and labels of all tasks."""
    sha256 = hashlib.sha256()
    for name in sorted(tasks):
        samples = tasks[name].fetch()
        for tensor in (samples.images, samples.labels):
            sha256.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
            sha256.update(tensor.contiguous().numpy().tobytes())
    return sha256.hexdigest()


def source(name: str, root: str | None = None, crop_px: int | None = None) -> Samples:
    """Return all images of the source task.

    >>> len(source("digits"))
    901
    """
    return replace(load(name, root)["source"], crop_px=crop_px)


@lru_cache(maxsize=16)
def splits(task: Task, root: str | None = None) -> Splits:
    """Return the target's three splits.

    The split seed permutes the target's images: training images first, then validation images, and at the end the test
    images, unless these are fixed. So all trials with one split seed and one number of test images have the same test
    split, whatever `train_images` is. Of a pool and of images in groups, splits are drawn class by class, see
    `pool_draw.py`.

    Raises:
        ConfigError: the images of a class of a pool cannot be divided.
    """
    info = datasets.info(task.name, root)
    loaded = load(task.name, root)
    target = loaded["target"]
    fixed_test = loaded.get("test")
    random = generator(task.split_seed, "split")
    if target.groups is not None:
        if fixed_test is None:
            sizes = split_sizes(info.pool, task.train_images, info.test_images)
        else:
            images_of_class = dict(zip(info.class_names, target.labels.bincount().tolist(), strict=True))
            sizes = two_sizes(images_of_class, task.train_images)
        train, validation, test = draw_splits(target.labels, target.groups, sizes, random)
    else:
        order = torch.randperm(len(target), generator=random)
        test_images = 0 if fixed_test is not None else info.test_images
        validation_images = len(target) - task.train_images - test_images
        train, validation, test = order.split([task.train_images, validation_images, test_images])
    if task.images_per_class is not None and task.subset_seed is not None:
        train = _draw_per_class(train, target.labels, task.images_per_class, task.subset_seed)
    test_samples = target.take(test) if fixed_test is None else fixed_test
    return Splits(
        train=replace(target.take(train), crop_px=task.crop_px),
        validation=replace(target.take(validation), crop_px=task.crop_px),
        test=replace(test_samples, crop_px=task.crop_px),
    )


def generator(seed: int, purpose: str, *counters: int) -> torch.Generator:
    """Return a generator for one purpose, seeded by `tailor.common.seeds.stream`."""
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
    settings: TrainingSettings = PLAIN,
) -> Iterator[Batch]:
    """Yield the batches of one epoch from step `first_step` on, this rank's share of each.

    Order and augmentation depend only on (seed, epoch, image), so the number of ranks and interruptions change nothing.

    >>> alone = ProcessGroup(rank=0, world_size=1, device=torch.device("cpu"))
    >>> [len(batch.labels) for batch in batches(source("digits"), 400, 0, 0, "none", alone)]
    [400, 400, 101]

    Args:
        settings: changes of images, sampling and class weights are read.
    """
    order = epoch_order(samples, seed, epoch, settings)
    ids = samples.ids[order]
    if settings.sampling == "balanced":  # draws are those of a place in the order: an image may be shown twice
        ids = ids + times_before(order) * AGAIN
    epoch_images = _EpochImages(samples, order, ids, augmentation, settings, seed, epoch)
    is_mixed = bool(settings.mixup or settings.cutmix)
    weights = None  # of the images' losses, by their place in the order
    if settings.class_weights is not None:
        assert not isinstance(settings.class_weights, dict)  # `Recipe.tuning` has put them in the order of the labels
        weights = image_weights(samples.labels, settings.class_weights)[order]
    elif is_mixed:
        weights = torch.ones(len(order), device=order.device)
    places = torch.arange(len(order), device=order.device)
    for start in range(first_step * batch_size, len(samples), batch_size):
        beat()
        of_batch = places[start : start + batch_size]
        own = of_batch[ranks.rank :: ranks.world_size]
        images = epoch_images.at(own)
        labels = samples.select(samples.labels, order[own])
        terms: tuple[tuple[Tensor, Tensor], ...] = ()
        if weights is not None:
            terms = ((labels, samples.select(weights, own)),)
        if is_mixed:
            pairs = of_batch.roll(1)[ranks.rank :: ranks.world_size]  # of each image the one before it in the batch
            drawn = epoch_images.draws_at(own)
            images = mix(images, images.roll(1, 0) if ranks.world_size == 1 else epoch_images.at(pairs), drawn)
            ((_, own_weights),) = terms
            assert drawn.share is not None and weights is not None
            other_labels = samples.select(samples.labels, order[pairs])
            other_weights = samples.select(weights, pairs) * (1.0 - drawn.share)
            terms = ((labels, own_weights * drawn.share), (other_labels, other_weights))
            labels = torch.where(drawn.share >= 0.5, labels, other_labels)  # by which answers count as correct
        is_whole = len(of_batch) == min(batch_size, len(samples))
        yield Batch(
            images=images, labels=labels, global_count=len(of_batch), is_whole=is_whole, loss=samples.loss, terms=terms
        )  # fmt: skip


class _EpochImages:
    """The images of an epoch by their places in its order, moved, changed and normalised, but not mixed."""

    def __init__(
        self,
        samples: Samples,
        order: Tensor,
        ids: Tensor,
        augmentation: str,
        settings: ImageChanges,
        seed: int,
        epoch: int,
    ) -> None:
        self._samples = samples
        self._order = order
        self._augmentation = augmentation
        self._settings = settings
        self._moves: Tensor | None = None
        self._draws = Draws()
        if samples.images.dim() == 4:
            size = samples.images.shape[2:]
            self._moves = draw_places(augmentation, ids, size, samples.crop_px, seed, epoch)
            shown_size = size if samples.crop_px is None else (samples.crop_px, samples.crop_px)
            self._draws = draw(settings, ids, shown_size, seed, epoch)

    def at(self, places: Tensor) -> Tensor:
        """Return the images (B, C, H, W) at these places (B,), or rows of numbers (B, inputs)."""
        samples = self._samples
        images = samples.fetch_images(self._order[places])
        if samples.images.dim() != 4:
            return normalise(images)
        moves = None if self._moves is None else samples.select(self._moves, places)
        drawn = self.draws_at(places)
        images = augment(images, self._augmentation, moves, samples.crop_px)
        return erase(normalise(change_pixels(images, drawn)), drawn.erased)

    def draws_at(self, places: Tensor) -> Draws:
        """Return what was drawn for these images."""
        return self._draws.at(lambda whole: self._samples.select(whole, places))


def epoch_order(samples: Samples, seed: int, epoch: int, settings: TrainingSettings) -> Tensor:
    """Return the samples of an epoch (N,) by their indices, on the device of the samples."""
    device = samples.labels.device
    numbers = generator(seed, "order", epoch)
    if settings.sampling == "balanced":
        return balanced_order(samples.labels.cpu(), numbers).to(device)
    order = torch.randperm(len(samples), generator=numbers, pin_memory=_has_memory_of_its_own(device))
    return order.to(device, non_blocking=True)  # pinned memory: the host does not wait for a GPU


def ordered_batches(samples: Samples) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images (B, ...) as evaluation sees them, normalised, and their labels (B,), batch by batch."""
    for indices in torch.arange(len(samples), device=samples.labels.device).split(EVALUATION_BATCH):
        beat()
        batch = samples.fetch(indices)
        yield normalise(centre(batch.images, samples.crop_px)), batch.labels


def normalise(images: Tensor) -> Tensor:
    """Return float images in [-1, 1] of uint8 images in [0, 255]; float images are returned as they are.

    >>> normalise(torch.tensor([0, 255], dtype=torch.uint8)).tolist()
    [-1.0, 1.0]
    """
    if images.is_floating_point():
        return images
    return images.float().div_(127.5).sub_(1.0)  # dividing integers gives the same bits, many times slower


def _draw_per_class(indices: Tensor, labels: Tensor, per_class: int, seed: int) -> Tensor:
    """Draw `per_class` of the indices for each class, or all if there are fewer; real values count as one class."""
    shuffled = indices[torch.randperm(len(indices), generator=generator(seed, "draw"))]
    if labels.is_floating_point():
        return shuffled[:per_class]
    drawn = [shuffled[labels[shuffled] == label][:per_class] for label in labels.unique()]
    return torch.cat(drawn)
