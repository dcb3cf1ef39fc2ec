"""Images that are in a data set twice: byte for byte, or as images that look alike.

Two images look alike if both perceptual hashes of their fingerprints (fingerprint.py) differ in at most `LIMIT_BITS`
bits. This finds many copies that were resized or compressed again, and no crops, mirror images or two photographs of
one object.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tailor.facts.manifest import SOURCE, TARGET
from tailor.prepare.fingerprint import HASH_BITS, bits_of
from tailor.prepare.images_file import ListedImage
from tailor.prepare.listing import POOL, SHOWN, TEST, TRAIN, VALIDATION, some
from transtailor.plural import counted

LIMIT_BITS = 2
BLOCK = 1024  # images that are compared with all others at once


class Pair(NamedTuple):
    """Two images that look alike, by their names in images.csv."""

    bits: int  # the larger of the two hashes' distances
    left: str
    right: str


def shared(images: Iterable[ListedImage], part_of: Callable[[ListedImage], object]) -> list[tuple[str, ...]]:
    """Return the files that are in several parts of these images, each as the names of its copies: first one a part.

    Args:
        images: among which copies are looked for.
        part_of: the class, split, ... of an image.
    """
    copies_of = defaultdict[str, list[ListedImage]](list)  # by the file's SHA-256
    for image in images:
        copies_of[image.file_sha256].append(image)
    names_of_shared = []
    for equal in copies_of.values():
        by_name = sorted(equal, key=attrgetter("name"))
        first_of = {part_of(image): image for image in reversed(by_name)}
        if len(first_of) > 1:
            by_name.sort(key=lambda image: image is not first_of[part_of(image)])
            names_of_shared.append(tuple(image.name for image in by_name))
    return sorted(names_of_shared)


def copies(images: Sequence[ListedImage], *, shown: int = SHOWN) -> Iterator[str]:
    """Yield a warning if images have, byte for byte, equal ones where these may mislead a network or a score.

    Trials divide what is not for testing into training and validation images. Those of a pool keep copies together.
    """
    source = [image for image in images if image.task == SOURCE]
    target = [image for image in images if image.task == TARGET]
    trained = [image for image in target if image.split not in (TEST, POOL)]
    mislabelled = "in another class", "remove those of the wrong class, and prepare again"
    in_both_tasks = "in the other task, source or target", "remove them from one, or scores may be too good"
    on_both_sides = "on the other side of the test split", "remove them from one, or test scores will be too good"
    repeated = "among the images that are not for testing", "remove the copies, or validation scores may be too good"
    kinds: list[tuple[Sequence[ListedImage], Callable[[ListedImage], object], tuple[str, str]]] = [
        (source, attrgetter("class_name"), mislabelled),
        (target, attrgetter("class_name"), mislabelled),
        (images, attrgetter("task"), in_both_tasks),
        (target, lambda image: image.split == TEST, on_both_sides),
        (trained, attrgetter("id"), repeated),
    ]
    for compared, part_of, (where, remedy) in kinds:
        if names := shared(compared, part_of):
            count = sum(map(len, names))
            yield f"warning: {count} images have equal ones {where}: {equal_names(names, shown)}; {remedy}"


def equal_names(names_of_files: Sequence[tuple[str, ...]], shown: int = SHOWN) -> str:
    """Return the names of the first few files, each as "name = name", with the first few of its copies."""
    lines = []
    for names in names_of_files:
        more = f" = {len(names) - shown} more" if len(names) > shown else ""
        lines.append(" = ".join(names[:shown]) + more)
    return some(lines, shown)


def find(images: Sequence[ListedImage]) -> dict[str, list[Pair]]:
    """Return the pairs between source and target, between the target's splits, and among what is not for testing.

    The keys are "source and target", "train and test", ...; trials divide what is not for testing again.
    """
    images_of: dict[str, list[ListedImage]] = {SOURCE: [], TARGET: []}
    for image in images:
        images_of[image.task].append(image)
        if image.task == TARGET:
            images_of.setdefault(image.split, []).append(image)
    parts = [(SOURCE, TARGET), *((split, TEST) for split in (TRAIN, VALIDATION) if {split, TEST} <= images_of.keys())]
    pairs_between = {}
    for left, right in parts:
        pairs_between[f"{left} and {right}"] = _named_pairs(images_of[left], images_of[right])
    trained = images_of.get(TRAIN, []) + images_of.get(VALIDATION, [])
    if trained:
        pairs_between["training and validation images"] = _named_pairs(trained)
    return pairs_between


def _named_pairs(left: Sequence[ListedImage], right: Sequence[ListedImage] | None = None) -> list[Pair]:
    """Return the pairs of images that look alike, nearest first, by name: one of each side, or both of `left`."""
    others = left if right is None else right
    found = look_alikes(*(bits_of([image.fingerprint for image in side]) for side in (left, others)))
    return [
        Pair(bits, left[index].name, others[other].name)
        for bits, index, other in sorted(found.T.tolist())
        if right is not None or index < other
    ]


def groups_of(prints: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return group numbers (N,) from 0 of fingerprints (N, 128).

    Numbers are equal for the two of a pair that look alike, and so along chains of pairs.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    _, left, right = look_alikes(prints, prints)
    ones = np.ones(len(left), np.int8)
    graph = coo_array((ones, (left, right)), shape=(len(prints), len(prints)))  # an edge for each pair
    _, groups = connected_components(graph)
    return np.asarray(groups, np.int64)


def look_alikes(left: NDArray[np.bool_], right: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return all P pairs that look alike as columns (3, P): larger distance, index in `left`, index in `right`.

    >>> print_of = np.zeros((1, 2 * HASH_BITS), np.bool_)
    >>> look_alikes(print_of, print_of).tolist()
    [[0], [0], [0]]

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
    text = f"{image_count} images look like another one"
    groups_of_them = f"they are in {counted(group_count, 'group')}, each stays whole"
    return f"{text}; {groups_of_them}, by which splits may be larger or smaller than asked" if group_count else text
