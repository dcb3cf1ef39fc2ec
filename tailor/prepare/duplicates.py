"""Pairs of images that look alike and should not: between splits, and between source and target.

An image's fingerprint is two perceptual hashes of 64 bits: whether each cell of an 8 x 8 grid is brighter than the
mean of the grid, and whether each cell of an 8 x 9 grid is brighter than its left neighbour. Two images are a pair
if both hashes differ in at most `LIMIT_BITS` bits. This finds copies that were resized or compressed again, not crops,
mirror images or two photographs of one object.
"""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from tailor.catalogue import manifest
from tailor.catalogue.manifest import IMAGES_FILE, SOURCE, TARGET
from tailor.prepare.arrays import load
from tailor.prepare.listing import SPLITS

Image = TypeVar("Image", int, str)
LIMIT_BITS = 2
HASH_BITS = 64
BLOCK = 1024  # images that are compared with all others at once
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


@dataclass(frozen=True, kw_only=True, order=True)
class Pair(Generic[Image]):
    """Two images that look alike, by their indices in the compared arrays or by their names in images.csv."""

    bits: int  # the larger of the two hashes' distances
    left: Image
    right: Image


def find(root: Path, name: str, advance: Callable[[int], None]) -> dict[str, list[Pair[str]]]:
    """Pairs between the target's splits and between source and target, by "train and test", "source and target", ...

    `advance` is called with the number of images read since the last call.

    Raises:
        ConfigError: no such data set.
    """
    with (manifest.folder_of(root, name) / IMAGES_FILE).open(
        newline="", encoding="utf-8", errors="surrogateescape"
    ) as file:
        lines = list(csv.DictReader(file))
    names = {task: [line["name"] for line in lines if line["task"] == task] for task in (SOURCE, TARGET)}
    splits = [line["split"] for line in lines if line["task"] == TARGET]
    prints = {task: fingerprints(of.images, advance) for task, of in load(root, name).items()}
    groups = {(SOURCE, TARGET): _named_pairs(prints[SOURCE], prints[TARGET], names[SOURCE], names[TARGET])}
    places = {split: np.flatnonzero([one == split for one in splits]) for split in dict.fromkeys(splits)}
    for left, right in combinations([split for split in SPLITS if split in places], 2):
        prints_of = {split: prints[TARGET][places[split]] for split in (left, right)}
        names_of = {split: [names[TARGET][place] for place in places[split]] for split in (left, right)}
        groups[left, right] = _named_pairs(prints_of[left], prints_of[right], names_of[left], names_of[right])
    return {f"{left} and {right}": pairs for (left, right), pairs in groups.items()}


def _named_pairs(
    left: NDArray[np.bool_], right: NDArray[np.bool_], left_names: list[str], right_names: list[str]
) -> list[Pair[str]]:
    return [
        Pair(bits=pair.bits, left=left_names[pair.left], right=right_names[pair.right]) for pair in pairs(left, right)
    ]


def fingerprints(images: NDArray[np.uint8], advance: Callable[[int], None] | None = None) -> NDArray[np.bool_]:
    """(N, 128) bits of images (N, 3, H, W): the mean hash, then the difference hash."""
    found = np.empty((len(images), 2 * HASH_BITS), np.bool_)
    for start in range(0, len(images), BLOCK // 8):
        block = images[start : start + BLOCK // 8]
        grey = np.tensordot(np.asarray(LUMA, np.float32), block.astype(np.float32), axes=(0, 1))
        grid, wide = _cells(grey, 8, 8), _cells(grey, 8, 9)
        brighter = grid > grid.mean(axis=(1, 2), keepdims=True)
        rising = wide[:, :, 1:] > wide[:, :, :-1]
        found[start : start + len(block)] = np.concatenate([brighter, rising], axis=2).reshape(len(block), -1)
        if advance is not None:
            advance(len(block))
    return found


def pairs(left: NDArray[np.bool_], right: NDArray[np.bool_]) -> list[Pair[int]]:
    """All pairs of fingerprints, one of each side, whose hashes both differ in at most `LIMIT_BITS`; nearest first.

    >>> print_of = np.zeros((1, 2 * HASH_BITS), np.bool_)
    >>> pairs(print_of, print_of)
    [Pair(bits=0, left=0, right=0)]
    """
    return sorted(Pair(bits=bits, left=one, right=other) for bits, one, other in _look_alikes(left, right).T.tolist())


def alike(images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Group numbers (N,) from 0 of images (N, 3, H, W): equal for the two of a pair, and so along chains of pairs."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    prints = fingerprints(images)
    _, left, right = _look_alikes(prints, prints)
    ends = (np.ones(len(left), np.int8), (left, right))
    _, groups = connected_components(coo_array(ends, shape=(len(images), len(images))))
    return np.asarray(groups, np.int64)


def _look_alikes(left: NDArray[np.bool_], right: NDArray[np.bool_]) -> NDArray[np.int32]:
    """The larger distance and the two places of each pair (3, P): images that look alike have many."""
    found = [np.empty((3, 0), np.int32)]
    for start in range(0, len(left), BLOCK):
        mean_bits, difference_bits = (
            _distances(_hash(left[start : start + BLOCK], which), _hash(right, which)) for which in (0, 1)
        )
        bits = np.maximum(mean_bits, difference_bits)
        rows, columns = np.nonzero(bits <= LIMIT_BITS)
        found.append(np.stack([bits[rows, columns], rows + start, columns]).astype(np.int32))
    return np.concatenate(found, axis=1)


def _cells(grey: NDArray[np.float32], rows: int, columns: int) -> NDArray[np.float32]:
    """Means (N, rows, columns) over a grid on images (N, H, W)."""
    for axis, count in ((1, rows), (2, columns)):
        edges = np.linspace(0, grey.shape[axis], count + 1).astype(np.intp)
        shape = [1, 1, 1]
        shape[axis] = count
        widths = np.diff(edges).astype(np.float32).reshape(shape)
        grey = (np.add.reduceat(grey, edges[:-1], axis=axis) / widths).astype(np.float32, copy=False)
    return grey


def _hash(fingerprint: NDArray[np.bool_], which: int) -> NDArray[np.float32]:
    """One of the two hashes as -1 and 1; the rows of a fingerprint's grid have both, side by side."""
    grid = fingerprint.reshape(len(fingerprint), 8, 2, 8)[:, :, which].reshape(len(fingerprint), HASH_BITS)
    return np.where(grid, 1.0, -1.0).astype(np.float32)


def _distances(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    """Hamming distances of all pairs: a product of signs is 64 minus twice the number of bits that differ."""
    agreeing: NDArray[np.float32] = left @ right.T
    return (np.float32(HASH_BITS) - agreeing) / np.float32(2)
