"""From a model to a smaller one: factors, scores, the surgery, and the importance that stays."""

from dataclasses import dataclass
from typing import Literal

from tailor.stages.base import STAGE_JSON_BYTES, GroupRule, Placement, Size, Stage, StageCost, Task, Training, neutral

BetaMode = Literal["fold", "sqrt", "grad", "raw", "off"]
Normalisation = Literal["layer_mean", "rms", "none", "permuted"]
Grouping = Literal["sum", "mean", "max"]


@dataclass(frozen=True, kw_only=True)
class TrainFactors(Stage):
    """Scaling factors alpha at the filters' outputs, trained while every weight is frozen (TransTailor, Eq. 3)."""

    kind = "train_factors"
    task: Task
    training: Training
    rule: GroupRule
    placement: Placement
    start: float  # initial value of every factor
    noise: float  # standard deviation of what is added to it
    seed: int | None  # of that noise; None where there is none

    def cost(self, size: Size) -> StageCost:
        """Every training image, forward and backward, in every epoch."""
        return StageCost(
            work=self.training.epochs * size.train_images * size.both_passes, stored_bytes=STAGE_JSON_BYTES
        )


@dataclass(frozen=True, kw_only=True)
class ScoreFilters(Stage):
    """One score per filter of every prunable layer; the smaller, the sooner it goes."""

    kind = "score_filters"
    criterion: str
    criterion_sha256: str | None  # of the module that defines the criterion, where a user brought it
    rule: GroupRule
    task: Task | None  # None: the criterion reads no data
    batch_size: int | None
    placement: Placement | None  # of the gates; None: the criterion has none
    seed: int | None  # None: the criterion draws nothing

    def cost(self, size: Size) -> StageCost:
        """One pass over the training images, if data is read."""
        work = size.train_images * size.both_passes if self.task else 0.0
        return StageCost(work=work, stored_bytes=STAGE_JSON_BYTES)


@dataclass(frozen=True, kw_only=True)
class Prune(Stage):
    """The lowest-scored filters removed until a budget is reached."""

    kind = "prune"
    rule: GroupRule
    allocation: Literal["global", "uniform"]
    grouping: Grouping  # how the scores of a group's layers become one
    removed_macs_fraction: float  # of the original network with the target's head
    minimum_filters_fraction: float  # of each layer's original filters that stay, at least one
    seed: int | None  # of random filters that go in place of the lowest-scored ones; None: by the scores
    width_multiple: int = neutral(1)  # each layer that loses filters keeps a multiple of so many

    def kept_fraction(self, before: float) -> float:
        """What the budget leaves."""
        return min(before, 1.0 - self.removed_macs_fraction)


@dataclass(frozen=True, kw_only=True)
class PruneBestOfRandom(Stage):
    """Random configurations of widths that meet the budget, the lowest-scored filters of each layer gone; the best."""

    kind = "prune_best_of_random"
    rule: GroupRule
    grouping: Grouping
    removed_macs_fraction: float
    minimum_filters_fraction: float
    draws: int
    task: Task  # its validation split chooses
    seed: int
    width_multiple: int = neutral(1)  # each layer that loses filters keeps a multiple of so many

    def cost(self, size: Size) -> StageCost:
        """The validation images forward for every draw."""
        return StageCost(work=self.draws * size.measured_images * size.macs, stored_bytes=STAGE_JSON_BYTES)

    def kept_fraction(self, before: float) -> float:
        """What the budget leaves."""
        return min(before, 1.0 - self.removed_macs_fraction)


@dataclass(frozen=True, kw_only=True)
class PruneToLatency(Stage):
    """The lowest-scored filters removed until a forward pass takes so many milliseconds where this stage is computed.

    What was asked is in the key, what was measured and on what is in the result: trials that share the stage share it.
    """

    kind = "prune_to_latency"
    rule: GroupRule
    allocation: Literal["global", "uniform"]
    grouping: Grouping
    removed_macs_fraction: float  # at the most
    minimum_filters_fraction: float
    width_multiple: int
    latency_ms: float
    device: Literal["cpu", "cuda"]
    batch_size: int  # images of a forward pass
    threads: int  # of the CPU
    precision: Literal["float32", "bf16"]
    repeats: int  # forward passes per measurement; their lower quartile counts
    seed: int | None  # of random filters; None: by the scores


@dataclass(frozen=True, kw_only=True)
class MeasureNorms(Stage):
    """The running statistics of the norms measured again on the training images, no weight changed."""

    kind = "measure_norms"
    task: Task
    batch_size: int
    seed: int

    def cost(self, size: Size) -> StageCost:
        """Every training image once, forward."""
        return StageCost(work=size.train_images * size.macs, stored_bytes=STAGE_JSON_BYTES)


@dataclass(frozen=True, kw_only=True)
class AttachImportance(Stage):
    """The scores put into the model as frozen factors for importance-aware fine-tuning (TransTailor, Eq. 6)."""

    kind = "attach_importance"
    rule: GroupRule
    mode: BetaMode
    normalisation: Normalisation
    placement: Placement
    seed: int | None  # of the permutation; None where nothing is permuted


@dataclass(frozen=True, kw_only=True)
class FoldImportance(Stage):
    """The factors multiplied into the weights, so that the function stays and the next iteration starts plain."""

    kind = "fold_importance"
    rule: GroupRule
