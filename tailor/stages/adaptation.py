"""The surgery of target-aware network adaptation: a rule decides how many filters each layer loses, not a budget."""

from dataclasses import dataclass
from typing import Literal

from tailor.stages.identity import Stage
from tailor.stages.pruning import Grouping
from tailor.stages.records import GroupRule

Priority = Literal["removable", "removable_x_macs"]


@dataclass(frozen=True, kw_only=True)
class CumulativeSum:
    """How many filters each layer loses; `tailor.pruning.adaptation_rules` has the rule as functions."""

    kept_cumulative_fraction: float  # of each layer's summed statistic, in the filters that stay
    priority: Priority  # which layers are cut first: by what is removable, or by that times their MACs
    layers_per_iteration: int  # most layers that lose filters
    most_filters_fraction: float  # largest share of a layer's present filters that is removed, at least one filter


@dataclass(frozen=True, kw_only=True)
class PruneByCumulativeSum(Stage):
    """Remove the filters beyond a layer's cumulative sum, in the layers of highest priority (Zhong et al., 2018).

    If the rule allows no removal, the model does not change and `removed_macs_fraction` does not grow.
    """

    kind = "prune_by_cumulative_sum"
    rule: GroupRule
    grouping: Grouping  # how the statistics of a group's layers are combined
    cut: CumulativeSum
    minimum_filters_fraction: float  # of each layer's original filters that stay, at least one
