"""Training on the target, and the measurement of the result."""

from dataclasses import dataclass, fields
from typing import Any, Literal

from tailor.facts.metrics import Metric
from tailor.facts.regularisation import BSS, Regulariser
from tailor.stages.identity import Stage
from tailor.stages.records import Size, StageCost, StageOutcome, Task, neutral
from tailor.stages.training import Training

PREDICTION_BYTES = 24

Deciding = Literal["validation", "train"]


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """The weight of a teacher in addition to the labels."""

    weight: float  # in (0, 1]; the labels count 1 - weight
    temperature: float


@dataclass(frozen=True, kw_only=True)
class FineTune(Stage):
    """Train all weights on the target, from its labels and perhaps from a teacher."""

    kind = "fine_tune"
    task: Task
    training: Training
    regulariser: Regulariser | None
    optimiser_state: Literal["reset", "kept"]  # kept: momentum of the fine-tuning before is continued, pruned alike
    distillation: Distillation | None = neutral(None)
    teacher: StageOutcome | None = None  # with distillation: the unpruned network, fine-tuned

    @property
    def version(self) -> int:
        is_as_before = not isinstance(self.regulariser, BSS) or self.task.has_whole_batches(self.training.batch_size)
        return 1 if is_as_before else 2  # a smaller last batch has no such penalty

    def cost(self, size: Size) -> StageCost:
        """Every training image, forward and backward, in every epoch, and forward through an anchor and a teacher.

        The teacher, which is wider, is counted at the student's width.
        """
        work_per_image = size.both_passes
        if self.regulariser is not None and self.regulariser.runs_anchor:
            work_per_image += size.macs
        if self.distillation is not None:
            work_per_image += size.macs
        work = self.training.epochs * size.train_images * work_per_image
        copies = 2 if self.optimiser_state == "kept" else 1
        return StageCost(work=work, stored_bytes=copies * size.weights_bytes)


@dataclass(frozen=True, kw_only=True)
class FineTunePart(FineTune):
    """The first epochs of a fine-tuning, and the validation score after them.

    Its state is in the checkpoint of the whole, from which the next part or the whole continues.
    """

    kind = "fine_tune_part"
    first_epochs: int
    metric: Metric | None = neutral(None)  # as of an operating point

    @property
    def whole(self) -> FineTune:
        """The fine-tuning that this is the beginning of."""
        return FineTune(**{field.name: getattr(self, field.name) for field in fields(FineTune)})

    def cost(self, size: Size) -> StageCost:
        """The share of the epochs; on disk the checkpoint: weights, their average, what the optimiser keeps."""
        copies = 2  # weights and momentum
        if self.training.optimiser != "sgd":
            copies += 1  # a second moment
        if self.training.ema_decay is not None:
            copies += 1  # the average
        work = super().cost(size).work * self.first_epochs / self.training.epochs
        return StageCost(work=work, stored_bytes=copies * size.weights_bytes)


@dataclass(frozen=True, kw_only=True)
class OperatingPoint(Stage):
    """A sub-model that the trial reached: its cost, its quality on the validation split, its predictions."""

    kind = "operating_point"
    task: Task
    asked_removed_macs_fraction: float | None  # None: milliseconds were asked, or a rule decided what is removed
    decides_on: Deciding  # the split whose score the trial's decisions read
    asked_latency_ms: float | None = neutral(None)  # None: none was, or as a share
    asked_latency_fraction: float | None = neutral(None)  # of the whole network's milliseconds in a table
    metric: Metric | None = neutral(None)  # of the scores that decide; None: accuracy, or R squared

    def cost(self, size: Size) -> StageCost:
        """Every image of the validation and test splits once, forward."""
        stored_bytes = size.measured_images * PREDICTION_BYTES
        return StageCost(work=size.measured_images * size.macs, stored_bytes=stored_bytes)


@dataclass(frozen=True, kw_only=True)
class PointFacts:
    """The facts of an operating point: its cost and its quality."""

    macs: int
    original_macs: int
    params: int
    layers: list[dict[str, Any]]  # rows of the table `layers`: layer, width, original_width, macs
    metric: str
    deciding_score: float
    validation_score: float
    validation_loss: float
    validation_images: int
    validation_accuracy: float | None = None  # None, like the next ones: real values, or cached before
    validation_balanced_accuracy: float | None = None
    validation_macro_f1: float | None = None
    validation_top_5: float | None = None
    validation_log_loss: float | None = None
    validation_calibration_error: float | None = None

    @property
    def removed_macs_fraction(self) -> float:
        """Share of the original MACs that is removed, in [0, 1]."""
        return 1.0 - self.macs / self.original_macs

    def __str__(self) -> str:
        metric = self.metric.replace("_", " ")
        return f"{self.removed_macs_fraction:.1%} of the MACs removed, validation {metric} {self.validation_score:.4f}"
