"""Criteria by name, which score the filters; the lowest-scored are removed first. Records without torch."""

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from typing import Any

from tailor.common.registry import Registry, function_of
from tailor.config.needs import NEEDS
from tailor.stages import ScoreNormalisation


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """What is known of a criterion before anything is computed.

    `compute` is a function, or "module:function", that takes a `tailor.pruning.criteria.base.Scoring` and returns
    layer -> (F,) scores of its F filters.

    >>> CRITERIA["taylor"].reads_data, CRITERIA["bn_gamma"].needs, CRITERIA["l1"].normalisation
    (True, frozenset({'norm'}), 'mean')
    """

    compute: Callable[[Any], dict[str, Any]] | str
    source: str  # where it is published
    reads_data: bool = False
    reads_labels: bool = False
    draws: bool = False
    has_gates: bool = False  # it scores factors at the filters' outputs, so their placement matters
    needs: frozenset[str] = frozenset()  # words of tailor/config/needs.py: what a trial must have for it
    scores_wholes: bool = False  # whether it scores heads of attention and channels of a stream, too

    def __post_init__(self) -> None:
        """Raise ValueError for an unknown need, TypeError for a function that a `Scoring` alone cannot be given."""
        unknown = sorted(set(self.needs) - set(NEEDS))
        if unknown:
            raise ValueError(f"needs = {unknown}; expected a set of {', '.join(NEEDS)}")
        if isinstance(self.compute, str):
            return
        try:
            signature(self.compute).bind("scoring")
        except TypeError as error:
            raise TypeError(f"compute is called with one argument, a Scoring: {error}") from error

    @property
    def normalisation(self) -> ScoreNormalisation:
        """What `auto` is for it: `mean` if it reads nothing but the weights of convolutions and linear layers.

        Such scores have the scale of the layer's weights. Factors of norms are compared as they are (Liu et al., ICCV
        2017), and so is what is read from data or drawn.
        """
        reads_only_weights = not self.reads_data and not self.draws and "norm" not in self.needs
        return "mean" if reads_only_weights else "none"

    def function(self) -> Callable[[Any], dict[str, Any]]:
        """The function that computes the scores."""
        return function_of(self.compute)


CRITERIA: Registry[Criterion] = Registry("criterion")


def _add(module: str, name: str, source: str, **facts: Any) -> None:
    CRITERIA.add(name, Criterion(compute=f"tailor.pruning.criteria.{module}:{name}", source=source, **facts))


BY_FACTORS = {"reads_data": True, "reads_labels": True, "has_gates": True, "scores_wholes": True}

_add("weights", "l1", "Li et al., ICLR 2017", scores_wholes=True)
_add("weights", "l2", "He et al., IJCAI 2018 (SFP)", scores_wholes=True)
_add("weights", "l2_squared", "Chin et al., CVPR 2020 (LeGR)", scores_wholes=True)
_add("weights", "fpgm", "He et al., CVPR 2019", scores_wholes=True)
_add("weights", "bn_gamma", "Liu et al., ICCV 2017", needs=frozenset({"norm"}))
_add("gradients", "taylor", "Molchanov et al., CVPR 2019", **BY_FACTORS)
_add("gradients", "beta", "Liu et al., AAAI 2021, Eq. 5", **BY_FACTORS)
_add("weights", "random", "the control", draws=True, scores_wholes=True)
_add("activations", "apoz", "Hu et al., arXiv 1607.03250", reads_data=True, needs=frozenset({"relu"}))
_add("activations", "mean_activation", "Molchanov et al., ICLR 2017", reads_data=True)
_add("activations", "mean_absolute_activation", "our choice, for activations that can be negative", reads_data=True)
