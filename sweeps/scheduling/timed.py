"""Trials of known seconds in the order of the driver: when they end. Their steps are as few as possible for that."""

import heapq
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter

from sweeps.scheduling.trial_queue import QueuedTrial, StageClaim, TrialQueue, follow_ups


@dataclass(frozen=True, kw_only=True)
class TimedStep:
    """One stage, or several that follow each other in every trial that has one of them."""

    key: str  # of the first stage
    work: float  # as planned; the order depends on it
    ends_s: tuple[float, ...]  # the end of each stage, from the start of the first

    @property
    def seconds(self) -> float:
        """Seconds of all stages."""
        return self.ends_s[-1]


@dataclass(frozen=True, kw_only=True)
class TimedTrial:
    """A trial whose stages take known times."""

    trial_id: str
    steps: tuple[TimedStep, ...]  # unfinished ones, in the order of execution


def join_stages(trials: Iterable[tuple[str, Iterable[tuple[str, float, float]]]]) -> list[TimedTrial]:
    """Join the stages of trials into as few steps as possible for the same result.

    Stages that follow each other in every trial that has one of them become one step, because no trial waits for only
    the first of them. Most of a trial's own stages do, so that a schedule costs little per trial.

    Args:
        trials: id and unfinished stages (key, planned work, seconds) of each, in the order of execution.
    """
    stages_of_trials: list[tuple[str, dict[str, tuple[float, float]]]] = []
    for trial_id, stages in trials:
        stages_of_trials.append((trial_id, {key: (work, seconds) for key, work, seconds in stages}))
    parted = _parted([list(stages) for _trial_id, stages in stages_of_trials])
    timed = []
    for trial_id, stages_by_key in stages_of_trials:
        steps: list[TimedStep] = []
        last_key = None
        for key, (work, seconds) in stages_by_key.items():
            if last_key is None or (last_key, key) in parted:
                steps.append(TimedStep(key=key, work=work, ends_s=(seconds,)))
            else:
                step = steps[-1]
                ends_s = (*step.ends_s, step.seconds + seconds)
                steps[-1] = TimedStep(key=step.key, work=step.work + work, ends_s=ends_s)
            last_key = key
        timed.append(TimedTrial(trial_id=trial_id, steps=tuple(steps)))
    return timed


def _parted(keys_of_trials: Iterable[Sequence[str]]) -> set[tuple[str | None, str | None]]:
    """Return the pairs of stages that follow each other in some trials but not in all that have one of them.

    None in a pair is the beginning or the end of a trial.
    """
    before: dict[str, str | None] = {}
    after: dict[str, str | None] = {}
    parted: set[tuple[str | None, str | None]] = set()
    for keys in keys_of_trials:
        for key, last, following in zip(keys, [None, *keys], [*keys[1:], None], strict=False):
            if before.setdefault(key, last) != last:
                parted |= {(before[key], key), (last, key)}
            if after.setdefault(key, following) != following:
                parted |= {(key, after[key]), (key, following)}
    return parted


def schedule(
    trials: Sequence[TimedTrial],
    slots: int,
    idle_s: float,
    more: Callable[[Collection[str]], Sequence[TimedTrial]] = lambda _: (),
) -> tuple[float, float]:
    """Run the trials on slots that exist from the start, in the driver's order, without failures.

    A free slot that was used last is taken first, so that others can be released.

    Args:
        idle_s: how long a slot is held between two trials.
        more: of a search: called with the ids of the trials that wait or run, at the start and after each step, until
            it returns no more trials. One that continues has the id of one that has ended.

    Returns:
        When the last trial ends, in seconds; and the slot-seconds held, without those before a slot's first trial and
        after its last.

    >>> step = TimedStep(key="a", work=1.0, ends_s=(5.0,))
    >>> schedule([TimedTrial(trial_id="one", steps=(step,))], slots=2, idle_s=60.0)
    (5.0, 5.0)
    """
    by_id = {trial.trial_id: trial for trial in trials}
    queue = TrialQueue([_queued_by_work(trial) for trial in trials], (), slots=slots)
    ends: list[tuple[float, int, str, int]] = []  # heap: a step's end, its order among all, its trial, its index there
    free_since_s: list[float] = []  # of slots that were used, the one used last at the end
    slots_used = 0
    steps_begun = 0
    now_s = 0.0
    held_s = 0.0

    def begin(trial_id: str, index: int) -> None:
        """Begin a trial's first unfinished step from this one on, or free its slot."""
        nonlocal steps_begun
        steps = by_id[trial_id].steps
        while index < len(steps) and steps[index].key in queue.finished:
            index += 1
        if index == len(steps):
            queue.trial_ended(trial_id, finished=True)
            free_since_s.append(now_s)
            return
        steps_begun += 1
        heapq.heappush(ends, (now_s + steps[index].seconds, steps_begun, trial_id, index))

    while True:
        while new_trials := more(queue.live):
            by_id |= {trial.trial_id: trial for trial in new_trials}
            queue = queue.with_trials(_queued_by_work(trial) for trial in new_trials)
        if not (queue.waiting or ends):
            return now_s, held_s
        while queue.could_start and (free_since_s or slots_used < slots):
            if free_since_s:
                held_s += min(now_s - free_since_s.pop(), idle_s)
            else:
                slots_used += 1
            choice = queue.next()
            assert isinstance(choice, QueuedTrial)
            begin(choice.trial_id, 0)
        now_s = ends[0][0] if ends else now_s
        while ends and ends[0][0] == now_s:
            _end_s, _order, trial_id, index = heapq.heappop(ends)
            step = by_id[trial_id].steps[index]
            held_s += step.seconds
            queue.stage_finished(step.key)
            begin(trial_id, index + 1)


def critical_path_s(trials: Sequence[TimedTrial]) -> float:
    """Return the seconds of the longest chain of stages that can only be computed one after the other."""
    queued = [_queued_trial(trial, attrgetter("seconds")) for trial in trials]
    chain, _total = follow_ups(queued, ())
    longest_s = 0.0
    for trial in queued:
        if trial.claims:
            first = trial.claims[0]
            longest_s = max(longest_s, first.work + chain[first.key])
    return longest_s


def _queued_by_work(trial: TimedTrial) -> QueuedTrial:
    return _queued_trial(trial, attrgetter("work"))


def _queued_trial(trial: TimedTrial, work_of: Callable[[TimedStep], float]) -> QueuedTrial:
    claims = tuple(StageClaim(key=step.key, work=work_of(step)) for step in trial.steps)
    return QueuedTrial(trial_id=trial.trial_id, claims=claims)
