"""An arm beside its control on several data sets, of which each is one observation."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from results.arms.comparison import Pairing
from results.sign_flip import SIGNIFICANCE
from results.statistics.sets import OverSets, over_sets


@dataclass(frozen=True)
class OverDataSets:
    """The comparison of two arms on each of several data sets, and what their mean differences say together."""

    pairings: tuple[Pairing, ...]

    @cached_property
    def over(self) -> OverSets:
        """The mean over the data sets; one without pairs counts as 0, and then nothing is concluded."""
        return over_sets([pairing.result.difference.mean or 0.0 for pairing in self.pairings])

    @property
    def is_complete(self) -> bool:
        """Whether each data set has pairs, and no trial failed."""
        return all(pairing.result.difference.n and not pairing.failed for pairing in self.pairings)

    @property
    def p(self) -> float | None:
        """Of a mean of 0; None if the comparison is incomplete."""
        return self.over.p if self.is_complete else None

    @property
    def verdict(self) -> str:
        """Better, worse or inconclusive, before any correction; or incomplete."""
        if not self.is_complete:
            return "incomplete"
        if self.p is None or self.p > SIGNIFICANCE:
            return "inconclusive"
        return "better" if (self.over.mean.mean or 0.0) > 0 else "worse"

    @property
    def record(self) -> dict[str, Any]:
        """The columns that every table over data sets has."""
        mean = self.over.mean
        return {
            "difference": mean.mean, "difference_low": mean.low, "difference_high": mean.high,
            "new_set_low": self.over.new_low, "new_set_high": self.over.new_high, "p": self.p,
            "verdict": self.verdict, "failed_trials": sum(pairing.failed for pairing in self.pairings),
        }  # fmt: skip
