"""What a search has found: lines for a person."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from results.statistics.means import mean_interval
from results.store.reader import Run
from results.text.number_format import SCALES
from sweeps.search.records import Proposal

CONFIRMED = """
SELECT metric, validation_score, test_score FROM compared_points WHERE trial_id IN (SELECT unnest(?))
QUALIFY row_number() OVER (PARTITION BY trial_id ORDER BY point DESC) = 1 ORDER BY seed
"""
SCORES = ("validation_score", "test_score")


@dataclass(frozen=True, kw_only=True)
class _Confirmation:
    """A setting that was run again, with the last points of its trials that have not failed."""

    proposal: Proposal
    points: list[dict[str, Any]]

    @property
    def scored(self) -> list[dict[str, Any]]:
        """The points whose scores are numbers."""
        return [point for point in self.points if all(math.isfinite(point[name] or 0.0) for name in SCORES)]

    @property
    def is_whole(self) -> bool:
        """Whether each of its trials has scores that are numbers; otherwise it is not compared."""
        return len(self.scored) == len(self.proposal.trial_ids)

    @property
    def validation_mean(self) -> float:
        """What the settings are ordered by; of a whole one."""
        return mean_interval([point["validation_score"] for point in self.scored]).mean or 0.0

    def text(self) -> str:
        """Say how it scores on the test split, over how many seeds, and how many are missing."""
        scored, seeds = self.scored, len(self.proposal.trial_ids)
        score = ""
        if scored:
            scale = SCALES[scored[0]["metric"]]
            mean = mean_interval([point["test_score"] for point in scored])
            score = f"test {scale.noun} {scale.value(mean.mean)}{scale.unit} [{scale.interval(mean)}] over "
        missing = {"failed": seeds - len(self.points), "not a number": len(self.points) - len(scored)}
        of_all = "" if self.is_whole else f"of {seeds} "
        lost = "".join(f", {count} {why}" for why, count in missing.items() if count)
        values = ", ".join(f"{key} = {value}" for key, value in self.proposal.candidate.values.items())
        return f"proposal {self.proposal.confirms}, {score}{len(scored)} {of_all}new seeds{lost}: {values}"


def outcome_lines(proposals: list[Proposal], tables: Run) -> Iterator[str]:
    """Say how the confirmed settings score on the test split, the best by validation first.

    A setting with a failed trial, or with a score that is not a number, follows them: it is not compared.
    """
    for proposal in proposals:
        if proposal.purpose == "end":
            yield f"the search ended early: {proposal.refusal}"
    found = [
        _Confirmation(proposal=proposal, points=tables.rows(CONFIRMED, [list(proposal.trial_ids)]))
        for proposal in proposals
        if proposal.purpose == "confirm" and proposal.trial_ids
    ]
    whole = sorted((one for one in found if one.is_whole), key=lambda one: -one.validation_mean)
    for place, one in enumerate(whole):
        yield f"{'also confirmed' if place else 'confirmed winner'}: {one.text()}"
    for one in found:
        if not one.is_whole:
            yield f"not compared: {one.text()}"
