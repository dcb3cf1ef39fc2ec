"""The model before it is pruned: pre-trained network, target's head, anchor, weights of its channels, new weights."""

import math
from dataclasses import dataclass

from tailor.facts.networks import NETWORKS
from tailor.facts.widths import ANY_WIDTH, WidthRule
from tailor.stages.identity import Stage
from tailor.stages.records import Size, StageCost, Task, neutral
from tailor.stages.training import Training

BYTES_PER_WEIGHT = 4


@dataclass(frozen=True, kw_only=True)
class TrainSource(Stage):
    """Train the network from scratch on the source task: the pre-trained network of the embedded data sets."""

    kind = "train_source"
    network: str
    network_sha256: str | None  # of the plugin that defines the network; None: it is built in
    input_shape: tuple[int, ...]
    data_name: str
    data_sha256: str
    asked_removed_macs_fraction: float  # above 0: every layer is narrower from the start (a smaller dense network)
    initial_seed: int
    training: Training
    widths: WidthRule = neutral(ANY_WIDTH)  # of the narrower layers

    @property
    def version(self) -> int:
        return NETWORKS[self.network].version

    def cost(self, size: Size) -> StageCost:
        return size.training_cost(self.training.epochs, size.source_images, size.weights_bytes)

    def kept_fraction(self, before: float) -> float:
        """Share of the MACs that the narrower layers have."""
        return before * (1.0 - self.asked_removed_macs_fraction)


@dataclass(frozen=True, kw_only=True)
class LoadWeights(Stage):
    """Load the weights of a file, identified by its SHA-256; the file's path is not part of the stage."""

    kind = "load_weights"
    network: str
    network_sha256: str | None
    input_shape: tuple[int, ...]
    weights_sha256: str
    pixel_mean: tuple[float, ...]  # of pixels in [0, 1], one per channel: what the weights were trained with
    pixel_std: tuple[float, ...]

    @property
    def version(self) -> int:
        return NETWORKS[self.network].version

    def cost(self, size: Size) -> StageCost:
        """No computation; a copy of the weights."""
        return StageCost(stored_bytes=size.weights_bytes)


@dataclass(frozen=True, kw_only=True)
class FitHead(Stage):
    """Train a new last layer for the target on frozen features (TransTailor, Algorithm 1, line 1)."""

    kind = "fit_head"
    task: Task
    head_seed: int
    training: Training

    @property
    def version(self) -> int:
        return 2  # its epochs have both learning rates

    def cost(self, size: Size) -> StageCost:
        """Every training image, forward only, in every epoch."""
        work = self.training.epochs * size.train_images * size.macs
        return StageCost(work=work, stored_bytes=size.head_bytes)


@dataclass(frozen=True, kw_only=True)
class RememberWeights(Stage):
    """Keep the present weights without the head's as the model's anchor, pruned with it (L2-SP, DELTA)."""

    kind = "remember_weights"


@dataclass(frozen=True, kw_only=True)
class Reinitialise(Stage):
    """Initialise the pruned network again: the control that shows whether the inherited weights matter."""

    kind = "reinitialise"
    seed: int


@dataclass(frozen=True, kw_only=True)
class WeighChannels(Stage):
    """One weight per channel of the compared feature maps, by how much the loss grows without it (DELTA)."""

    kind = "weigh_channels"
    task: Task
    images: int  # of the training split, at most all of them
    seed: int  # which images

    def cost(self, size: Size) -> StageCost:
        """The images forward once per channel; the number of channels is estimated by the root of the parameters'."""
        channels = math.sqrt(size.weights_bytes / BYTES_PER_WEIGHT)
        work = channels * min(self.images, size.train_images) * size.macs
        return StageCost(work=work)
