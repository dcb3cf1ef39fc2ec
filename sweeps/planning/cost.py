"""What the stages of planned trials cost, each counted once or as often as it is asked for."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from results.sharing import SOURCE_KIND, Baselines, StageUse, baselines_of
from sweeps.planning.plan import PlannedTrial
from tailor.execution.dry_run import PlannedStage


@dataclass(frozen=True, kw_only=True)
class PlanCost:
    """The cost of a plan. Work is in forward passes of one image x MACs, or in seconds if stages were measured."""

    stages_asked: int  # summed over trials
    stages_distinct: int
    stages_cached: int  # of the distinct ones, finished already
    baselines: Baselines  # what sharing saves
    work_left: float  # each distinct stage that is not cached
    stored_bytes: int  # of the distinct stages, cached or not
    new_bytes: int  # of those that are not cached

    @property
    def work_shared(self) -> float:
        """Each distinct stage once."""
        return self.baselines.one_script.shared


def planned_work(stage: PlannedStage, _network: str) -> float:
    """Return the planned work of a stage, its cost before anything is measured."""
    return stage.work


def cost_of(
    trials: Iterable[PlannedTrial],
    is_cached: Callable[[str], bool],
    work_of: Callable[[PlannedStage, str], float] = planned_work,
) -> PlanCost:
    """Count the stages of trials.

    Args:
        is_cached: whether the stage with a key is finished; called once per distinct stage.
        work_of: the cost of a stage of a trial with a network, such as the expected seconds; likewise.
    """
    distinct: dict[str, PlannedStage] = {}
    work: dict[str, float] = {}
    trials_with: Counter[str] = Counter()
    asked = 0
    for trial in trials:
        asked += len(trial.stages)
        trials_with.update({stage.key for stage in trial.stages})
        network = trial.settings.network
        for stage in trial.stages:
            if stage.key not in distinct:
                distinct[stage.key] = stage
                work[stage.key] = work_of(stage, network)
    not_cached = [stage for stage in distinct.values() if not is_cached(stage.key)]
    uses = [
        StageUse(
            cost=work[key],
            trials=trials_with[key],
            trains_source=stage.kind == SOURCE_KIND,
            from_start=0.0 if stage.point is None else _work_from_the_start(stage, distinct, work),
        )
        for key, stage in distinct.items()
    ]
    return PlanCost(
        stages_asked=asked,
        stages_distinct=len(distinct),
        stages_cached=len(distinct) - len(not_cached),
        baselines=baselines_of(uses),
        work_left=sum(work[stage.key] for stage in not_cached),
        stored_bytes=sum(stage.stored_bytes for stage in distinct.values()),
        new_bytes=sum(stage.stored_bytes for stage in not_cached),
    )


def _work_from_the_start(point: PlannedStage, stages: dict[str, PlannedStage], work: dict[str, float]) -> float:
    """Sum the work of a stage and of all stages that it is made from, each once."""
    needed: set[str] = set()
    waiting = [point.key]
    while waiting:
        key = waiting.pop()
        if key not in needed:
            needed.add(key)
            waiting.extend(stages[key].parents)
    return sum(work[key] for key in needed)
