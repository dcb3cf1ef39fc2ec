"""Which channels of the pre-trained network matter for the target: DELTA's attention."""

import math
from dataclasses import dataclass

from tailor.stages.identity import Stage
from tailor.stages.records import STAGE_JSON_BYTES, Size, StageCost, Task

BYTES_PER_WEIGHT = 4


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
        return StageCost(work=work, stored_bytes=STAGE_JSON_BYTES)
