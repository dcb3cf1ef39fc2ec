"""How many images of each class a trial draws from a pool for each of its splits. Without torch."""

from collections.abc import Mapping
from typing import NamedTuple

from tailor.common.errors import ConfigError


class SplitSizes(NamedTuple):
    """Images of one class in each split."""

    train: int
    validation: int
    test: int


def split_sizes(pool: Mapping[str, int], train_images: int, test_images: int) -> dict[str, SplitSizes]:
    """Return how many images of each class go into each split, as nearly in proportion as whole numbers allow (C).

    >>> split_sizes({"cat": 20, "dog": 10}, train_images=18, test_images=6)["dog"]
    SplitSizes(train=6, validation=2, test=2)

    Args:
        pool: images of each class.
        train_images: of all classes together.
        test_images: of all classes together; what both leave is the validation split.

    Raises:
        ConfigError: a split would have no image of a class.
    """
    test_counts = _apportion(test_images, pool)
    counts_left = {name: count - test_counts[name] for name, count in pool.items()}
    train_counts = _apportion(train_images, counts_left)
    sizes = {}
    for name in pool:
        sizes[name] = SplitSizes(
            train=train_counts[name],
            validation=counts_left[name] - train_counts[name],
            test=test_counts[name],
        )
    for name, size in sizes.items():
        if 0 in size:
            advice = f"{'lower' if size.train else 'raise'} data.train_images" if size.test else "raise --test-fraction"
            raise ConfigError(
                f"class {name!r} has {pool[name]} images, too few for its share of {train_images} training and "
                f"{test_images} test images out of {sum(pool.values())}: it would have {size.train} for training, "
                f"{size.validation} for validation and {size.test} for the test; expected one or more for each: "
                f"{advice}, or prepare the data set with more images of this class or without it"
            )
    return sizes


def two_sizes(images_of_class: Mapping[str, int], train_images: int) -> dict[str, SplitSizes]:
    """Return how many images of each class go into training and validation, where the test split is fixed (C).

    Of two images or more each split has one.

    >>> two_sizes({"cat": 20, "dog": 10}, train_images=18)["dog"]
    SplitSizes(train=6, validation=4, test=0)
    """
    sizes = {}
    for name, train in _apportion(train_images, images_of_class).items():
        count = images_of_class[name]
        in_both = min(max(train, 1), count - 1) if count > 1 else train
        sizes[name] = SplitSizes(train=in_both, validation=count - in_both, test=0)
    return sizes


def _apportion(total: int, counts: Mapping[str, int]) -> dict[str, int]:
    """Divide `total` in proportion to the counts, by the largest remainders; of equal ones, the first."""
    count_sum = sum(counts.values())
    shares = {name: total * count // count_sum for name, count in counts.items()}
    remainders = {name: total * count % count_sum for name, count in counts.items()}
    by_remainder = sorted(counts, key=lambda name: -remainders[name])
    units_left = total - sum(shares.values())
    for name in by_remainder[:units_left]:
        shares[name] += 1
    return shares
