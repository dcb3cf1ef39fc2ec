"""A dry run of a trial: the stages of its method with their keys and costs, nothing computed. Without torch."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields

import tailor.stages as stages
from tailor.catalogue.networks import NETWORKS
from tailor.config.trial import TrialConfig, trial_id
from tailor.core.errors import ConfigError
from tailor.stages import Size, Stage, StageGenerator, StageOutcome

DESCRIPTION_BYTES = 2_000  # of a stage on disk


@dataclass(frozen=True, slots=True)
class PlannedOutcome:
    """The outcome of a stage in a dry run: its numbers are NaN, so that no rule stops the trial early."""

    key: str
    deciding_score: float = math.nan
    removed_macs_fraction: float = math.nan


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedStage:
    """A stage in a plan."""

    key: str
    kind: str
    version: int
    parents: tuple[str, ...]
    work: float  # forward passes of one image x MACs of the network at that stage; a relative cost
    stored_bytes: int  # expected on disk
    point: int | None  # number of the operating point, None for other stages
    asked_removed_macs_fraction: float | None = None  # of an operating point; None also where a rule decides


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """A trial's id and its stages in the order of execution."""

    trial_id: str
    stages: tuple[PlannedStage, ...]


def stop_after_point(steps: StageGenerator, last_point: int | None) -> StageGenerator:
    """Yield the same stages up to operating point number `last_point` (from 0); None: all of them."""
    point = 0
    outcome: StageOutcome | None = None
    while True:
        try:
            stage = steps.send(outcome)  # type: ignore[arg-type]  # None starts a generator
        except StopIteration:
            return
        outcome = yield stage
        if isinstance(stage, stages.OperatingPoint):
            if point == last_point:
                return
            point += 1


@dataclass(frozen=True, kw_only=True)
class Rung:
    """Where a trial rests, to be continued or not: in its last fine-tuning, or at an operating point."""

    number: int  # on its ladder, from 0
    epochs: int | None = None  # of the last fine-tuning that are done; None: at a point
    point: int | None = None  # number of the operating point, from 0

    def __str__(self) -> str:
        return f"point {self.point}" if self.epochs is None else f"{self.epochs} epoch{'s' if self.epochs > 1 else ''}"


def stages_of(config: TrialConfig, rung: Rung | None = None) -> StageGenerator:
    """The stages of a trial, as its method yields them, up to a rung or its last point.

    Raises:
        ConfigError: the trial has no such rung.
    """
    if rung is None:
        return stop_after_point(config.method.walk(config), config.last_point)
    if getattr(config.method, "stop_early", False):
        raise ConfigError("stop_early = true ends paths by itself, and halving does, too; leave one of them out")
    found = [*planned_stages(config)]
    if rung.point is not None:
        last = sum(isinstance(stage, stages.OperatingPoint) for stage in found) - 1
        if rung.point >= last:
            raise ConfigError(
                f"a rung at point {rung.point}: the last point of {config.method.name!r} is {last}, and rungs are "
                "before it; choose smaller ones"
            )
        return stop_after_point(config.method.walk(config), rung.point)
    tunings = [stage for stage in found if type(stage) is stages.FineTune]
    if not tunings:
        raise ConfigError(
            f"a rung at {rung.epochs} epochs: method {config.method.name!r} has no fine-tuning that can rest; leave "
            "halving out, or choose another method"
        )
    assert rung.epochs is not None
    if rung.epochs >= tunings[-1].training.epochs:
        raise ConfigError(
            f"a rung at {rung.epochs} epochs: the fine-tuning has {tunings[-1].training.epochs}, and rungs are before "
            "its end; choose smaller ones, or more optimisation.epochs"
        )
    return _stop_in_tuning(stages_of(config), len(tunings), rung.epochs)


def _stop_in_tuning(steps: StageGenerator, number: int, epochs: int) -> StageGenerator:
    """Yield the same stages up to fine-tuning `number` (from 1), and of this one only the first epochs."""
    outcome: StageOutcome | None = None
    while True:
        stage = steps.send(outcome)  # type: ignore[arg-type]  # None starts a generator
        if type(stage) is stages.FineTune:
            number -= 1
            if number == 0:
                own = {one.name: getattr(stage, one.name) for one in fields(stage)}
                yield stages.FineTunePart(**own, first_epochs=epochs)
                return
        outcome = yield stage


def planned_stages(config: TrialConfig, rung: Rung | None = None) -> Iterator[Stage]:
    """Yield the stages of a trial without their results, so that no rule stops it early."""
    steps = stages_of(config, rung)
    outcome: StageOutcome | None = None
    while True:
        try:
            stage = steps.send(outcome)  # type: ignore[arg-type]  # None starts a generator
        except StopIteration:
            return
        yield stage
        outcome = PlannedOutcome(stage.key())


PlannedStages = dict[Size, dict[str, PlannedStage]]
"""Planned stages by the size of the network and by key: trials with a common beginning share those of its stages."""


def dry_run(config: TrialConfig, known: PlannedStages | None = None, rung: Rung | None = None) -> DryRun:
    """The trial's id and its planned stages, up to a rung; a method that may stop early is planned to its end.

    The trial's stages are taken from `known`, those of trials planned before, or added to it.

    >>> [stage.kind for stage in dry_run(TrialConfig(method="head_only")).stages]
    ['train_source', 'fit_head', 'operating_point']
    """
    planned: list[PlannedStage] = []
    versions: dict[str, int] = {}
    kept_fraction, size = 1.0, (whole := _size(config))
    known = {} if known is None else known
    same_size = known.setdefault(size, {})
    points = 0
    for stage in planned_stages(config, rung):
        versions[stage.kind] = stage.version
        point = points if isinstance(stage, stages.OperatingPoint) else None
        key = stage.key()
        before, kept_fraction = kept_fraction, stage.kept_fraction(kept_fraction)
        if kept_fraction != before:
            size = whole.narrow(kept_fraction)
            same_size = known.setdefault(size, {})
        step = same_size.get(key)
        if step is None or step.point != point:
            step = same_size[key] = _plan_stage(stage, size, point)
        planned.append(step)
        points += point is not None
    own_id = trial_id(config, versions) if rung is None else dry_run(config).trial_id  # the whole's, also at a rung
    return DryRun(trial_id=own_id, stages=tuple(planned))


def _plan_stage(stage: Stage, size: Size, point: int | None) -> PlannedStage:
    cost = stage.cost(size)
    return PlannedStage(
        key=stage.key(),
        kind=stage.kind,
        version=stage.version,
        parents=stage.parents,
        work=cost.work,
        stored_bytes=DESCRIPTION_BYTES + cost.stored_bytes,
        point=point,
        asked_removed_macs_fraction=(
            stage.asked_removed_macs_fraction if isinstance(stage, stages.OperatingPoint) else None
        ),
    )


def _size(config: TrialConfig) -> Size:
    """The size of the unpruned network and its data, from which costs are computed."""
    network, data, input_shape = NETWORKS[config.network], config.data.info, config.data.input_shape
    return Size(
        macs=network.macs * math.prod(input_shape[1:]) / math.prod(network.input_shape[1:]),
        weights_bytes=4 * network.params_count,
        head_bytes=4 * network.head_params_count,
        train_images=config.train_images,
        source_images=data.source_images,
        measured_images=data.target_images - config.data.train_images,
    )
