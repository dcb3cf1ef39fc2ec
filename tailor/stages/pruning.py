"""From a model to a smaller one: factors, scores, surgery, and importance."""

from dataclasses import dataclass
from typing import Literal

from tailor.common.seeds import stream
from tailor.facts.widths import ANY_WIDTH, WidthRule
from tailor.stages.identity import Stage
from tailor.stages.records import GroupRule, Placement, Size, StageCost, StageOutcome, Task, neutral
from tailor.stages.training import Training

BetaMode = Literal["fold", "sqrt", "grad", "raw", "off"]
BetaNormalisation = Literal["layer_mean", "rms", "none", "permuted"]
Grouping = Literal["sum", "mean", "max"]
Division = Literal["global", "uniform", "by_kind", "knapsack"]  # of a budget over layers
ScoreNormalisation = Literal["mean", "none"]  # by what the scores of a group are divided before groups are compared


@dataclass(frozen=True, kw_only=True)
class TrainFactors(Stage):
    """Train scaling factors alpha at the filters' outputs with all weights frozen (TransTailor, Eq. 3)."""

    kind = "train_factors"
    task: Task
    training: Training
    rule: GroupRule
    placement: Placement
    start: float  # initial value of every factor
    noise: float  # standard deviation of the noise that is added to it
    seed: int | None  # of that noise; None: no noise

    def cost(self, size: Size) -> StageCost:
        return size.training_cost(self.training.epochs, size.train_images)


def step_seed(seed: int, step: int) -> int:
    """The seed of what a step of a path draws; that of the first step is the path's own seed.

    >>> step_seed(7, 1), step_seed(7, 2) == step_seed(7, 3)
    (7, False)
    """
    return seed if step == 1 else stream(seed, "step", step)


@dataclass(frozen=True, kw_only=True)
class ScoreFilters(Stage):
    """Score each filter of every prunable layer; the lowest-scored are removed first."""

    kind = "score_filters"
    criterion: str
    criterion_sha256: str | None  # of the plugin that defines the criterion; None: it is built in
    rule: GroupRule
    task: Task | None  # None: the criterion reads no data
    batch_size: int | None
    placement: Placement | None  # of the gates; None: the criterion has none
    seed: int | None  # None: the criterion draws no random numbers
    step: int = neutral(1)  # of a path, if the criterion draws: each step has its own numbers

    @property
    def version(self) -> int:
        if self.task is None or self.batch_size is None or self.placement is None:
            return 1
        return 1 if self.task.has_whole_batches(self.batch_size) else 2  # a smaller last batch weighs less

    def cost(self, size: Size) -> StageCost:
        """One pass over the training images, if data is read."""
        work = size.train_images * size.both_passes if self.task else 0.0
        return StageCost(work=work)


@dataclass(frozen=True, kw_only=True)
class AdoptScores(Stage):
    """Give a model the scores of another one with the same layers, which was scored by a donor's images."""

    kind = "adopt_scores"
    donor: StageOutcome


@dataclass(frozen=True, kw_only=True)
class BudgetedStage(Stage):
    """The settings of all stages that choose filters by scores and a budget."""

    rule: GroupRule
    grouping: Grouping  # how the scores of a group's layers are combined
    asked_removed_macs_fraction: float  # of the original network with the target's head
    minimum_filters_fraction: float  # of each layer's original filters that stay, at least one
    widths: WidthRule = neutral(ANY_WIDTH)  # that layers which lose filters may keep


@dataclass(frozen=True, kw_only=True)
class DrawnStage(BudgetedStage):
    """A surgery that may draw random numbers, in each step of a path its own."""

    normalisation: ScoreNormalisation = neutral("none")  # of the combined scores
    step: int = neutral(1)  # of the path, if numbers are drawn


@dataclass(frozen=True, kw_only=True)
class Prune(DrawnStage):
    """Remove filters until a budget is met: the lowest-scored ones, or all but those with the largest sum of scores."""

    kind = "prune"
    allocation: Division
    seed: int | None  # of random filters that are removed instead of the lowest-scored ones; None: by the scores

    def kept_fraction(self, before: float) -> float:
        return min(before, 1.0 - self.asked_removed_macs_fraction)


@dataclass(frozen=True, kw_only=True)
class PruneByTable(Stage):
    """Keep the filters with the largest sum of scores whose milliseconds by a table are within a budget.

    Nothing is timed: the result follows from the scores, the table's content and the budget. Where its file is, and on
    which machine the trial runs, changes nothing.
    """

    kind = "prune_by_table"
    rule: GroupRule
    grouping: Grouping
    normalisation: ScoreNormalisation = neutral("none")
    minimum_filters_fraction: float
    table_sha256: str  # of the file
    asked_latency_ms: float | None  # one of the two
    asked_latency_fraction: float | None  # of the whole network's milliseconds in the table
    seed: int | None  # of random scores instead of the criterion's; None: the criterion's
    step: int = neutral(1)  # of the path, if numbers are drawn


@dataclass(frozen=True, kw_only=True)
class MeasureNorms(Stage):
    """Measure the norms' running statistics again on the training images; no weight changes."""

    kind = "measure_norms"
    task: Task
    batch_size: int
    seed: int

    @property
    def version(self) -> int:
        return 1 if self.task.has_whole_batches(self.batch_size) else 2  # a smaller last batch weighs less

    def cost(self, size: Size) -> StageCost:
        """Every training image once, forward."""
        return StageCost(work=size.train_images * size.macs)


@dataclass(frozen=True, kw_only=True)
class ShiftMeans(Stage):
    """Add to biases what removed filters and heads gave on average (mean shift: VBP, arXiv 2507.12988)."""

    kind = "shift_means"
    unpruned: StageOutcome  # the model before the surgery that `of` is
    rule: GroupRule
    task: Task
    batch_size: int

    def cost(self, size: Size) -> StageCost:
        """Every training image once, forward."""
        return StageCost(work=size.train_images * size.macs)


@dataclass(frozen=True, kw_only=True)
class AttachImportance(Stage):
    """Put the scores into the model as frozen factors for importance-aware fine-tuning (TransTailor, Eq. 6)."""

    kind = "attach_importance"
    rule: GroupRule
    mode: BetaMode
    normalisation: BetaNormalisation
    placement: Placement
    seed: int | None  # of the permutation; None: no permutation


@dataclass(frozen=True, kw_only=True)
class FoldImportance(Stage):
    """Multiply the factors into the weights: the same function, without factors for the next iteration."""

    kind = "fold_importance"
    rule: GroupRule
