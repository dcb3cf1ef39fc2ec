"""What SFP and GBN do that other methods do not: a fine-tuning that zeroes filters, and the training of gates."""

from dataclasses import dataclass

from tailor.stages.base import STAGE_JSON_BYTES, GroupRule, Size, Stage, StageCost, Task, Training, neutral
from tailor.stages.tuning import FineTune


@dataclass(frozen=True, kw_only=True)
class FineTuneSoftly(FineTune):
    """Fine-tuning after each epoch of which the smallest filters of each layer are set to zero (SFP).

    How many of each layer is what a uniform pruning of `removed_macs_fraction` would remove.
    """

    kind = "fine_tune_softly"
    rule: GroupRule
    removed_macs_fraction: float
    minimum_filters_fraction: float
    width_multiple: int = neutral(1)  # each layer that loses filters keeps a multiple of so many


@dataclass(frozen=True, kw_only=True)
class TrainGates(Stage):
    """The norms' factors trained alone, and meanwhile every filter scored by |dL/dphi x phi| (GBN's tick)."""

    kind = "train_gates"
    task: Task
    training: Training
    rule: GroupRule

    def cost(self, size: Size) -> StageCost:
        """Every training image, forward and backward, in every epoch."""
        return StageCost(
            work=self.training.epochs * size.train_images * size.both_passes, stored_bytes=STAGE_JSON_BYTES
        )
