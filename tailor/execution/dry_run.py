"""A dry run of a trial: the stages of its method with their keys and costs, nothing computed. Without torch."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields

import tailor.stages as stages
from tailor.common.errors import ConfigError
from tailor.config.trial import TrialConfig, trial_id
from tailor.facts.metrics import Metric
from tailor.facts.networks import NETWORKS
from tailor.stages import Size, Stage, StageGenerator, StageOutcome
from transtailor.plural import counted

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


def stop_after_point(steps: StageGenerator, last_point: int) -> StageGenerator:
    """Yield the same stages up to operating point number `last_point`, from 0."""
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
        if self.epochs is None:
            return f"point {self.point}"
        return counted(self.epochs, "epoch")


def stages_of(config: TrialConfig, rung: Rung | None = None) -> StageGenerator:
    """Return a generator of a trial's stages, as its method yields them, up to a rung or its last point.

    Raises:
        ConfigError: the trial has no such rung.
    """
    if rung is None:
        return config.method.walk(config)
    if getattr(config.method, "stop_early", False):
        raise ConfigError("stop_early = true ends paths by itself, and halving does, too; leave one of them out")
    if rung.point is not None:
        return _stages_to_point(config, rung.point)
    assert rung.epochs is not None
    return _stages_to_epochs(config, rung.epochs)


def _stages_to_point(config: TrialConfig, point: int) -> StageGenerator:
    """Return a trial's stages up to an operating point that is not its last."""
    last_point = sum(isinstance(stage, stages.OperatingPoint) for stage in planned_stages(config)) - 1
    if point >= last_point:
        raise ConfigError(
            f"a rung at point {point}: the last point of {config.method.name!r} is {last_point}, and rungs are "
            "before it; choose smaller ones"
        )
    return stop_after_point(config.method.walk(config), point)


def _stages_to_epochs(config: TrialConfig, epochs: int) -> StageGenerator:
    """Return a trial's stages up to the first `epochs` of its last fine-tuning."""
    tunings = [stage for stage in planned_stages(config) if type(stage) is stages.FineTune]
    if not tunings:
        raise ConfigError(
            f"a rung at {epochs} epochs: method {config.method.name!r} has no fine-tuning that can rest; leave "
            "halving out, or choose another method"
        )
    tuning_epochs = tunings[-1].training.epochs
    if epochs >= tuning_epochs:
        raise ConfigError(
            f"a rung at {epochs} epochs: the fine-tuning has {tuning_epochs}, and rungs are before "
            "its end; choose smaller ones, or more optimisation.epochs"
        )
    return _stop_in_tuning(stages_of(config), len(tunings), epochs, config.metric)


def _stop_in_tuning(steps: StageGenerator, number: int, epochs: int, metric: Metric | None) -> StageGenerator:
    """Yield the same stages up to fine-tuning `number` (from 1), and of this one only the first epochs."""
    tunings_seen = 0
    outcome: StageOutcome | None = None
    while True:
        stage = steps.send(outcome)  # type: ignore[arg-type]  # None starts a generator
        if type(stage) is stages.FineTune:
            tunings_seen += 1
            if tunings_seen == number:
                values = {field.name: getattr(stage, field.name) for field in fields(stage)}
                yield stages.FineTunePart(**values, first_epochs=epochs, metric=metric)
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
        if not isinstance(stage, Stage):
            raise ConfigError(
                f"method {config.method.name!r}: walk yields a {type(stage).__name__}; expected a stage; what a recipe "
                "does in several stages (head, prune) is typed yield from"
            )
        yield stage
        outcome = PlannedOutcome(stage.key())


PlannedStages = dict[Size, dict[str, PlannedStage]]
"""Planned stages by the size of the network and by key: trials with a common beginning share those of its stages."""


def dry_run(config: TrialConfig, known: PlannedStages | None = None, rung: Rung | None = None) -> DryRun:
    """Return the trial's id and its planned stages, up to a rung; a method that may stop early is planned to its end.

    The trial's stages are taken from `known`, those of trials planned before, or added to it.

    >>> [stage.kind for stage in dry_run(TrialConfig(method="head_only")).stages]
    ['train_source', 'fit_head', 'operating_point']
    """
    planned: list[PlannedStage] = []
    versions: dict[str, int] = {}
    known = {} if known is None else known
    unpruned_size = _size(config)
    kept_fraction = 1.0
    size = unpruned_size
    known_of_size = known.setdefault(size, {})
    points = 0
    for stage in planned_stages(config, rung):
        versions[stage.kind] = stage.version
        point = points if isinstance(stage, stages.OperatingPoint) else None
        key = stage.key()
        kept_fraction_before = kept_fraction
        kept_fraction = stage.kept_fraction(kept_fraction)
        if kept_fraction != kept_fraction_before:
            size = unpruned_size.narrow(kept_fraction)
            known_of_size = known.setdefault(size, {})
        planned_stage = known_of_size.get(key)
        if planned_stage is None or planned_stage.point != point:
            planned_stage = _plan_stage(stage, size, point)
            known_of_size[key] = planned_stage
        planned.append(planned_stage)
        if point is not None:
            points += 1
    if rung is None and points == 0:
        raise ConfigError(
            f"method {config.method.name!r}: walk yields no operating point, so the trial would have no result; end it "
            "with: yield recipe.point(model)"
        )
    # A trial that rests at a rung has the id of the whole trial.
    own_id = trial_id(config, versions) if rung is None else dry_run(config).trial_id
    return DryRun(trial_id=own_id, stages=tuple(planned))


def _plan_stage(stage: Stage, size: Size, point: int | None) -> PlannedStage:
    cost = stage.cost(size)
    asked_fraction = stage.asked_removed_macs_fraction if isinstance(stage, stages.OperatingPoint) else None
    return PlannedStage(
        key=stage.key(),
        kind=stage.kind,
        version=stage.version,
        parents=stage.parents,
        work=cost.work,
        stored_bytes=DESCRIPTION_BYTES + cost.stored_bytes,
        point=point,
        asked_removed_macs_fraction=asked_fraction,
    )


def _size(config: TrialConfig) -> Size:
    """Return the size of the unpruned network and its data, from which costs are computed."""
    network = NETWORKS[config.network]
    data = config.data.info
    pixels = math.prod(config.data.input_shape[1:])
    pixels_of_network = math.prod(network.input_shape[1:])  # for which its MACs are known
    return Size(
        macs=network.macs * pixels / pixels_of_network,
        weights_bytes=4 * network.params_count,
        head_bytes=4 * network.head_params_count,
        train_images=config.train_images,
        source_images=data.source_images,
        measured_images=data.target_images - config.data.train_images,
    )
