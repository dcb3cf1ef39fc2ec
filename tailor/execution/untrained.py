"""Classes of which a draw of training or validation images has none, or fewer than were asked for."""

from functools import lru_cache
from math import lgamma
from pathlib import Path

import numpy as np

from tailor.common.errors import ConfigError
from tailor.config.data import DataConfig
from tailor.config.trial import TrialConfig
from tailor.data import arrays
from transtailor.plural import first_few

CERTAIN = 1e-4  # no class is looked for that a draw misses more rarely: `plan` needs no torch for it


@lru_cache(maxsize=256)
def missed_classes(data: DataConfig, split: str) -> tuple[str, ...]:
    """Return the classes of which no `train` or `validation` image is drawn, by name; none of other data than images.

    Pools are drawn class by class, so that each has some.
    """
    target = None if data.info.pool else _target(data)
    if target is None:
        return ()
    images_of_class = np.bincount(target.labels[~target.is_test], minlength=len(data.info.class_names))
    total = int(images_of_class.sum())
    drawn = data.train_images if split == "train" else total - data.train_images
    if all(_missed(total, int(images), drawn) < CERTAIN for images in images_of_class):
        return ()
    return tuple(name for name, images in zip(data.info.class_names, _drawn(data, split), strict=True) if not images)


def missed_text(split: str, data: DataConfig) -> str:
    """Return a sentence about the classes of which no `train` or `validation` image is drawn; "" if there are none."""
    classes = missed_classes(data, split)
    if not classes:
        return ""
    noun, images, change = "training", data.train_images, "raise"
    if split == "validation":
        noun, images, change = split, split_images(data)[1], "lower"
    return (
        f"data set {data.name}: no {noun} image, among {images} at data.split_seed = {data.split_seed}, of "
        f"{len(classes)} of its {len(data.info.class_names)} classes: {first_few([*map(repr, classes)])}; {change} "
        "data.train_images, or prepare the images without them"
    )


def trained_images(config: TrialConfig) -> int:
    """Return how many images of the target a trial trains on: all of a class that has fewer than `images_per_class`."""
    return sum(limited_images(config.data)) or config.train_images


def split_images(data: DataConfig) -> list[int]:
    """Return how many training, validation and test images a trial has; in a pool, copies may change it."""
    target = _target(data)
    used = sum(limited_images(data))
    if data.info.target_classes == 1:  # real values count as one class
        used = min(data.train_images, data.images_per_class or data.train_images)
    if target is not None and target.group is not None and len(np.unique(target.group)) < len(target):
        whole = data.model_copy(update={"images_per_class": None})
        train, validation = (sum(_drawn(whole, split)) for split in ("train", "validation"))
    else:
        train = data.train_images
        validation = data.info.target_images - train - data.info.test_images
    return [used or train, validation, data.info.target_images - train - validation]


def limited_images(data: DataConfig) -> tuple[int, ...]:
    """Return how many images of each class a trial trains on; () if `images_per_class` limits none of them."""
    if data.images_per_class is None or data.info.target_classes == 1:
        return ()
    try:
        return _drawn(data, "train")
    except ConfigError:  # what is wrong with its files is said by who trains on them
        return ()


def _target(data: DataConfig) -> arrays.Arrays | None:
    """Return the target of prepared images; None if it cannot be read: who trains on it says why."""
    try:
        return None if data.root is None else arrays.load(Path(data.root), data.name)["target"]
    except ConfigError:
        return None


@lru_cache(maxsize=256)
def _drawn(data: DataConfig, split: str) -> tuple[int, ...]:
    """Return how many images of each class a trial's split has."""
    from tailor.data import task_data
    from tailor.methods.recipe import task_of

    labels = getattr(task_data.splits(task_of(data, 0), data.root), split).labels
    return tuple(labels.bincount(minlength=data.info.target_classes).tolist())


def _missed(total: int, images: int, drawn: int) -> float:
    """Return the probability that `drawn` of `total` images have none of a class of `images`.

    >>> round(_missed(10, 2, 4), 3)  # 6/10 * 5/9
    0.333
    """
    others = total - images
    if drawn > others:
        return 0.0
    log_ways = lgamma(others + 1) - lgamma(others - drawn + 1) - lgamma(total + 1) + lgamma(total - drawn + 1)
    return float(np.exp(log_ways))
