"""Classes of which a draw of training images has none, or fewer than were asked for."""

from functools import lru_cache
from math import lgamma
from pathlib import Path

import numpy as np

from tailor.common.errors import ConfigError
from tailor.config.data import DataConfig
from tailor.prepare import arrays

SHOWN = 5  # names in a message
CERTAIN = 1e-4  # no class is looked for that a draw misses more rarely: `plan` needs no torch for it


@lru_cache(maxsize=256)
def untrained_classes(data: DataConfig) -> tuple[str, ...]:
    """Return the classes of which no training image is drawn, by name; none of other data than prepared images.

    Pools are drawn class by class, so that each has some.
    """
    if data.root is None or data.info.pool:
        return ()
    try:
        target = arrays.load(Path(data.root), data.name)["target"]
    except ConfigError:  # what is wrong with its files is said by who trains on them
        return ()
    images_of_class = np.bincount(target.labels[~target.is_test], minlength=len(data.info.class_names))
    total = int(images_of_class.sum())
    if all(_missed(total, int(images), data.train_images) < CERTAIN for images in images_of_class):
        return ()
    return tuple(name for name, images in _drawn(data).items() if not images)


def untrained_text(data: DataConfig) -> str:
    """Return a sentence about the classes of which no training image is drawn; "" if there are none."""
    classes = untrained_classes(data)
    if not classes:
        return ""
    names = ", ".join(map(repr, classes[:SHOWN])) + (", ..." if len(classes) > SHOWN else "")
    return (
        f"data set {data.name}: no training image, among {data.train_images} at data.split_seed = {data.split_seed}, "
        f"of {len(classes)} of its {len(data.info.class_names)} classes: {names}; raise data.train_images, or "
        "prepare the images without them"
    )


def short_text(data: DataConfig) -> str:
    """Return a sentence about the classes with fewer training images than `images_per_class`; "" if there are none."""
    asked = data.images_per_class
    if asked is None or not data.info.class_names:
        return ""
    drawn = _drawn(data)
    short = [f"{images} of {name!r}" for name, images in drawn.items() if images < asked]
    if not short:
        return ""
    names = ", ".join(short[:SHOWN]) + (", ..." if len(short) > SHOWN else "")
    return (
        f"data set {data.name}: data.images_per_class = {asked}, but at data.split_seed = {data.split_seed} there are "
        f"only {names} for training, so that {sum(drawn.values())} images are used, not {asked * len(drawn)}"
    )


@lru_cache(maxsize=256)
def _drawn(data: DataConfig) -> dict[str, int]:
    """Return class -> number of its images that a trial trains on."""
    from tailor.data import task_data
    from tailor.methods.recipe import task_of

    labels = task_data.splits(task_of(data, 0), data.root).train.labels
    return dict(zip(data.info.class_names, labels.bincount(minlength=len(data.info.class_names)).tolist(), strict=True))


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
