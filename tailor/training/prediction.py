"""What a model predicts for many samples, over all ranks; and its validation while it trains."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tailor.data.objective import quality
from tailor.data.task_data import Samples, ordered_batches
from tailor.parallel.process_group import ProcessGroup


@torch.no_grad()
def predict(model: nn.Module, samples: Samples, ranks: ProcessGroup) -> Tensor:
    """Return the outputs (N, K) for all samples, on the CPU of every rank; each sample is seen by one rank."""
    model.eval()
    own_indices = torch.arange(ranks.rank, len(samples), ranks.world_size, device=samples.labels.device)
    own_samples = samples.take(own_indices)
    outputs = [model(images) for images, _labels in ordered_batches(own_samples)]
    return ranks.gather_interleaved(torch.cat(outputs), len(samples)).cpu()


@dataclass(frozen=True, kw_only=True, eq=False)
class EpochValidation:
    """Measures samples after every `every` epochs; draws no random number and leaves norms and modes as they are.

    If the training averages its weights, the current weights are measured and not their average.
    """

    samples: Samples
    every: int
    ranks: ProcessGroup

    def measure(self, model: nn.Module, epochs: int) -> dict[str, Any]:
        """Return columns for the row of an epoch, after `epochs` epochs; empty if it is not measured. Collective.

        The score is by the task's usual metric. A trial's own is in no key of a training, so all scores are there, too.
        """
        if epochs % self.every:
            return {}
        modules_in_training = [module for module in model.modules() if module.training]
        validation = quality(predict(model, self.samples, self.ranks), self.samples.labels.cpu())
        for module in modules_in_training:  # `model.train()` would also switch frozen norms back
            module.training = True
        return {
            "validation_loss": validation.loss,
            "validation_score": validation.score,
            **validation.scores_on("validation"),
        }
