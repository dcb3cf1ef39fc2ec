"""Decide how many workers a sweep should have: a pure function of its workers, its work and the time. No I/O, no clock.

The driver calls `decide` about once a second.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

BACKOFF_S = 5.0
BACKOFF_MAX_S = 900.0
BACKOFF_SHRINK = 4  # each wave of failures divides the number of workers that may be starting by this


@dataclass(frozen=True, kw_only=True)
class Worker:
    """One worker's job, as the driver knows it."""

    job: str
    state: Literal["waiting", "starting", "ready", "draining"]
    """In SLURM's queue; started there and not joined; usable; gets no new work (also: released, cancelled)."""
    ends_at_s: float | None = None  # when its walltime ends; None while it waits in SLURM's queue
    idle_since_s: float | None = None  # since when it has been ready without work; None if it is not
    starting_since_s: float | None = None  # None unless it is starting


@dataclass(frozen=True, kw_only=True)
class ScalingLimits:
    """What does not change between calls, except `gpu_hours_left`."""

    max_workers: int
    """Workers at a time; those that drain do not count, so that a successor can come before its predecessor ends."""
    walltime_s: float
    drain_before_s: float  # how long before the end of its walltime a worker gets no new work
    successor_lead_s: float  # how long before that its successor is submitted
    idle_s: float  # how long a worker without use is kept
    start_limit_s: float  # a worker that SLURM has started and that has not joined after this time is given up
    slots_per_worker: int = 1
    workers_per_slot: int = 1  # more than 1 for trials that span workers; then `slots_per_worker` is 1
    gpu_hours_left: float | None = None
    """For further workers, without those that submitted workers asked for; None: no limit."""
    gpu_hours_per_worker: float = 0.0  # the GPUs of a worker times its walltime

    def __post_init__(self) -> None:
        """Raise ValueError if workers would be replaced as soon as they start."""
        if self.drain_before_s + self.successor_lead_s >= self.walltime_s:
            raise ValueError(
                f"drain_before_s = {self.drain_before_s} and successor_lead_s = {self.successor_lead_s} leave nothing "
                f"of a walltime of {self.walltime_s} s; make them shorter or the walltime longer"
            )
        if min(self.slots_per_worker, self.workers_per_slot) != 1:
            raise ValueError(
                f"slots_per_worker = {self.slots_per_worker} and workers_per_slot = {self.workers_per_slot}: "
                "a trial takes a part of a worker or several, so at least one of the two is 1"
            )

    @property
    def affordable(self) -> float:
        """How many workers may still be submitted, as a whole number or infinity."""
        if self.gpu_hours_left is None or self.gpu_hours_per_worker == 0:
            return math.inf
        return max(0.0, math.floor(self.gpu_hours_left / self.gpu_hours_per_worker + 1e-9))  # sums of floats

    def workers_for(self, slots: int) -> int:
        """Return how many workers these slots need, within the limit; a trial that spans workers gets all or none."""
        wanted = math.ceil(slots / self.slots_per_worker) * self.workers_per_slot
        most = self.max_workers // self.workers_per_slot * self.workers_per_slot
        return min(wanted, most)


@dataclass(frozen=True, kw_only=True)
class Failures:
    """Waves of workers that died before they were of use: never joined, or dead soon after.

    `Failures()` once a worker has joined and stayed. Workers that die during the back-off were submitted before it and
    belong to the same wave, so an incident that ends fifty workers counts as one.
    """

    waves: int = 0
    last_wave_s: float = -math.inf

    @property
    def backoff_ends_s(self) -> float:
        """When the next worker may be submitted."""
        if self.waves == 0:
            return -math.inf
        return self.last_wave_s + min(BACKOFF_MAX_S, BACKOFF_S * 2.0 ** min(self.waves - 1, 30))

    def with_one_more(self, now_s: float) -> "Failures":
        """Return the failures after a worker died at `now_s` before it was of use."""
        if now_s < self.backoff_ends_s:
            return self
        return Failures(waves=self.waves + 1, last_wave_s=now_s)


@dataclass(frozen=True, kw_only=True)
class Actions:
    """The next actions. A worker that is drained, released or cancelled counts as draining from then on."""

    submit: int = 0
    drain: tuple[str, ...] = ()  # ready workers whose walltime is nearly over
    release: tuple[str, ...] = ()  # idle workers without use
    cancel: tuple[str, ...] = ()  # waiting jobs without use, and workers that did not join; the latter are failures
    surplus_since_s: float | None = None
    """Since when there have been more workers than the work can use; pass it to the next call."""


