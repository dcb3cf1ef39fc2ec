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
        """What the settings are ordered by; only a whole one is."""
        return mean_interval([point["validation_score"] for point in self.scored]).mean or 0.0

    def text(self) -> str:
        """Say how it scores on the test split, over how many seeds, and how many are missing."""
        scored = self.scored
        seeds = len(self.proposal.trial_ids)
        score = ""
        if scored:
            scale = SCALES[scored[0]["metric"]]
            mean = mean_interval([point["test_score"] for point in scored])
            score = f"test {scale.noun} {scale.value(mean.mean)}{scale.unit} [{scale.interval(mean)}] over "
        count = f"{len(scored)} " if self.is_whole else f"{len(scored)} of {seeds} "
        failed = seeds - len(self.points)
        not_numbers = len(self.points) - len(scored)
        missing = f", {failed} failed" if failed else ""
        missing += f", {not_numbers} not a number" if not_numbers else ""
        values = ", ".join(f"{key} = {value}" for key, value in self.proposal.candidate.values.items())
        return f"proposal {self.proposal.confirms}, {score}{count}new seeds{missing}: {values}"


def outcome_lines(proposals: list[Proposal], tables: Run) -> Iterator[str]:
    """Say how the confirmed settings score on the test split, the best by validation first.

    A setting with a failed trial, or with a score that is not a number, follows them: it is not compared.
    """
    for proposal in proposals:
        if proposal.purpose == "end":
            yield f"the search ended early: {proposal.refusal}"
    whole: list[_Confirmation] = []
    incomplete: list[_Confirmation] = []
    for proposal in proposals:
        if proposal.purpose == "confirm" and proposal.trial_ids:
            points = tables.rows(CONFIRMED, [list(proposal.trial_ids)])
            confirmation = _Confirmation(proposal=proposal, points=points)
            if confirmation.is_whole:
                whole.append(confirmation)
            else:
                incomplete.append(confirmation)
    whole.sort(key=lambda confirmation: -confirmation.validation_mean)
    for rank, confirmation in enumerate(whole):
        yield f"{'confirmed winner' if rank == 0 else 'also confirmed'}: {confirmation.text()}"
    for confirmation in incomplete:
        yield f"not compared: {confirmation.text()}"
