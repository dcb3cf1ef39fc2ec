"""LeGR's search for a global ranking (Chin, Ding, Zhang, Marculescu: CVPR 2020, arXiv 1904.12368)."""

from dataclasses import dataclass

from tailor.stages.pruning import BudgetedStage
from tailor.stages.records import Size, StageCost, Task
from tailor.stages.training import Training


@dataclass(frozen=True, kw_only=True)
class LearnRanking(BudgetedStage):
    """Scale and shift the scores of each layer, so that the lowest of the whole network are the best to remove.

    Scales and shifts are evolved. An individual's fitness is the validation loss of the network that its ranking
    prunes to the budget, after a short tuning if there is one.
    """

    kind = "learn_ranking"
    population: int
    samples: int  # of the population, drawn with replacement; the best of them is mutated
    generations: int  # individuals evaluated in all, with the first population
    mutated_fraction: float  # of the layers, rounded down, at least one
    scale_sigma: float  # standard deviation of a scale's logarithm at first; mutations shrink with the generations
    task: Task  # individuals are evaluated on its validation split and tuned on its training split
    tuning_steps: int  # of SGD before an individual is evaluated
    training: Training | None  # of those steps; None: there are none
    seed: int

    def cost(self, size: Size) -> StageCost:
        """For each individual, the validation images forward and the tuning's images forward and backward."""
        judged = size.measured_images * size.macs
        tuned = 0.0 if self.training is None else self.tuning_steps * self.training.batch_size * size.both_passes
        return StageCost(work=self.generations * (judged + tuned))
