"""BatchNorm over the global batch. Torch's own synchronised norm runs on GPUs only; this is the one for CPUs.

Shapes: B images of this rank, C channels, H height, W width, R ranks.
"""

from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tailor.distributed import Ranks


class _GatherRanks(torch.autograd.Function):
    """Every rank's vector (n,) as rows (R, n); the gradient of a row is the sum of what all ranks made of it."""

    @staticmethod
    def forward(_ctx: Any, vector: Tensor) -> Tensor:
        rows = vector.new_empty(dist.get_world_size(), vector.numel())
        dist.all_gather(list(rows.unbind()), vector.contiguous())
        return rows

    @staticmethod
    def backward(_ctx: Any, *gradients: Tensor) -> Tensor:
        mine = gradients[0].contiguous()
        everyone = mine.new_empty(dist.get_world_size(), *mine.shape)
        dist.all_gather(list(everyone.unbind()), mine)  # with gloo half the latency of all_reduce for small tensors
        return everyone[:, dist.get_rank()].sum(dim=0)


class SynchronisedBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm whose training statistics are those of the images of all ranks, as if one process held them."""

    def forward(self, features: Tensor) -> Tensor:
        """Normalised features (B, C, H, W); B may differ between ranks and be 0."""
        if not self.training:
            return super().forward(features)
        mean, variance, count = self._statistics(features.float())
        with torch.no_grad():
            self._remember(mean, variance * (count / (count - 1)))
        scale = self.weight * torch.rsqrt(variance + self.eps)
        normal = torch.addcmul((self.bias - mean * scale)[:, None, None], features, scale[:, None, None])
        return normal.to(features.dtype)

    def _statistics(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean (C,), biased variance (C,) and count of values per channel over all ranks (Chan et al., 1979)."""
        channels = features.shape[1]
        values = features.numel() // channels
        if values:
            own_variance, own_mean = torch.var_mean(features, dim=(0, 2, 3), correction=0)
        else:  # zeros that still belong to the graph, so that this rank takes part in the backward pass
            own_variance = own_mean = features.sum(dim=(0, 2, 3))
        rows = _GatherRanks.apply(torch.cat([own_mean, own_variance, own_mean.new_full((1,), values)]))
        means, variances, counts = rows[:, :channels], rows[:, channels:-1], rows[:, -1:].detach()
        weights = counts / counts.sum()
        mean = (weights * means).sum(dim=0)
        variance = (weights * (variances + (means - mean).square())).sum(dim=0)
        return mean, variance, counts.sum()

    def _remember(self, mean: Tensor, unbiased_variance: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        momentum = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(unbiased_variance, momentum)


def set_norms(model: nn.Module, norm: Literal["synchronised", "local", "frozen"], ranks: Ranks) -> nn.Module:
    """The model in training mode, its norms computing over all ranks, over each rank's own images, or frozen.

    A frozen norm keeps its running statistics and normalises by them, and keeps its factors and shifts. Of local ones,
    rank 0's running statistics are those that are stored.
    """
    model.train()
    if norm == "synchronised":
        return synchronise_norms(model, ranks)
    if norm == "frozen":
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval().requires_grad_(False)
    return model


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
