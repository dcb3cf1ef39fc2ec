"""A search with made-up scores: what it may take, before anything has run."""

from collections.abc import Callable
from dataclasses import dataclass

from sweeps.planning.plan import PlannedTrial
from sweeps.scheduling.timed import join_stages, schedule
from sweeps.search.proposals import next_batch
from sweeps.search.records import Proposal, Score, ScoreKey
from sweeps.search.samplers import Sampling
from sweeps.search.space import SearchCandidate, space_of
from sweeps.spec.spec import Spec
from tailor.core.seeds import stream
from tailor.execution.dry_run import PlannedStage


@dataclass(frozen=True, kw_only=True)
class SimulatedSearch:
    """What a search took whose scores were made up."""

    trials: int  # also stopped ones, and those that confirm
    work: float  # of all distinct stages
    makespan: float  # on the slots, in the unit of `work`; a batch begins when the one before has ended


def simulate_search(
    spec: Spec, work_of: Callable[[PlannedStage, str], float], *, slots: int, seed: int
) -> SimulatedSearch:
    """Make all decisions of a search by scores that are drawn for each setting, on an empty cache.

    Args:
        spec: with [search] whose decisions can be replayed.
        work_of: as in `sweeps.planning.plan.cost_of`.
        slots: trials at a time.
        seed: of the scores.
    """
    assert spec.search is not None
    made: list[Proposal] = []
    scores: dict[ScoreKey, Score] = {}
    work: dict[str, float] = {}
    ids: set[str] = set()
    makespan, sampling = 0.0, Sampling(space_of(spec), spec.search)
    while batch := next_batch(spec, made, scores, searcher=sampling):
        left = []
        for decision in batch:
            made.append(decision.proposal)
            for trial in decision.trials:
                ids.add(trial.trial_id)
                left.append((trial.trial_id, _new_stages(trial, work, work_of)))
                scores[trial.trial_id, decision.proposal.rung] = _score(decision.proposal.candidate, seed)
        work |= {key: amount for _, stages in left for key, amount, _ in stages}
        makespan += schedule(join_stages(left, spec.resources.ranks), slots, idle_s=0.0)[0]
    return SimulatedSearch(trials=len(ids), work=sum(work.values()), makespan=makespan)


def _new_stages(
    trial: PlannedTrial, computed: dict[str, float], work_of: Callable[[PlannedStage, str], float]
) -> list[tuple[str, float, float]]:
    """The stages that no batch before has computed: key, work, and time, which is the same."""
    new = [stage for stage in trial.stages if stage.key not in computed]
    amounts = [work_of(stage, trial.settings.network) for stage in new]
    return [(stage.key, amount, amount) for stage, amount in zip(new, amounts, strict=True)]


def _score(candidate: SearchCandidate, seed: int) -> Score:
    draw = stream(seed, "score", candidate.key)
    return Score(validation_score=draw / 2**63, macs=draw % 1_000_003)
