"""A trial's splits of a pool, or of images in groups, by its seed: classes keep their shares, groups stay whole."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import accumulate

import torch
from torch import Tensor

from tailor.common.errors import ConfigError
from tailor.facts.pool import SplitSizes


def draw_splits(
    labels: Tensor, groups: Tensor, sizes: Mapping[str, SplitSizes], generator: torch.Generator
) -> list[Tensor]:
    """Return the indices of the training, the validation and the test images, each in ascending order (C).

    Groups are dealt out from the largest to the smallest, each whole, to a split with room for it. The split is drawn
    in proportion to the room that is left, which for single images makes all divisions equally likely. A group that
    has room nowhere goes where most is left; only then sizes differ from `sizes`, by less than a group.

    Args:
        labels: of the pool's images (N,), each the index of a class in `sizes`.
        groups: of the pool's images (N,), equal for those that must stay together.
        sizes: by class.
        generator: on the host.

    Raises:
        ConfigError: groups are so large that a split has no image of a class.
    """
    class_of = labels.tolist()
    members_of_group = defaultdict[int, list[int]](list)
    for index, group in enumerate(groups.tolist()):
        members_of_group[group].append(index)
    from_the_largest = sorted(members_of_group.values(), key=len, reverse=True)
    draws = torch.rand(len(from_the_largest), generator=generator, dtype=torch.float64).tolist()

    # room[label][split]: images that the split still needs of the class; one that is to have none has no room at all
    room = [[count or -len(class_of) for count in size] for size in sizes.values()]
    splits: list[list[int]] = [[] for _ in SplitSizes._fields]
    for indices, draw in zip(from_the_largest, draws, strict=True):
        needed = Counter(class_of[index] for index in indices)
        split = _choose_split(room, needed, draw)
        splits[split] += indices
        for label, count in needed.items():
            room[label][split] -= count
    for (name, size), room_left in zip(sizes.items(), room, strict=True):
        has_empty_split = any(wanted and wanted <= left for wanted, left in zip(size, room_left, strict=True))
        if has_empty_split:
            raise ConfigError(
                f"class {name!r} cannot be divided: {sum(size)} images are in too few groups, given or of images "
                "that look alike, for its splits; remove copies from it, or add other images, and prepare again"
            )
    return [torch.tensor(sorted(split)) for split in splits]


def _choose_split(room: Sequence[Sequence[int]], needed: Mapping[int, int], draw: float) -> int:
    """Return the split that a group goes to.

    Args:
        room: room[label][split], how many images of a class still fit into a split.
        needed: how many images of each class the group has.
        draw: a random number in [0, 1).
    """
    least_room = []
    weights = []  # of the splits in the draw; 0: the group does not fit
    for split in range(len(SplitSizes._fields)):
        least = min(room[label][split] for label in needed)
        fits = all(room[label][split] >= count for label, count in needed.items())
        least_room.append(least)
        weights.append(least if fits else 0)
    if not any(weights):
        return least_room.index(max(least_room))
    limits = list(accumulate(weights))
    return next(split for split, limit in enumerate(limits) if draw * limits[-1] < limit)
