"""What a search decides, and what its decisions read."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

from sweeps.run.trial_producer import ScoreKey
from sweeps.search.space import SearchCandidate


@dataclass(frozen=True, kw_only=True)
class SettingResult:
    """A setting with its result, as a sampler reads it."""

    candidate: SearchCandidate
    score: float | None  # mean validation score over the seeds; None: it was refused, or a trial failed
    is_pending: bool = False  # it has no result yet, but may get one


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A setting that was proposed, the trials that try it, and what the decision read."""

    number: int  # from 0, in the order of the search
    batch: int  # its decision read the scores of all proposals of smaller batches
    purpose: Literal["search", "promote", "end", "confirm"]
    candidate: SearchCandidate
    seeds: tuple[int, ...]  # one trial each
    drawn_by: str  # the sampler; "random" where the sampler proposed what had been tried
    sampler_seed: int | None = None  # of what drew it; None: nothing was drawn
    reads: tuple[int, ...] = ()
    """Numbers of the proposals whose scores the decision read."""
    read_scores: tuple[float | None, ...] = ()
    """Their scores, as `SettingResult` has them."""
    rung: int | None = None  # to which its trials run; None: to their end
    promotes: int | None = None  # of a promotion: the number of the proposal whose trials it continues
    eta: int | None = None  # of a promotion: one of this many settings was continued
    confirms: int | None = None  # of a proposal that confirms: the number of the proposal that it runs again
    refusal: str | None = None  # why the setting has no trials, or why the search ended early; None otherwise
    trial_ids: tuple[str, ...] = ()

    @property
    def origin(self) -> int:
        """The number of the proposal that began its trials."""
        return self.number if self.promotes is None else self.promotes


def result_of(proposal: Proposal, scores: Mapping[ScoreKey, float]) -> SettingResult:
    """Return the mean over the trials of a proposal at its rung; None if one of them has no score."""
    keys = [(trial_id, proposal.rung) for trial_id in proposal.trial_ids]
    scores_of_trials = [scores[key] for key in keys if key in scores]
    mean_score = None
    if len(scores_of_trials) == 1 == len(keys):  # often there is one seed; a mean would cost time
        mean_score = scores_of_trials[0]
    elif scores_of_trials and len(scores_of_trials) == len(keys):
        mean_score = fmean(scores_of_trials)
    return SettingResult(candidate=proposal.candidate, score=mean_score)


def what_was_read(proposals: Iterable[Proposal], scores: Mapping[ScoreKey, float]) -> dict[str, Any]:
    """Return the fields `reads` and `read_scores` of a decision that compares these proposals by their scores."""
    read = {proposal.number: result_of(proposal, scores).score for proposal in proposals}
    return {"reads": tuple(read), "read_scores": tuple(read.values())}
