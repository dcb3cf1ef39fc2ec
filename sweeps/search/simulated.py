"""A search with made-up scores: what it may take, before anything has run."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from sweeps.planning.plan import PlannedTrial
from sweeps.scheduling.timed import TimedStep, TimedTrial, schedule
from sweeps.search.proposals import live_limit, next_batch
from sweeps.search.records import Proposal, Score, ScoreKey
from sweeps.search.samplers import Sampling
from sweeps.search.space import SearchCandidate, space_of
from sweeps.spec.spec import Spec
from tailor.common.seeds import stream
from tailor.execution.dry_run import PlannedStage


@dataclass(frozen=True, kw_only=True)
class SimulatedSearch:
    """What a search took whose scores were made up."""

    trials: int  # also stopped ones, and those that confirm
    work: float  # of all distinct stages
    makespan: float  # on the slots, in the unit of `work`


def simulate_search(
    spec: Spec, work_of: Callable[[PlannedStage, str], float], *, slots: int, seed: int
) -> SimulatedSearch:
    """Make all decisions of a search by scores that are drawn for each setting, on an empty cache.

    A decision is made as in a run: when a batch has ended, or asynchronously as soon as a trial has.

    Args:
        spec: with [search].
        work_of: as in `sweeps.planning.cost.cost_of`.
        slots: trials at a time.
        seed: of the scores.
    """
    assert spec.search is not None
    proposals: list[Proposal] = []
    scores: dict[ScoreKey, Score] = {}
    running: dict[str, Proposal] = {}  # of each running trial, the proposal
    reached: dict[str, PlannedTrial] = {}  # each trial, up to the rung to which it runs or has run
    work: dict[str, float] = {}  # of each stage
    sampling = Sampling(space_of(spec), spec.search)

    def timed(trial: PlannedTrial) -> TimedTrial:
        for key, added in added_work(trial, reached.get(trial.trial_id), work_of).items():
            work.setdefault(key, added)
        reached[trial.trial_id] = trial
        steps = [TimedStep(key=stage.key, work=work[stage.key], ends_s=(work[stage.key],)) for stage in trial.stages]
        return TimedTrial(trial_id=trial.trial_id, steps=tuple(steps))

    def more(live: Collection[str]) -> list[TimedTrial]:
        """Score the trials that have ended, and return those that a decision adds."""
        for trial_id in running.keys() - live:
            ended = running.pop(trial_id)
            scores[trial_id, ended.rung] = _score(ended.candidate, seed)
        while len(live) < live_limit(spec):
            batch = next_batch(spec, proposals, scores, None, sampling, live)
            if not batch:
                return []
            trials = []
            for decision in batch:
                proposals.append(decision.proposal)
                for trial_id in decision.proposal.trial_ids:
                    running[trial_id] = decision.proposal
                trials += [timed(trial) for trial in decision.trials]
            if trials:
                return trials
        return []

    makespan, _held = schedule((), slots, 0.0, more)
    return SimulatedSearch(trials=len(reached), work=sum(work.values()), makespan=makespan)


def added_work(
    trial: PlannedTrial, before: PlannedTrial | None, work_of: Callable[[PlannedStage, str], float]
) -> dict[str, float]:
    """Return the work by stage of what a trial computes in addition to what it has done.

    Args:
        before: the same trial up to the rung where it rests; None: it begins.
        work_of: as in `cost_of`; that of a part of a fine-tuning counts from its first epoch.
    """
    network = trial.settings.network
    if before is None:
        return {stage.key: work_of(stage, network) for stage in trial.stages}
    done = {stage.key for stage in before.stages}
    added = {stage.key: work_of(stage, network) for stage in trial.stages if stage.key not in done}
    continued = trial.stages[len(before.stages) - 1].key  # if the trial rested in it: its last part is longer now
    if continued in added:
        added[continued] = max(0.0, added[continued] - work_of(before.stages[-1], network))
    return added


def _score(candidate: SearchCandidate, seed: int) -> Score:
    draw = stream(seed, "score", candidate.key)
    return Score(validation_score=draw / 2**63, macs=draw % 1_000_003)
