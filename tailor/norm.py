"""BatchNorm over the global batch. Torch's own synchronised norm runs on GPUs only; this is the one for CPUs."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tailor.distributed import Ranks


class _SumOverRanks(torch.autograd.Function):
    """all_reduce whose gradient is the sum of all ranks' gradients."""

    @staticmethod
    def forward(_ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total


class SynchronisedBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm whose training statistics are those of the images of all ranks, as if one process held them."""

    def forward(self, features: Tensor) -> Tensor:
        """Normalised features (B, C, H, W); B may differ between ranks and be 0."""
        if not self.training:
            return super().forward(features)
        count = torch.full((1,), features.numel() / features.shape[1], device=features.device)
        sums = _SumOverRanks.apply(torch.cat([features.sum(dim=(0, 2, 3)), count]))
        total = sums[-1]
        mean = sums[:-1] / total
        centred = features - mean[None, :, None, None]
        variance = _SumOverRanks.apply(centred.square().sum(dim=(0, 2, 3))) / total
        with torch.no_grad():
            self._remember(mean, variance * total / (total - 1))
        scale = self.weight / torch.sqrt(variance + self.eps)
        return centred * scale[None, :, None, None] + self.bias[None, :, None, None]

    def _remember(self, mean: Tensor, unbiased_variance: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        momentum = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(unbiased_variance, momentum)


def synchronise_norms(model: nn.Module, ranks: Ranks) -> nn.Module:
    """The model with every BatchNorm computing over all ranks; unchanged in a single process."""
    if ranks.count == 1:
        return model
    if ranks.device.type == "cuda":
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return converted
    for module in model.modules():
        # The subclass adds behaviour and no state, so parameters, buffers and their names stay as they are.
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SynchronisedBatchNorm2d
    return model
