"""The surgery of target-aware network adaptation: a rule says how much goes from where, not a budget."""

from dataclasses import dataclass
from typing import Literal

from tailor.stages.base import GroupRule, Stage
from tailor.stages.pruning import Grouping

Priority = Literal["removable", "removable_x_macs"]


@dataclass(frozen=True, kw_only=True)
class CumulativeSum:
    """How much goes from which layer; `tailor.pruning.adaptation_rules` has the rule as functions."""

    kept_cumulative_fraction: float  # of each layer's summed statistic, which the filters that stay hold
    priority: Priority  # which layers go first: by what is removable, or by that times their share of the MACs
    layers_per_iteration: int  # that lose filters at the most
    most_filters_fraction: float  # of a layer's present filters that go at once at the most, at least one


@dataclass(frozen=True, kw_only=True)
class PruneByCumulativeSum(Stage):
    """The filters behind a layer's cumulative sum removed, in the layers of highest priority (Zhong et al., 2018).

    Where the rule leaves nothing to remove, the model stays as it is and `removed_macs_fraction` does not grow.
    """

    kind = "prune_by_cumulative_sum"
    rule: GroupRule
    grouping: Grouping  # how the statistics of a group's layers become one
    cut: CumulativeSum
    minimum_filters_fraction: float  # of each layer's original filters that stay, at least one
