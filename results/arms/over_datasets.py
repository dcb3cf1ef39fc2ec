"""An arm beside its control on several data sets, of which each is one observation."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from results.arms.comparison import Pairing
from results.arms.verdict import no_verdict
from results.sign_flip import SIGNIFICANCE
from results.statistics.sets import OverSets, over_sets


@dataclass(frozen=True)
class OverDataSets:
    """The comparison of two arms on each of several data sets, and what their mean differences say together."""

    pairings: tuple[Pairing, ...]

    @cached_property
    def over(self) -> OverSets:
        """The mean over the data sets; none of it where one has no pairs."""
        means = [pairing.result.difference.mean for pairing in self.pairings]
        known = [mean for mean in means if mean is not None]
        return over_sets(known if len(known) == len(means) else [])

    @property
    def p(self) -> float | None:
        """Of a mean of 0; None if trials failed, or a data set has no pairs."""
        return None if any(pairing.failed for pairing in self.pairings) else self.over.p

    @property
    def verdict(self) -> str:
        """Better, worse or inconclusive, before any correction; or why neither can be said."""
        reason = no_verdict(*self.pairings)
        if reason:
            return reason
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
