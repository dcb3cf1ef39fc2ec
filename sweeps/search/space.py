"""What a search chooses from: the variants of a spec and the values of its axes, all but the seeds."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

from sweeps.spec.spec import Spec, Variant
from tailor.stages import canonical_json


@dataclass(frozen=True, kw_only=True)
class SearchCandidate:
    """One choice: a variant, and a value for each of its axes."""

    variant: int  # its number in the spec, from 0; 0 in a spec without variants
    values: Mapping[str, Any]  # dotted key -> value; without the seed

    @cached_property
    def key(self) -> str:
        """A text that equal choices have in common."""
        return canonical_json([self.variant, dict(self.values)])


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """One axis."""

    key: str
    values: tuple[Any, ...]

    @property
    def is_ordered(self) -> bool:
        """Whether the values are ascending numbers, of which neighbours are alike for a sampler.

        >>> Dimension(key="optimisation.epochs", values=(5, 10, 20)).is_ordered
        True
        """
        are_numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in self.values)
        return are_numbers and all(value < following for value, following in pairwise(self.values))


@dataclass(frozen=True, kw_only=True)
class Space:
    """All choices of a spec."""

    dimensions: tuple[tuple[Dimension, ...], ...]  # of each variant; axes that all variants have are first
    seeds: tuple[int, ...]  # each setting is run with each of them

    @property
    def sizes(self) -> list[int]:
        """How many settings each variant has."""
        return [math.prod(len(axis.values) for axis in axes) for axes in self.dimensions]

    def at(self, number: int) -> SearchCandidate:
        """Return setting `number` of the whole grid, from 0, in the order of a sweep without search."""
        variant = 0
        while number >= self.sizes[variant]:
            number -= self.sizes[variant]
            variant += 1
        values: dict[str, Any] = {}
        for axis in reversed(self.dimensions[variant]):  # the last axis changes fastest
            number, index = divmod(number, len(axis.values))
            values[axis.key] = axis.values[index]
        return SearchCandidate(variant=variant, values=dict(reversed(values.items())))


def space_of(spec: Spec) -> Space:
    """Return what a search of the spec chooses from.

    >>> space = space_of(Spec(name="s", axes={"seed": [0, 1], "optimisation.epochs": [5, 10]}))
    >>> space.sizes, space.seeds, dict(space.at(1).values)
    ([2], (0, 1), {'optimisation.epochs': 10})
    """
    common_axes = {key: values for key, values in spec.axes.items() if key != "seed"}
    dimensions = []
    for variant in spec.variants or [Variant()]:
        axes = common_axes | variant.axes
        dimensions.append(tuple(Dimension(key=key, values=tuple(values)) for key, values in axes.items()))
    seeds = spec.axes.get("seed", [spec.trial.get("seed", 0)])
    return Space(dimensions=tuple(dimensions), seeds=tuple(seeds))
