"""The rules of target-aware network adaptation on plain numbers: how many filters each layer can lose, which layers
are cut first, and which point of the path is the best. Without torch.

Zhong, Li, Okada, Maki: "Target Aware Network Adaptation for Efficient Representation Learning" (arXiv 1810.01104). The
frame is the paper's; the formulas are our choice within it, see docs/methods/target_aware_adaptation.md.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tailor.stages import CumulativeSum

ROUNDING = 1e-9
"""Share of a layer's sum: a partial sum that is exactly the wanted share counts in spite of rounding errors."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A layer, or layers that lose filters together, before the rule."""

    name: str
    statistics: Sequence[float]  # one per filter, not negative; the larger, the more the target uses it
    macs_fraction: float  # the layer's share of the present model's MACs
    minimum: int  # filters that always stay


@dataclass(frozen=True, kw_only=True)
class LayerCut:
    """The result of the rule for a layer."""

    name: str
    filters: int  # before
    kept_by_rule: int  # k*
    removable_fraction: float  # r = 1 - k* / n
    priority: float
    removed: int  # filters that are removed now


def kept_count(statistics: Sequence[float], kept_cumulative_fraction: float) -> int:
    """k* = min{k >= 1: s_1 + ... + s_k >= c (s_1 + ... + s_n)}, the statistics s in descending order.

    A layer whose statistics are all zero keeps one filter.

    >>> kept_count([5.0, 3.0, 1.0, 1.0], kept_cumulative_fraction=0.8)
    2

    Args:
        statistics: one per filter, not negative.
        kept_cumulative_fraction: c in (0, 1].

    Raises:
        ValueError: no filter, or a statistic that is negative or not finite.
    """
    if not statistics or not all(math.isfinite(value) and value >= 0.0 for value in statistics):
        raise ValueError(f"a cumulative sum needs finite statistics >= 0, at least one; given {list(statistics)}")
    total = math.fsum(statistics)
    partial_sum = 0.0
    for k, value in enumerate(sorted(statistics, reverse=True), start=1):
        partial_sum += value
        if partial_sum >= (kept_cumulative_fraction - ROUNDING) * total:
            return k
    return len(statistics)


def cut_layers(layers: Sequence[Layer], cut: CumulativeSum) -> tuple[LayerCut, ...]:
    """What is removed from each layer in one iteration, in the order of `layers`.

    Of the layers that can lose a filter, those of the highest priority lose as many as they can; ties go by order.
    """
    possible_cuts = [_possible_cut(layer, cut) for layer in layers]
    able = [index for index, possible in enumerate(possible_cuts) if possible.removed > 0]
    by_priority = sorted(able, key=lambda index: -possible_cuts[index].priority)
    chosen = set(by_priority[: cut.layers_per_iteration])
    cuts = []
    for index, possible in enumerate(possible_cuts):
        cuts.append(possible if index in chosen else replace(possible, removed=0))
    return tuple(cuts)


def _possible_cut(layer: Layer, cut: CumulativeSum) -> LayerCut:
    """What the layer loses if it is one of those that are cut first."""
    filters = len(layer.statistics)
    kept = kept_count(layer.statistics, cut.kept_cumulative_fraction)
    most_at_once = max(1, math.floor(cut.most_filters_fraction * filters + ROUNDING))
    removable_fraction = 1.0 - kept / filters
    priority = removable_fraction
    if cut.priority == "removable_x_macs":
        priority *= layer.macs_fraction
    return LayerCut(
        name=layer.name,
        filters=filters,
        kept_by_rule=kept,
        removable_fraction=removable_fraction,
        priority=priority,
        removed=max(0, min(filters - kept, most_at_once, filters - layer.minimum)),
    )


def best_point(path: Sequence[tuple[float, float]]) -> int:
    """The index of the best point: that of the best validation score, among equal ones of the smallest network.

    >>> best_point([(0.90, 0.0), (0.92, 0.1), (0.92, 0.2), (0.80, 0.3)])
    2

    Args:
        path: (score, removed share of the MACs) of each point, at least one; a score that is NaN is the worst.
    """

    def worth(index: int) -> tuple[float, float]:
        score, removed = path[index]
        if math.isnan(score):
            score = -math.inf
        return score, removed

    return max(range(len(path)), key=worth)
