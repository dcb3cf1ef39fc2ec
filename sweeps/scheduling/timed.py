"""Trials for a simulation: steps of known seconds, as few as possible for the same result."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sweeps.scheduling.order import QueuedTrial, StageClaim, follow_ups


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

    @property
    def longest_stage_s(self) -> float:
        """Seconds of the longest stage."""
        return max(end - begin for begin, end in zip((0.0, *self.ends_s), self.ends_s, strict=False))


@dataclass(frozen=True, kw_only=True)
class TimedTrial:
    """A trial to simulate."""

    trial_id: str
    ranks: int
    steps: tuple[TimedStep, ...]  # unfinished ones, in the order of execution


def join_stages(trials: Iterable[tuple[str, Iterable[tuple[str, float, float]]]], ranks: int) -> list[TimedTrial]:
    """Join the stages of trials into as few steps as possible for the same result.

    Stages that follow each other in every trial that has one of them become one step, because no trial waits for only
    the first of them. Most of a trial's own stages do, so that a simulation costs little per trial.

    Args:
        trials: id and unfinished stages (key, planned work, seconds) of each, in the order of execution.
        ranks: number of ranks of each trial.
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
    """Return the seconds of the longest chain of stages that can only be computed one after the other."""
    chains = [
        QueuedTrial(
            trial_id=trial.trial_id, ranks=1, claims=tuple(StageClaim(key=s.key, work=s.seconds) for s in trial.steps)
        )
        for trial in trials
    ]
    chain, _ = follow_ups(chains, ())
    return max((trial.claims[0].work + chain[trial.claims[0].key] for trial in chains if trial.claims), default=0.0)
