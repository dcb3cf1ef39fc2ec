"""The own stages of SFP and GBN: a fine-tuning that zeroes filters, and the training of gates."""

from dataclasses import dataclass

from tailor.facts.widths import ANY_WIDTH, WidthRule
from tailor.stages.identity import Stage
from tailor.stages.records import GroupRule, Size, StageCost, Task, neutral
from tailor.stages.training import Training
from tailor.stages.tuning import FineTune


@dataclass(frozen=True, kw_only=True)
class FineTuneSoftly(FineTune):
    """Fine-tune and set the smallest filters of each layer to zero after each epoch (SFP).

    Their number in each layer is what a uniform pruning of `asked_removed_macs_fraction` would remove.
    """

    kind = "fine_tune_softly"
    rule: GroupRule
    asked_removed_macs_fraction: float
    minimum_filters_fraction: float
    widths: WidthRule = neutral(ANY_WIDTH)  # that layers which lose filters may keep


@dataclass(frozen=True, kw_only=True)
class TrainGates(Stage):
    """Train only the norms' factors, and meanwhile score every filter by |dL/dphi x phi| (GBN's tick)."""

    kind = "train_gates"
    task: Task
    training: Training
    rule: GroupRule

    @property
    def version(self) -> int:
        return 1 if self.task.has_whole_batches(self.training.batch_size) else 2  # a smaller last batch weighs less

    def cost(self, size: Size) -> StageCost:
        return size.training_cost(self.training.epochs, size.train_images)
