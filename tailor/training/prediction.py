"""What a model predicts for many samples, over all ranks; and its validation while it trains."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tailor.data.objective import quality
from tailor.data.task_data import Samples, ordered_batches
from tailor.parallel.process_group import ProcessGroup


@torch.no_grad()
def predict(model: nn.Module, samples: Samples, ranks: ProcessGroup) -> Tensor:
    """The outputs (N, K) for all samples, on the CPU of every rank; each sample is seen by one rank."""
    model.eval()
    mine = samples.take(torch.arange(ranks.rank, len(samples), ranks.world_size, device=samples.labels.device))
    shares = [model(images) for images, _ in ordered_batches(mine)]
    return ranks.gather_interleaved(torch.cat(shares), len(samples)).cpu()


@dataclass(frozen=True, kw_only=True, eq=False)
class EpochValidation:
    """Measures samples after every `every` epochs; draws no random number and leaves norms and modes as they are.

    With an average of the weights, it is the trained weights that are measured, and not yet their average.
    """

    samples: Samples
    every: int
    ranks: ProcessGroup

    def measure(self, model: nn.Module, epochs: int) -> dict[str, float]:
        """The columns of the epoch's row after `epochs` epochs; none where it is not measured. Collective."""
        if epochs % self.every:
            return {}
        training = [module for module in model.modules() if module.training]
        found = quality(predict(model, self.samples, self.ranks), self.samples.labels.cpu())
        for module in training:  # one by one, since a frozen norm is in evaluation mode while its parent trains
            module.training = True
        return {"validation_loss": found.loss, "validation_score": found.score}