def decide(
    workers: Sequence[Worker],
    wanted_slots: int,
    now_s: float,
    limits: ScalingLimits,
    *,
    failures: Failures,
    surplus_since_s: float | None,
) -> Actions:
    """Decide how to get as many workers as the work can use within the limits.

    Lost workers are replaced because they are no longer in `workers`; workers near their end, because they do not
    count as capacity, while their submitted successors do.

        >>> limits = ScalingLimits(max_workers=4, walltime_s=3600, drain_before_s=120, successor_lead_s=120,
        ...                        idle_s=60, start_limit_s=300)
        >>> decide([], 2, 0.0, limits, failures=Failures(), surplus_since_s=None).submit
        2
        >>> ready = Worker(job="7", state="ready", ends_at_s=3600)
        >>> decide([ready], 1, 3500.0, limits, failures=Failures(), surplus_since_s=None).drain
        ('7',)

    Args:
        workers: all that have not ended, in the order of submission.
        wanted_slots: trials that run, and those that could start now if there were slots.
        now_s: on the same clock as all other times.
        limits: of the site and the sweep.
        failures: workers that died before they were of use.
        surplus_since_s: from the last call's actions; None at first.
    """
    active = [worker for worker in workers if worker.state != "draining"]
    drain = [worker for worker in active if worker.state == "ready" and _left_s(worker, now_s) <= limits.drain_before_s]
    stuck = [worker for worker in active if worker.state == "starting" and _is_stuck(worker, now_s, limits)]
    active = [worker for worker in active if worker not in drain and worker not in stuck]
    near_the_end_s = limits.drain_before_s + limits.successor_lead_s
    staying = [worker for worker in active if _left_s(worker, now_s) > near_the_end_s]
    ending = [worker for worker in active if _left_s(worker, now_s) <= near_the_end_s]
    needed = limits.workers_for(wanted_slots)
    surplus = len(staying) - needed
    if surplus <= 0:
        surplus_since_s = None
    elif surplus_since_s is None:
        surplus_since_s = now_s
    submit = 0
    if surplus < 0 and not stuck:  # stuck workers are failures, which count before the next submission
        submit = min(-surplus, limits.max_workers - len(active), _submission_limit(active, now_s, limits, failures))
    cancel: list[Worker] = []
    if surplus_since_s is not None and now_s - surplus_since_s >= limits.idle_s:
        cancel = [worker for worker in reversed(staying) if worker.state == "waiting"][:surplus]
        surplus -= len(cancel)
    else:
        surplus = 0
    release = _surplus_workers(staying, ending, needed, surplus, now_s, limits)
    return Actions(
        submit=max(0, submit),
        drain=_jobs(drain),
        release=_jobs(release),
        cancel=_jobs([*stuck, *cancel]),
        surplus_since_s=surplus_since_s,
    )


def _surplus_workers(
    staying: Iterable[Worker], ending: Iterable[Worker], needed: int, surplus: int, now_s: float, limits: ScalingLimits
) -> list[Worker]:
    """Return workers idle for `idle_s`: the first `surplus` to end, and those near their end that are replaced."""

    def has_been_idle(worker: Worker) -> bool:
        since_s = worker.idle_since_s
        return worker.state == "ready" and since_s is not None and now_s - since_s >= limits.idle_s

    idle = [worker for worker in staying if has_been_idle(worker)]
    release = sorted(idle, key=lambda worker: _left_s(worker, now_s))[:surplus]
    ready = [worker for worker in staying if worker.state == "ready"]
    if len(ready) - len(release) >= needed:
        release += [worker for worker in ending if has_been_idle(worker)]
    return release


def _submission_limit(active: Iterable[Worker], now_s: float, limits: ScalingLimits, failures: Failures) -> int:
    """Return how many workers the budget and the failures allow to submit now."""
    if now_s < failures.backoff_ends_s:
        return 0
    allowed = limits.affordable
    if failures.waves:
        unproven = [worker for worker in active if worker.state in ("waiting", "starting")]
        most_unproven = max(1, limits.max_workers // BACKOFF_SHRINK**failures.waves)
        allowed = min(allowed, most_unproven - len(unproven))
    return int(min(allowed, limits.max_workers))


def _left_s(worker: Worker, now_s: float) -> float:
    return math.inf if worker.ends_at_s is None else worker.ends_at_s - now_s


def _is_stuck(worker: Worker, now_s: float, limits: ScalingLimits) -> bool:
    """Whether a starting worker can no longer be of use."""
    since_s = now_s if worker.starting_since_s is None else worker.starting_since_s
    return now_s - since_s >= limits.start_limit_s or _left_s(worker, now_s) <= limits.drain_before_s


def _jobs(workers: Iterable[Worker]) -> tuple[str, ...]:
    return tuple(worker.job for worker in workers)
