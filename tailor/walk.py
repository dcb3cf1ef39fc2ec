"""Walking a method without running it: its stages, their keys and what they cost. Without torch."""

import math
from dataclasses import dataclass

from tailor import stage as stages
from tailor.catalog import DATASETS, NETWORKS, NetworkInfo
from tailor.config import TrialConfig, trial_id
from tailor.methods import Steps
from tailor.stage import Outcome, Stage

BACKWARD_WORK = 2.0  # a backward pass costs about two forward passes
STAGE_JSON_BYTES = 2_000
PREDICTION_BYTES = 16


@dataclass(frozen=True)
class PlannedOutcome:
    """The outcome of a stage that was not run: its accuracy is NaN, so that no rule stops the walk early."""

    key: str
    validation_accuracy: float = math.nan


@dataclass(frozen=True, kw_only=True)
class PlannedStage:
    """A stage as the plan sees it."""

    key: str
    kind: str
    version: int
    parents: tuple[str, ...]
    work: float  # forward passes of one image x MACs of the network at that stage; a relative cost
    stored_bytes: int  # expected on disk
    point: int | None  # number of the operating point, None for other stages


@dataclass(frozen=True, kw_only=True)
class Walk:
    """A trial's id and its stages in the order of execution."""

    trial_id: str
    stages: tuple[PlannedStage, ...]


def until(steps: Steps, last_point: int | None) -> Steps:
    """The same stages, ended after operating point number `last_point` (from 0); None: all of them."""
    point = 0
    outcome: Outcome | None = None
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


def steps_of(config: TrialConfig) -> Steps:
    """The stages of a trial, as its method yields them, up to its last point."""
    return until(config.method.walk(config), config.last_point)


def walk(config: TrialConfig) -> Walk:
    """The trial's id and its planned stages; a method that may stop early is walked to its end."""
    planned: list[PlannedStage] = []
    versions: dict[str, int] = {}
    cost = _Cost(config)
    steps = steps_of(config)
    points = 0
    outcome: Outcome | None = None
    while True:
        try:
            stage = steps.send(outcome)  # type: ignore[arg-type]  # None starts a generator
        except StopIteration:
            return Walk(trial_id=trial_id(config, versions), stages=tuple(planned))
        versions[stage.kind] = stage.version
        is_point = isinstance(stage, stages.OperatingPoint)
        key = stage.key()
        work, stored_bytes = cost.of(stage)
        planned.append(
            PlannedStage(
                key=key,
                kind=stage.kind,
                version=stage.version,
                parents=stage.parents,
                work=work,
                stored_bytes=stored_bytes,
                point=points if is_point else None,
            )
        )
        points += is_point
        outcome = PlannedOutcome(key)


class _Cost:
    """Expected work and bytes of stages, following the width of the network along the path."""

    def __init__(self, config: TrialConfig) -> None:
        self.network: NetworkInfo = NETWORKS[config.network]
        self.data = DATASETS[config.data.name]
        self.train_images = config.data.train_images
        if config.data.images_per_class is not None:
            self.train_images = min(self.train_images, config.data.images_per_class * self.data.target_classes)
        self.kept_fraction = 1.0

    def of(self, stage: Stage) -> tuple[float, int]:
        """Work and stored bytes of one stage; surgery changes the width for those that follow."""
        if isinstance(stage, stages.Prune):
            self.kept_fraction = 1.0 - stage.removed_macs_fraction
        macs = self.network.macs * self.kept_fraction
        weights_bytes = int(4 * self.network.params_count * self.kept_fraction)
        forward, both = macs, macs * (1.0 + BACKWARD_WORK)
        if isinstance(stage, stages.TrainSource):
            return stage.training.epochs * self.data.source_images * both, STAGE_JSON_BYTES + weights_bytes
        if isinstance(stage, stages.FitHead):
            head_bytes = 4 * self.network.head_params_count
            return stage.training.epochs * self.train_images * forward, STAGE_JSON_BYTES + head_bytes
        if isinstance(stage, stages.TrainFactors):
            return stage.training.epochs * self.train_images * both, STAGE_JSON_BYTES
        if isinstance(stage, stages.ScoreFilters):
            return (self.train_images * both if stage.task else 0.0), STAGE_JSON_BYTES
        if isinstance(stage, stages.FineTune):
            return stage.training.epochs * self.train_images * both, STAGE_JSON_BYTES + weights_bytes
        if isinstance(stage, stages.OperatingPoint):
            measured = self.data.target_images - self.train_images
            return measured * forward, STAGE_JSON_BYTES + measured * PREDICTION_BYTES
        return 0.0, STAGE_JSON_BYTES
