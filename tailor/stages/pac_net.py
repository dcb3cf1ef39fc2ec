"""PAC-Net's stages: find the weights that the source task needs, train only these, then the others on the target."""

from dataclasses import dataclass

from tailor.stages.identity import Stage
from tailor.stages.records import Size, StageCost, Task, neutral
from tailor.stages.training import Training


@dataclass(frozen=True, kw_only=True)
class FindEssential(Stage):
    """Find the weights of largest magnitude in the whole network with its head; all others are redundant (Prune)."""

    kind = "find_essential"
    prune_ratio: float  # share of the weights that is redundant

    def cost(self, size: Size) -> StageCost:
        """One byte per weight on disk."""
        return StageCost(stored_bytes=size.weights_bytes // 4)


@dataclass(frozen=True, kw_only=True)
class Allocate(Stage):
    """Train the essential weights on the source task, with the redundant ones exactly 0 (Allocate)."""

    kind = "allocate"
    data_name: str
    data_sha256: str
    training: Training
    start_penalty: float = neutral(0.0)  # factor of the squared distance of the essential weights from where they start

    @property
    def version(self) -> int:
        return 2  # its epochs have both learning rates

    def cost(self, size: Size) -> StageCost:
        return size.training_cost(self.training.epochs, size.source_images, size.weights_bytes)


@dataclass(frozen=True, kw_only=True)
class Calibrate(Stage):
    """Train the redundant weights and the new head on the target, with the essential ones frozen (Calibrate)."""

    kind = "calibrate"
    task: Task
    training: Training
    penalty_strength: float  # factor of the sum of the squared redundant weights

    def cost(self, size: Size) -> StageCost:
        return size.training_cost(self.training.epochs, size.train_images, size.weights_bytes)
