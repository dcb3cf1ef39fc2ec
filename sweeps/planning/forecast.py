"""How long a plan takes on several numbers of nodes, and the hours that it uses there, by simulation."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from hpc.cluster.autoscaler import ScalingLimits
from sweeps.planning.durations import Durations
from sweeps.planning.plan import Plan, PlannedTrial
from sweeps.scheduling.simulate import simulate, slots_of
from sweeps.scheduling.simulated_cluster import SimulatedCluster
from sweeps.scheduling.timed import TimedTrial, critical_path_s, join_stages

SIMULATED_TRIALS = 5_000  # of all rows together: above, the bounds are close, and simulating would take too long
ONE_MACHINE = SimulatedCluster(decide_every_s=0.0)


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """The resources of a site for a sweep."""

    limits: ScalingLimits  # with the maximum of workers
    units_per_worker: int  # GPUs of a worker, or cores where it has none
    unit: str = "core"  # what hours are counted of: "GPU" or "core"
    worker: str = "node"  # what a worker is called there
    cluster: SimulatedCluster = ONE_MACHINE


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """The expected end and cost for a number of workers."""

    workers: int
    earliest_s: float  # when the sweep ends; both the same where it was simulated
    latest_s: float
    unit_hours: float  # GPU-hours or core-hours held, without the idle time at the end
    limited_by: str


def one_machine(trials_at_once: int, cores_per_trial: int) -> Capacity:
    """Return the capacity of this machine, with this many trials at once."""
    return Capacity(limits=slots_of(trials_at_once), units_per_worker=cores_per_trial, worker="slot")


def timed_trials(
    plan: Plan, durations: Durations, is_done: Callable[[PlannedTrial], bool], is_cached: Callable[[str], bool]
) -> list[TimedTrial]:
    """Return the trials of a plan that are left, with the expected seconds of each unfinished stage."""
    left = []
    for trial in plan.trials:
        if is_done(trial):
            continue
        network = trial.settings.network
        stages = [
            (f"{trial.trial_id}/{stage.key}" if plan.private_cache else stage.key, stage)
            for stage in trial.stages
            if plan.private_cache or not is_cached(stage.key)
        ]
        left.append((trial.trial_id, [(key, s.work, durations.seconds(s, network)) for key, s in stages]))
    return join_stages(left, plan.resources.ranks)


def forecasts(trials: Sequence[TimedTrial], capacity: Capacity) -> list[Forecast]:
    """Forecast 1, 2, 4, ... workers up to the maximum; if a trial spans workers, start with as many as it needs."""
    counts = list(_counts(capacity.limits))
    if len(trials) * len(counts) <= SIMULATED_TRIALS:
        return [_simulated(trials, capacity, count) for count in counts]
    work_s = sum({step.key: step.seconds for trial in trials for step in trial.steps}.values())
    return [_bounded(work_s, critical_path_s(trials), capacity, count) for count in counts]


def _counts(limits: ScalingLimits) -> Iterator[int]:
    most = limits.workers_for(limits.max_workers * limits.slots_per_worker)
    count = limits.workers_per_slot
    while count < most:
        yield count
        count *= 2
    yield most


def _simulated(trials: Sequence[TimedTrial], capacity: Capacity, count: int) -> Forecast:
    schedule = simulate(trials, replace(capacity.limits, max_workers=count), capacity.cluster)
    return Forecast(
        workers=count,
        earliest_s=schedule.makespan_s,
        latest_s=schedule.makespan_s,
        unit_hours=schedule.worker_s / 3600 * capacity.units_per_worker,
        limited_by=schedule.limited_by,
    )


def _bounded(work_s: float, path_s: float, capacity: Capacity, count: int) -> Forecast:
    """Forecast with the bounds of Graham (1966), for trials that only wait for each other."""
    slots = count // capacity.limits.workers_per_slot * capacity.limits.slots_per_worker
    earliest_s = capacity.cluster.start_s + max(path_s, work_s / slots)
    latest_s = capacity.cluster.start_s + path_s + work_s / slots
    unit_hours = work_s / slots * count / 3600 * capacity.units_per_worker
    limited_by = "critical path" if path_s > work_s / slots else "slots"
    return Forecast(
        workers=count, earliest_s=earliest_s, latest_s=latest_s, unit_hours=unit_hours, limited_by=limited_by
    )
