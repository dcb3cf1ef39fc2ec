"""How long a plan takes on several numbers of nodes, and the hours that it uses there."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from hpc.cluster.autoscaler import ScalingLimits
from sweeps.planning.plan import Plan, PlannedTrial
from sweeps.scheduling.timed import TimedTrial, critical_path_s, join_stages, schedule
from tailor.execution.dry_run import PlannedStage

SCHEDULED_TRIALS = 5_000  # of all rows together: above, the bounds are close, and schedules would take too long


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """The resources of a site for a sweep."""

    limits: ScalingLimits  # with the maximum of workers
    units_per_worker: int  # GPUs of a worker, or cores where it has none
    unit: str = "core"  # what hours are counted of: "GPU" or "core"
    worker: str = "node"  # what a worker is called there
    start_s: float = 0.0  # from the start of a worker's job to its first trial


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """The expected end and cost for a number of workers."""

    workers: int
    earliest_s: float  # when the sweep ends; both the same where there is a schedule
    latest_s: float
    unit_hours: float  # GPU-hours or core-hours held, without the idle time at the end
    limited_by: str


def one_machine(trials_at_once: int, cores_per_trial: int) -> Capacity:
    """Return the capacity of this machine, with this many trials at once."""
    limits = ScalingLimits(
        max_workers=trials_at_once, walltime_s=math.inf, drain_before_s=0.0, successor_lead_s=0.0, idle_s=math.inf,
        start_limit_s=math.inf,
    )  # fmt: skip
    return Capacity(limits=limits, units_per_worker=cores_per_trial, worker="slot")


def timed_trials(
    plan: Plan,
    seconds_of: Callable[[PlannedStage, str], float],
    is_done: Callable[[PlannedTrial], bool],
    is_cached: Callable[[str], bool],
) -> list[TimedTrial]:
    """Return the trials of a plan that are left, with the seconds of each unfinished stage by stage and network."""
    left = []
    for trial in plan.trials:
        if is_done(trial):
            continue
        network = trial.settings.network
        stages = []
        for stage in trial.stages:
            if plan.private_cache:
                key = f"{trial.trial_id}/{stage.key}"  # no other trial shares it
            elif is_cached(stage.key):
                continue
            else:
                key = stage.key
            stages.append((key, stage.work, seconds_of(stage, network)))
        left.append((trial.trial_id, stages))
    return join_stages(left)


def forecasts(trials: Sequence[TimedTrial], capacity: Capacity) -> list[Forecast]:
    """Forecast 1, 2, 4, ... workers up to the maximum; if a trial spans workers, start with as many as it needs."""
    worker_counts = list(_worker_counts(capacity.limits))
    seconds_of_steps: dict[str, float] = {}  # each distinct step once
    for trial in trials:
        for step in trial.steps:
            seconds_of_steps[step.key] = step.seconds
    work_s = sum(seconds_of_steps.values())
    if len(trials) * len(worker_counts) <= SCHEDULED_TRIALS:
        return [_forecast_by_schedule(trials, work_s, capacity, count) for count in worker_counts]
    path_s = critical_path_s(trials)
    return [_forecast_by_bounds(work_s, path_s, capacity, count) for count in worker_counts]


def most_slots(capacity: Capacity) -> int:
    """Return how many trials run at a time with all workers."""
    return _slots(capacity, capacity.limits.max_workers)


def _worker_counts(limits: ScalingLimits) -> Iterator[int]:
    most = limits.workers_for(limits.max_workers * limits.slots_per_worker)
    count = limits.workers_per_slot
    while count < most:
        yield count
        count *= 2
    yield most


def _slots(capacity: Capacity, count: int) -> int:
    return count // capacity.limits.workers_per_slot * capacity.limits.slots_per_worker


def _forecast_by_schedule(trials: Sequence[TimedTrial], work_s: float, capacity: Capacity, count: int) -> Forecast:
    """Forecast with a schedule; each new worker at the end of a walltime costs a start, as trials have checkpoints."""
    limits = capacity.limits
    slots = _slots(capacity, count)
    makespan_s, held_s = schedule(trials, slots, limits.idle_s)
    starts = max(1, math.ceil(makespan_s / (limits.walltime_s - limits.drain_before_s)))
    ends_s = starts * capacity.start_s + makespan_s
    workers_s = held_s * limits.workers_per_slot / limits.slots_per_worker + count * starts * capacity.start_s
    return Forecast(
        workers=count,
        earliest_s=ends_s,
        latest_s=ends_s,
        unit_hours=workers_s / 3600 * capacity.units_per_worker,
        limited_by="slots" if work_s > makespan_s * slots / 2 else "critical path",
    )


def _forecast_by_bounds(work_s: float, path_s: float, capacity: Capacity, count: int) -> Forecast:
    """Forecast with the bounds of Graham (1966), for trials that only wait for each other."""
    shared_evenly_s = work_s / _slots(capacity, count)
    return Forecast(
        workers=count,
        earliest_s=capacity.start_s + max(path_s, shared_evenly_s),
        latest_s=capacity.start_s + path_s + shared_evenly_s,
        unit_hours=shared_evenly_s * count / 3600 * capacity.units_per_worker,
        limited_by="critical path" if path_s > shared_evenly_s else "slots",
    )
