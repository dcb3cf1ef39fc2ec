"""LeGR's search for a global ranking (Chin, Ding, Zhang, Marculescu: CVPR 2020, arXiv 1904.12368)."""

from dataclasses import dataclass

from tailor.stages.base import STAGE_JSON_BYTES, GroupRule, Size, Stage, StageCost, Task, Training, neutral
from tailor.stages.pruning import Grouping


@dataclass(frozen=True, kw_only=True)
class LearnRanking(Stage):
    """The scores of each layer scaled and shifted, so that the lowest of the whole network can go best.

    Scales and shifts are evolved; an individual's fitness is the validation loss of the network that its ranking
    leaves, after a short tuning if there is one.
    """

    kind = "learn_ranking"
    rule: GroupRule
    grouping: Grouping
    removed_macs_fraction: float  # at which individuals are judged
    minimum_filters_fraction: float
    population: int
    samples: int  # of the population, drawn with replacement; the best of them is mutated
    generations: int  # individuals judged in all, the first population among them
    mutated_fraction: float  # of the layers, rounded down, at least one
    scale_sigma: float  # standard deviation of a scale's logarithm at first; mutations shrink with the generations
    task: Task  # its validation split judges, its training split tunes
    tuning_steps: int  # of SGD before an individual is judged
    training: Training | None  # of those steps; None: there are none
    seed: int
    width_multiple: int = neutral(1)  # each layer that loses filters keeps a multiple of so many

    def cost(self, size: Size) -> StageCost:
        """For every individual the validation images forward and the tuning's images forward and backward."""
        judged = size.measured_images * size.macs
        tuned = 0.0 if self.training is None else self.tuning_steps * self.training.batch_size * size.both_passes
        return StageCost(work=self.generations * (judged + tuned), stored_bytes=STAGE_JSON_BYTES)
