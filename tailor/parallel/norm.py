"""BatchNorm over the global batch: torch's own, which runs only on GPUs, and one for CPUs.

Shapes: B images of this rank, C channels, R ranks.
"""

from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tailor.core.errors import ConfigError, TrainingError
from tailor.core.torch_private import BatchNormBase, UncheckedBatchNorm
from tailor.parallel.process_group import ProcessGroup

TIMMS = "timm.layers.norm_act"  # module of the norms that apply their activation themselves


class _GatherRanks(torch.autograd.Function):
    """Every rank's vector (n,) as rows (R, n); the gradient of a row is the sum of the gradients of all ranks."""

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


class SynchronisedBatchNorm(UncheckedBatchNorm):
    """BatchNorm whose training statistics are those of the images of all ranks, as in one process."""

    def forward(self, features: Tensor) -> Tensor:
        """Normalised features (B, C) or (B, C, ...); B may differ between ranks and be 0.

        Raises:
            TrainingError: all ranks together have only one value per channel.
        """
        normal = self._normalise_over_ranks(features) if self.training else super().forward(features)
        return _apply_activation(self, normal)

    def _normalise_over_ranks(self, features: Tensor) -> Tensor:
        mean, variance, count = self._statistics(features.float())
        if count == 1:
            raise TrainingError(
                "a norm got one value per channel, which has no variance: choose a batch_size that leaves more than "
                "one training image for the last batch"
            )
        with torch.no_grad():
            self._remember(mean, variance * (count / (count - 1)))
        scale = self.weight * torch.rsqrt(variance + self.eps)
        along = (-1, *[1] * (features.dim() - 2))
        normal = torch.addcmul((self.bias - mean * scale).reshape(along), features, scale.reshape(along))
        return normal.to(features.dtype)

    def _statistics(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean (C,), biased variance (C,) and count of values per channel over all ranks (Chan et al., 1979)."""
        channels = features.shape[1]
        values = features.numel() // channels
        others = (0, *range(2, features.dim()))
        if values:
            own_variance, own_mean = torch.var_mean(features, dim=others, correction=0)
        else:  # zeros that still belong to the graph, so that this rank takes part in the backward pass
            own_variance = own_mean = features.sum(dim=others)
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


class _SynchronisedOnGpu(nn.SyncBatchNorm):
    process_group = None  # all ranks

    def forward(self, features: Tensor) -> Tensor:
        # A rank without images sends its zeros in their type, and the others send float32 whatever theirs is.
        return _apply_activation(self, super().forward(features if features.numel() else features.float()))


def _apply_activation(norm: BatchNormBase, normal: Tensor) -> Tensor:
    """The output of a norm that applies its activation itself (timm's), from normalised features."""
    for part in norm.children():
        normal = part(normal)
    return normal


def set_norms(model: nn.Module, norm: Literal["synchronised", "local", "frozen"], ranks: ProcessGroup) -> nn.Module:
    """The model in training mode, its norms computing over all ranks, over each rank's own images, or frozen.

    A frozen norm normalises by its running statistics and keeps them, its factors and its shifts. Of local norms, the
    running statistics of rank 0 are stored.
    """
    model.train()
    if norm == "synchronised":
        return synchronise_norms(model, ranks)
    if norm == "frozen":
        for module in model.modules():
            if isinstance(module, BatchNormBase):
                module.eval().requires_grad_(False)
    return model


def synchronise_norms(model: nn.Module, ranks: ProcessGroup) -> nn.Module:
    """The model with every BatchNorm computing over all ranks; unchanged in a single process.

    Raises:
        ConfigError: a norm is neither torch's nor timm's, or has no weights or no running statistics.
    """
    if ranks.world_size == 1:
        return model
    refuse_unknown_norms(model)
    for module in model.modules():
        if isinstance(module, BatchNormBase):
            # The classes only add behaviour: parameters, buffers, factors and hooks stay with the module. Torch's own
            # conversion makes new modules, without factors and hooks.
            module.__class__ = _SynchronisedOnGpu if ranks.device.type == "cuda" else SynchronisedBatchNorm
    return model


def refuse_unknown_norms(model: nn.Module) -> None:
    """Raise ConfigError if a norm of the model cannot compute over several ranks."""
    for name, norm in model.named_modules():
        if not isinstance(norm, BatchNormBase):
            continue
        is_known = type(norm).__module__ in (BatchNormBase.__module__, __name__, TIMMS)
        if not (is_known and norm.affine and norm.track_running_stats):
            kind = f"{type(norm).__module__}.{type(norm).__qualname__}"
            raise ConfigError(
                f"{name}, a {kind}, cannot compute over several ranks: it is neither torch's nor timm's, or has no "
                "weights or running statistics; train on one rank (resources.ranks = 1)"
            )
