"""A trial's three splits of a pool, drawn by its split seed: classes keep their shares, groups stay whole."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import accumulate

import torch
from torch import Tensor

from tailor.catalogue.pool import SplitSizes
from tailor.core.errors import ConfigError


def draw_splits(
    labels: Tensor, groups: Tensor, sizes: Mapping[str, SplitSizes], generator: torch.Generator
) -> list[Tensor]:
    """The places of the training, the validation and the test images, each in ascending order (C).

    Groups are dealt out from the largest to the smallest, each whole, to a split with room for it. The split is drawn
    in proportion to the room that is left, which for single images makes all divisions equally likely. A group that
    has room nowhere goes where most is left; only then sizes differ from `sizes`, by less than a group.

    Args:
        labels: of the pool's images (N,), each the place of a class in `sizes`.
        groups: of the pool's images (N,), equal for those that must stay together.
        sizes: by class.
        generator: on the host.

    Raises:
        ConfigError: groups are so large that a split has no image of a class.
    """
    room = [list(size) for size in sizes.values()]
    class_of, members = labels.tolist(), defaultdict[int, list[int]](list)
    for place, group in enumerate(groups.tolist()):
        members[group].append(place)
    draws = torch.rand(len(members), generator=generator, dtype=torch.float64).tolist()
    splits: list[list[int]] = [[] for _ in SplitSizes._fields]
    for places, drawn in zip(sorted(members.values(), key=len, reverse=True), draws, strict=True):
        needed = Counter(class_of[place] for place in places)
        split = _choose_split(
            [[(room[label][split], count) for label, count in needed.items()] for split in range(3)], drawn
        )
        splits[split] += places
        for label, count in needed.items():
            room[label][split] -= count
    for (name, size), left in zip(sizes.items(), room, strict=True):
        if any(asked <= free for asked, free in zip(size, left, strict=True)):
            raise ConfigError(
                f"class {name!r} cannot be divided: {sum(size)} images look so much alike that they are too few groups "
                "for training, validation and test images; remove copies from it, or add other images, and prepare "
                "the data set again"
            )
    return [torch.tensor(sorted(split)) for split in splits]


def _choose_split(rooms: Sequence[Sequence[tuple[int, int]]], drawn: float) -> int:
    """The split of a group: of each split the room and the need for each of the group's classes; `drawn` in [0, 1)."""
    least = [min(free for free, _ in room) for room in rooms]
    fitting = [free if all(f >= need for f, need in room) else 0 for free, room in zip(least, rooms, strict=True)]
    if not any(fitting):
        return least.index(max(least))
    limits = list(accumulate(fitting))
    return next(split for split, limit in enumerate(limits) if drawn * limits[-1] < limit)
