"""Images that are in a data set twice: byte for byte, or as images that look alike.

Two images look alike if both perceptual hashes of their fingerprints (fingerprint.py) differ in at most `LIMIT_BITS`
bits. This finds copies that were resized or compressed again, not crops, mirror images or two photographs of one
object.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from tailor.facts.manifest import SOURCE, TARGET
from tailor.prepare.fingerprint import HASH_BITS, bits_of
from tailor.prepare.images_file import ListedImage
from tailor.prepare.listing import POOL, SHOWN, SPLITS, TEST, some

Image = TypeVar("Image", int, str)
LIMIT_BITS = 2
BLOCK = 1024  # images that are compared with all others at once


@dataclass(frozen=True, kw_only=True, order=True)
class Pair(Generic[Image]):
    """Two images that look alike, by their indices in the compared arrays or by their names in images.csv."""

    bits: int  # the larger of the two hashes' distances
    left: Image
    right: Image


def with_two_labels(images: Sequence[ListedImage]) -> list[tuple[str, ...]]:
    """Return the files of one task that are, byte for byte, in several classes, each as a name in each class."""
    return _shared(images, [image.class_name for image in images])


def in_two_splits(images: Sequence[ListedImage]) -> list[tuple[str, ...]]:
    """Return the files of one task that are, byte for byte, in several splits, each as a name in each split."""
    return _shared(images, [image.split for image in images])


def _shared(images: Sequence[ListedImage], parts: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the files that are in several parts, each as the names of its first copy in each part.

    Args:
        images: of one task.
        parts: of each image, the class or split in which it is.
    """
    name_by_part: dict[str, dict[str, str]] = defaultdict(dict)  # of each file, by its SHA-256
    for image, part in zip(images, parts, strict=True):
        name_by_part[image.file_sha256].setdefault(part, image.name)
    shared = []
    for names in name_by_part.values():
        if len(names) > 1:
            shared.append(tuple(sorted(names.values())))
    return sorted(shared)


def copies(images: Sequence[ListedImage], *, shown: int = SHOWN) -> Iterator[str]:
    """Yield a warning if files are, byte for byte, under several labels, in several splits, or twice in one.

    Trials divide what is not for testing into training and validation images. Those of a pool keep copies together.
    """
    for task in (SOURCE, TARGET):
        shared = with_two_labels([image for image in images if image.task == task])
        if shared:
            yield (
                f"warning: {len(shared)} file(s) have more than one label: {equal_names(shared, shown)}; remove those "
                "in the wrong folder, and prepare again"
            )
    shared = in_two_splits([image for image in images if image.task == TARGET])
    if shared:
        yield (
            f"warning: splits overlap: {len(shared)} file(s) are in more than one split: "
            f"{equal_names(shared, shown)}; remove them from one, or test scores will be too good"
        )
    trained = [image for image in images if image.task == TARGET and image.split not in (TEST, POOL)]
    repeated = _shared(trained, [image.name for image in trained])
    if repeated:
        yield (
            f"warning: {len(repeated)} file(s) are more than once among the images that are not for testing: "
            f"{equal_names(repeated, shown)}; remove the copies, or validation scores will be too good"
        )


def equal_names(shared: Sequence[tuple[str, ...]], shown: int = SHOWN) -> str:
    """Return the names of the first few files, each as "name = name"."""
    return some((" = ".join(names) for names in shared), shown)


def find(images: Sequence[ListedImage]) -> dict[str, list[Pair[str]]]:
    """Return the pairs between source and target, and between each two splits of the target.

    The keys are "source and target", "train and test", ...
    """
    images_of: dict[str, list[ListedImage]] = {SOURCE: [], TARGET: []}
    for image in images:
        images_of[image.task].append(image)
        if image.task == TARGET:
            images_of.setdefault(image.split, []).append(image)
    splits = [split for split in SPLITS if split in images_of]
    pairs_between = {}
    for left, right in [(SOURCE, TARGET), *combinations(splits, 2)]:
        pairs_between[f"{left} and {right}"] = _named_pairs(images_of[left], images_of[right])
    return pairs_between


def _named_pairs(left: Sequence[ListedImage], right: Sequence[ListedImage]) -> list[Pair[str]]:
    """Return the pairs of images that look alike, one of each side, by their names; nearest first."""
    left_bits = bits_of([image.fingerprint for image in left])
    right_bits = bits_of([image.fingerprint for image in right])
    named_pairs = []
    for pair in pairs(left_bits, right_bits):
        named_pairs.append(Pair(bits=pair.bits, left=left[pair.left].name, right=right[pair.right].name))
    return named_pairs


def pairs(left: NDArray[np.bool_], right: NDArray[np.bool_]) -> list[Pair[int]]:
    """Return all pairs of fingerprints (N, 128), one of each side, that look alike; nearest first.

    >>> print_of = np.zeros((1, 2 * HASH_BITS), np.bool_)
    >>> pairs(print_of, print_of)
    [Pair(bits=0, left=0, right=0)]
    """
    rows = _look_alikes(left, right).T.tolist()
    return sorted(Pair(bits=bits, left=left_index, right=right_index) for bits, left_index, right_index in rows)


def groups_of(prints: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return group numbers (N,) from 0 of fingerprints (N, 128).

    Numbers are equal for the two of a pair that look alike, and so along chains of pairs.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    _, left, right = _look_alikes(prints, prints)
    ones = np.ones(len(left), np.int8)
    graph = coo_array((ones, (left, right)), shape=(len(prints), len(prints)))  # an edge for each pair
    _, groups = connected_components(graph)
    return np.asarray(groups, np.int64)


def _look_alikes(left: NDArray[np.bool_], right: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return all P pairs that look alike as columns (3, P): larger distance, index in `left`, index in `right`.

    They stay an array, because data sets with many images that look alike have millions of pairs.
    """
    columns_of_blocks = [np.empty((3, 0), np.int32)]
    for start in range(0, len(left), BLOCK):
        block = left[start : start + BLOCK]
        mean_bits = _distances(block[:, :HASH_BITS], right[:, :HASH_BITS])
        difference_bits = _distances(block[:, HASH_BITS:], right[:, HASH_BITS:])
        bits = np.maximum(mean_bits, difference_bits)
        in_block, in_right = np.nonzero(bits <= LIMIT_BITS)
        columns = np.stack([bits[in_block, in_right], in_block + start, in_right])
        columns_of_blocks.append(columns.astype(np.int32))
    return np.concatenate(columns_of_blocks, axis=1)


def _distances(left: NDArray[np.bool_], right: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the Hamming distances of all pairs of hashes.

    With bits as signs, the product of two hashes is HASH_BITS minus twice the number of bits that differ.
    """
    left_signs = np.where(left, np.float32(1), np.float32(-1))
    right_signs = np.where(right, np.float32(1), np.float32(-1))
    products: NDArray[np.float32] = left_signs @ right_signs.T
    return (np.float32(HASH_BITS) - products) / np.float32(2)


def groups_text(groups: NDArray[np.int64]) -> str:
    """Return a sentence about how many images of a pool look like another one, from each image's group number."""
    images_of_group = np.bincount(groups)
    has_several = images_of_group > 1
    image_count = int(images_of_group[has_several].sum())
    group_count = int(has_several.sum())
    return f"{image_count} images look like another one; they are in {group_count} groups, each stays whole"
