"""BatchNorm over the global batch: torch's own, which runs only on GPUs, and one for CPUs.

Shapes: B images of this rank, C channels, R ranks.
"""

from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tailor.common.errors import ConfigError, TrainingError
from tailor.common.torch_private import BatchNormBase, UncheckedBatchNorm
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
        own_gradient = gradients[0].contiguous()
        all_gradients = own_gradient.new_empty(dist.get_world_size(), *own_gradient.shape)
        # With gloo this has half the latency of all_reduce for small tensors.
        dist.all_gather(list(all_gradients.unbind()), own_gradient)
        return all_gradients[:, dist.get_rank()].sum(dim=0)


class SynchronisedBatchNorm(UncheckedBatchNorm):
    """BatchNorm whose training statistics are those of the images of all ranks, as in one process."""

    def forward(self, features: Tensor) -> Tensor:
        """Return normalised features (B, C) or (B, C, ...); B may differ between ranks and be 0.

        Raises:
            TrainingError: all ranks together have only one value per channel.
        """
        normalised = self._normalise_over_ranks(features) if self.training else super().forward(features)
        return _apply_activation(self, normalised)

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
        shift = self.bias - mean * scale
        per_channel = (-1, *[1] * (features.dim() - 2))  # a shape that broadcasts along features
        normalised = torch.addcmul(shift.reshape(per_channel), features, scale.reshape(per_channel))
        return normalised.to(features.dtype)

    def _statistics(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return mean (C,), biased variance (C,) and count of values per channel over all ranks (Chan et al., 1979)."""
        channels = features.shape[1]
        own_count = features.numel() // channels
        all_but_channels = (0, *range(2, features.dim()))
        if own_count:
            own_variance, own_mean = torch.var_mean(features, dim=all_but_channels, correction=0)
        else:  # zeros that still belong to the graph, so that this rank takes part in the backward pass
            own_variance = own_mean = features.sum(dim=all_but_channels)
        own_row = torch.cat([own_mean, own_variance, own_mean.new_full((1,), own_count)])
        rows = _GatherRanks.apply(own_row)
        means = rows[:, :channels]
        variances = rows[:, channels:-1]
        counts = rows[:, -1:].detach()
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
        if not features.numel():
            # Torch would send this rank's zeros in their own type, and the others send float32 whatever theirs is.
            features = features.float()
        return _apply_activation(self, super().forward(features))


def _apply_activation(norm: BatchNormBase, normalised: Tensor) -> Tensor:
    """Return a norm's output from normalised features; timm's norms apply their activation themselves."""
    for module in norm.children():
        normalised = module(normalised)
    return normalised


def set_norms(model: nn.Module, norm: Literal["synchronised", "local", "frozen"], ranks: ProcessGroup) -> nn.Module:
    """Set the model to training mode, its norms to compute over all ranks, over each rank's images, or to be frozen.

    A frozen norm normalises by its running statistics and keeps them, its factors and its shifts. Of local norms, the
    running statistics of rank 0 are stored. Returns the model.
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
    """Make every BatchNorm of the model compute over all ranks, and return the model; unchanged in a single process.

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
