"""Images that are in a data set twice: byte for byte, or as images that look alike.

Two images look alike if both perceptual hashes of their fingerprints (fingerprint.py) differ in at most `LIMIT_BITS`
bits. This finds copies that were resized or compressed again, not crops, mirror images or two photographs of one
object.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from tailor.catalogue.manifest import SOURCE, TARGET
from tailor.prepare.fingerprint import HASH_BITS, bits_of
from tailor.prepare.images_file import ListedImage
from tailor.prepare.listing import SPLITS

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
    """The files of one task that are, byte for byte, in several classes, each as a name in each class."""
    return _shared(images, [image.class_name for image in images])


def in_two_splits(images: Sequence[ListedImage]) -> list[tuple[str, ...]]:
    """The files of one task that are, byte for byte, in several splits, each as a name in each split."""
    return _shared(images, [image.split for image in images])


def _shared(images: Sequence[ListedImage], parts: Sequence[str]) -> list[tuple[str, ...]]:
    """The files that are in several parts, each as the first name in each part."""
    names: dict[str, dict[str, str]] = defaultdict(dict)  # SHA-256 -> part -> name
    for image, part in zip(images, parts, strict=True):
        names[image.file_sha256].setdefault(part, image.name)
    return sorted(tuple(sorted(by_part.values())) for by_part in names.values() if len(by_part) > 1)


def find(images: Sequence[ListedImage]) -> dict[str, list[Pair[str]]]:
    """Pairs between the target's splits and between source and target, by "train and test", "source and target", ..."""
    parts: dict[str, list[ListedImage]] = {SOURCE: [], TARGET: []}
    for image in images:
        parts[image.task].append(image)
        if image.task == TARGET:
            parts.setdefault(image.split, []).append(image)
    between = [(SOURCE, TARGET), *combinations([split for split in SPLITS if split in parts], 2)]
    return {f"{left} and {right}": _named_pairs(parts[left], parts[right]) for left, right in between}


def _named_pairs(left: Sequence[ListedImage], right: Sequence[ListedImage]) -> list[Pair[str]]:
    prints = [bits_of([image.fingerprint for image in images]) for images in (left, right)]
    return [Pair(bits=pair.bits, left=left[pair.left].name, right=right[pair.right].name) for pair in pairs(*prints)]


def pairs(left: NDArray[np.bool_], right: NDArray[np.bool_]) -> list[Pair[int]]:
    """All pairs of fingerprints (N, 128), one of each side, that look alike; nearest first.

    >>> print_of = np.zeros((1, 2 * HASH_BITS), np.bool_)
    >>> pairs(print_of, print_of)
    [Pair(bits=0, left=0, right=0)]
    """
    return sorted(Pair(bits=bits, left=one, right=other) for bits, one, other in _look_alikes(left, right).T.tolist())


def groups_of(prints: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Group numbers (N,) from 0 of fingerprints (N, 128): equal for the two of a pair, and so along chains of pairs."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    _, left, right = _look_alikes(prints, prints)
    ends = (np.ones(len(left), np.int8), (left, right))
    _, groups = connected_components(coo_array(ends, shape=(len(prints), len(prints))))
    return np.asarray(groups, np.int64)


def _look_alikes(left: NDArray[np.bool_], right: NDArray[np.bool_]) -> NDArray[np.int32]:
    """The larger distance and the two places of each pair (3, P): images that look alike have many."""
    found = [np.empty((3, 0), np.int32)]
    for start in range(0, len(left), BLOCK):
        block = left[start : start + BLOCK]
        mean_bits = _distances(block[:, :HASH_BITS], right[:, :HASH_BITS])
        difference_bits = _distances(block[:, HASH_BITS:], right[:, HASH_BITS:])
        bits = np.maximum(mean_bits, difference_bits)
        rows, columns = np.nonzero(bits <= LIMIT_BITS)
        found.append(np.stack([bits[rows, columns], rows + start, columns]).astype(np.int32))
    return np.concatenate(found, axis=1)


def _distances(left: NDArray[np.bool_], right: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Hamming distances of all pairs: a product of signs is 64 minus twice the number of bits that differ."""
    signs = [np.where(bits, np.float32(1), np.float32(-1)) for bits in (left, right)]
    agreeing: NDArray[np.float32] = signs[0] @ signs[1].T
    return (np.float32(HASH_BITS) - agreeing) / np.float32(2)
