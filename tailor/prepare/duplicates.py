"""Images that are in a data set twice: byte for byte, or as images that look alike.

Two images look alike if both perceptual hashes of their fingerprints (pictures.py) differ in at most `LIMIT_BITS` bits.
This finds many copies that were resized or compressed again, and no crops, mirror images or photographs of one object.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tailor.common.texts import some
from tailor.data.images_file import ListedImage
from tailor.facts.manifest import SOURCE, TARGET
from tailor.prepare.forms import POOL, TEST, TRAIN, VALIDATION
from tailor.prepare.pictures import HASH_BITS, bits_of
from transtailor.plural import counted

LIMIT_BITS = 2
SHOWN = 5  # copies of a file in a message
BLOCK = 1024  # images that are compared with all others at once
OTHER_CLASS = "in another class"
OTHER_SIDE = "on the other side of the test split"
Names = list[tuple[str, ...]]
"""Of each file: the names of its copies."""


class Pair(NamedTuple):
    """Two images that look alike, by their names in images.csv."""

    bits: int  # the larger of the two hashes' distances
    left: str
    right: str


def equal_files(images: Sequence[ListedImage]) -> Iterator[tuple[str, str, Names]]:
    """Yield where images have, byte for byte, equal ones that may mislead, what to do, and the names of equal ones.

    Trials divide what is not for testing into training and validation images. Those of a pool keep copies together.
    """
    source = [image for image in images if image.task == SOURCE]
    target = [image for image in images if image.task == TARGET]
    trained = [image for image in target if image.split not in (TEST, POOL)]
    label = attrgetter("class_name")
    mislabelled = "remove those of the wrong class, and prepare again"
    kinds: list[tuple[Sequence[ListedImage], Callable[[ListedImage], object], str, str]] = [
        (source, label, OTHER_CLASS, mislabelled),
        (target, label, OTHER_CLASS, mislabelled),
        (images, attrgetter("task"), "in the other task, source or target", "remove them from one"),
        (target, lambda image: image.split == TEST, OTHER_SIDE, "remove them from one"),
        (trained, attrgetter("id"), "among the images that are not for testing", "remove the copies"),
    ]
    for compared, part_of, where, remedy in kinds:
        if names := _shared(compared, part_of):
            yield where, remedy if part_of is label else f"{remedy}, or scores may be too good", names


def _shared(images: Iterable[ListedImage], part_of: Callable[[ListedImage], object]) -> Names:
    """Return the files that are in several parts of these images: first one copy of each part."""
    copies_of = defaultdict[str, list[ListedImage]](list)  # by the file's SHA-256
    for image in images:
        copies_of[image.file_sha256].append(image)
    shared = []
    for equal in copies_of.values():
        by_name = sorted(equal, key=attrgetter("name"))
        first_of = {part_of(image): image for image in reversed(by_name)}
        if len(first_of) > 1:
            by_name.sort(key=lambda image: image is not first_of[part_of(image)])
            shared.append(tuple(image.name for image in by_name))
    return sorted(shared)


def equal_names(names_of_files: Names, shown: int = SHOWN) -> str:
    """Return the names of the first few files, each as "name = name", with the first few of its copies."""
    more = [f" = {len(names) - shown} more" if len(names) > shown else "" for names in names_of_files]
    return some([" = ".join(names[:shown]) + rest for names, rest in zip(names_of_files, more, strict=True)], shown)


def find(images: Sequence[ListedImage], *, tested: bool = False) -> dict[str, list[Pair]]:
    """Return the pairs that look alike between the target's splits and, unless only `tested` ones count, others.

    The others are those between source and target, and among what is not for testing, which trials divide again.
    """
    images_of = defaultdict[str, list[ListedImage]](list)
    for image in images:
        images_of[image.task].append(image)
        if image.task == TARGET:
            images_of[image.split].append(image)
    parts = [] if tested else [(SOURCE, TARGET)]
    parts += [(split, TEST) for split in (TRAIN, VALIDATION) if {split, TEST} <= images_of.keys()]
    pairs = {f"{left} and {right}": _named_pairs(images_of[left], images_of[right]) for left, right in parts}
    trained = images_of[TRAIN] + images_of[VALIDATION]
    if trained and not tested:
        pairs["training and validation images"] = _named_pairs(trained)
    return pairs


def _named_pairs(left: Sequence[ListedImage], right: Sequence[ListedImage] | None = None) -> list[Pair]:
    """Return the pairs of images that look alike, nearest first, by name: one of each side, or both of `left`."""
    others = left if right is None else right
    found = look_alikes(*(bits_of([image.fingerprint for image in side]) for side in (left, others)))
    return [
        Pair(bits, left[index].name, others[other].name)
        for bits, index, other in sorted(found.T.tolist())
        if right is not None or index < other
    ]


def groups_of(prints: NDArray[np.bool_] | None, names: Sequence[str]) -> NDArray[np.int64]:
    """Return group numbers (N,) from 0: equal for images of one name but "", and for pairs that look alike, in chains.

    Without fingerprints (N, 128), looks do not count.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    first_of = {name: index for index, name in reversed([*enumerate(names)])}
    left = np.arange(len(names))
    right = np.array([first_of[name] if name else index for index, name in enumerate(names)])
    if prints is not None:
        _, looks_left, looks_right = look_alikes(prints, prints)
        left, right = np.concatenate([looks_left, left]), np.concatenate([looks_right, right])
    graph = coo_array((np.ones(len(left), np.int8), (left, right)), shape=(len(names), len(names)))
    _, groups = connected_components(graph)
    return np.asarray(groups, np.int64)


def look_alikes(left: NDArray[np.bool_], right: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return all P pairs that look alike, perhaps millions, as (3, P): larger distance, index in each side."""
    columns_of_blocks = [np.empty((3, 0), np.int32)]
    halves = (slice(HASH_BITS), slice(HASH_BITS, None))  # mean hashes, difference hashes
    # With bits as signs, a product is HASH_BITS less twice the Hamming distance
    signs, right_signs = (np.where(side, np.float32(1), np.float32(-1)) for side in (left, right))
    for start in range(0, len(left), BLOCK):
        block = signs[start : start + BLOCK]
        least = np.minimum(*(block[:, half] @ right_signs[:, half].T for half in halves))
        bits = (np.float32(HASH_BITS) - least) / np.float32(2)
        in_block, in_right = np.nonzero(bits <= LIMIT_BITS)
        columns = np.stack([bits[in_block, in_right], in_block + start, in_right])
        columns_of_blocks.append(columns.astype(np.int32))
    return np.concatenate(columns_of_blocks, axis=1)


def groups_text(groups: NDArray[np.int64], *, is_pool: bool) -> str:
    """Return a sentence about how many images of a data set are in groups of several."""
    images_of_group = np.bincount(groups)
    several = images_of_group[images_of_group > 1]
    which = "belong together or look like another one" if is_pool else "belong together"
    text = f"{int(several.sum())} images {which}, in {counted(len(several), 'group')}"
    return f"{text}; each stays whole, by which splits may be larger or smaller than asked" if len(several) else text
