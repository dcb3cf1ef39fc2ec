"""Trials as a simulation sees them: steps of known seconds, as few as give the same schedule."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sweeps.scheduling.order import QueuedTrial, StageClaim, follow_ups


@dataclass(frozen=True, kw_only=True)
class TimedStep:
    """One stage, or several that follow each other in every trial that has one of them."""

    key: str  # of the first of them
    work: float  # as planned: by this the order is chosen
    ends_s: tuple[float, ...]  # the end of each stage, from the start of the first

    @property
    def seconds(self) -> float:
        """What all of them take."""
        return self.ends_s[-1]

    @property
    def longest_stage_s(self) -> float:
        """What the longest of them takes."""
        return max(end - begin for begin, end in zip((0.0, *self.ends_s), self.ends_s, strict=False))


@dataclass(frozen=True, kw_only=True)
class TimedTrial:
    """A trial that is to run."""

    trial_id: str
    ranks: int
    steps: tuple[TimedStep, ...]  # those that are not finished, in the order of execution


def join_stages(trials: Iterable[tuple[str, Iterable[tuple[str, float, float]]]], ranks: int) -> list[TimedTrial]:
    """Trials of as few steps as give the same schedule.

    Stages that follow each other in every trial that has one of them become one step: nobody waits for the first
    alone. Most of a trial's own stages do, so that a simulation costs little per trial.

    Args:
        trials: id and unfinished stages (key, planned work, seconds) of each, in the order of execution.
        ranks: of each trial.
    """
    listed = [(trial_id, {key: (work, seconds) for key, work, seconds in stages}) for trial_id, stages in trials]
    before: dict[str, str | None] = {}
    after: dict[str, str | None] = {}
    parted: set[tuple[str | None, str | None]] = set()
    for _, stages in listed:
        keys = [None, *stages, None]
        for last, key, following in zip(keys, keys[1:], keys[2:], strict=False):
            assert key is not None
            if before.setdefault(key, last) != last:
                parted |= {(before[key], key), (last, key)}
            if after.setdefault(key, following) != following:
                parted |= {(key, after[key]), (key, following)}
    made = []
    for trial_id, stages in listed:
        steps: list[TimedStep] = []
        last = None
        for key, (work, seconds) in stages.items():
            if last is None or (last, key) in parted:
                steps.append(TimedStep(key=key, work=work, ends_s=(seconds,)))
            else:
                step = steps[-1]
                ends_s = (*step.ends_s, step.seconds + seconds)
                steps[-1] = TimedStep(key=step.key, work=step.work + work, ends_s=ends_s)
            last = key
        made.append(TimedTrial(trial_id=trial_id, ranks=ranks, steps=tuple(steps)))
    return made


def critical_path_s(trials: Sequence[TimedTrial]) -> float:
    """The longest chain of stages of which each can only be computed after the one before, in seconds."""
    chains = [
        QueuedTrial(
            trial_id=trial.trial_id, ranks=1, claims=tuple(StageClaim(key=s.key, work=s.seconds) for s in trial.steps)
        )
        for trial in trials
    ]
    chain, _ = follow_ups(chains, ())
    return max((trial.claims[0].work + chain[trial.claims[0].key] for trial in chains if trial.claims), default=0.0)
