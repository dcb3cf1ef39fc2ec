"""Criteria by name, which score the filters; the lowest-scored are removed first. Records without torch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from tailor.core.registry import Registry, function_of


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """What is known of a criterion before anything is computed.

    `compute` is a function, or "module:function", that takes a `tailor.pruning.criteria.base.Scoring` and returns
    layer -> (F,) scores of its F filters.

    >>> CRITERIA["taylor"].reads_data, CRITERIA["bn_gamma"].needs
    (True, 'norm')
    """

    compute: Callable[[Any], dict[str, Any]] | str
    source: str  # where it is published
    reads_data: bool = False
    reads_labels: bool = False
    draws: bool = False
    has_gates: bool = False  # it scores factors at the filters' outputs, so their placement matters
    needs: Literal["nothing", "norm", "relu"] = "nothing"

    def function(self) -> Callable[[Any], dict[str, Any]]:
        """The function that computes the scores."""
        return function_of(self.compute)


CRITERIA: Registry[Criterion] = Registry("criterion")

CRITERIA.add("l1", Criterion(compute="tailor.pruning.criteria.weights:l1", source="Li et al., ICLR 2017"))
CRITERIA.add("l2", Criterion(compute="tailor.pruning.criteria.weights:l2", source="He et al., IJCAI 2018 (SFP)"))
CRITERIA.add(
    "l2_squared",
    Criterion(compute="tailor.pruning.criteria.weights:l2_squared", source="Chin et al., CVPR 2020 (LeGR)"),
)
CRITERIA.add("fpgm", Criterion(compute="tailor.pruning.criteria.weights:fpgm", source="He et al., CVPR 2019"))
CRITERIA.add(
    "bn_gamma",
    Criterion(compute="tailor.pruning.criteria.weights:bn_gamma", source="Liu et al., ICCV 2017", needs="norm"),
)
CRITERIA.add(
    "taylor",
    Criterion(
        compute="tailor.pruning.criteria.gradients:taylor",
        source="Molchanov et al., CVPR 2019",
        reads_data=True,
        reads_labels=True,
        has_gates=True,
    ),
)
CRITERIA.add(
    "beta",
    Criterion(
        compute="tailor.pruning.criteria.gradients:beta",
        source="Liu et al., AAAI 2021, Eq. 5",
        reads_data=True,
        reads_labels=True,
        has_gates=True,
    ),
)
CRITERIA.add("random", Criterion(compute="tailor.pruning.criteria.weights:random", source="the control", draws=True))
CRITERIA.add(
    "apoz",
    Criterion(
        compute="tailor.pruning.criteria.activations:apoz",
        source="Hu et al., arXiv 1607.03250",
        reads_data=True,
        needs="relu",
    ),
)
CRITERIA.add(
    "mean_activation",
    Criterion(
        compute="tailor.pruning.criteria.activations:mean_activation",
        source="Molchanov et al., ICLR 2017",
        reads_data=True,
    ),
)
CRITERIA.add(
    "mean_absolute_activation",
    Criterion(
        compute="tailor.pruning.criteria.activations:mean_absolute_activation",
        source="our choice, for activations that can be negative",
        reads_data=True,
    ),
)
