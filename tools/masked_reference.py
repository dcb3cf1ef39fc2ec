"""The reference for what is slimmed: the whole network, in which what is removed puts out zero and is read as zero.

Norms over channels divide by their number, so a channel of zeros is not a channel that is gone. In the reference their
statistics run over the channels that are kept.
"""

import torch
from torch import Tensor, nn

from tailor.pruning.group_records import Group
from tailor.pruning.surgery import Kept

NORMS = nn.LayerNorm | nn.RMSNorm | nn.GroupNorm


def mask_model(model: nn.Module, kept: Kept, found: tuple[Group, ...], *, is_norm_masked: bool = True) -> None:
    """Make a model the reference for `slim`, in place.

    Args:
        model: the one that the groups were found in.
        kept: groups that are not in it keep all filters.
        found: the model's groups.
        is_norm_masked: False leaves the norms' statistics as they are, which is not what a slimmed network computes.
    """
    modules, tensors = dict(model.named_modules()), dict(model.named_parameters())
    for group in found:
        gone = torch.ones(group.filters, dtype=torch.bool)
        gone[kept.get(group.name, torch.arange(group.filters))] = False
        for part in group.slices:
            name, _, key = part.tensor.rpartition(".")
            removed = part.indices[gone].flatten()
            if part.tensor in tensors:  # also of what reads it: an activation may make something of zeros
                with torch.no_grad():
                    tensors[part.tensor].index_fill_(part.dim, removed, 0.0)
            module = modules.get(name)
            is_of_channels = isinstance(module, nn.GroupNorm) and module.num_groups == module.num_channels
            if is_norm_masked and key == "weight" and isinstance(module, NORMS) and len(removed) and not is_of_channels:
                module.register_forward_hook(_OverKept(removed))


class _OverKept:
    """A forward hook that computes a norm again, over all channels but some."""

    def __init__(self, removed: Tensor) -> None:
        self.removed = removed

    def __call__(self, norm: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor) -> Tensor:
        (x,) = inputs
        assert isinstance(norm, NORMS)
        if isinstance(norm, nn.GroupNorm):  # over positions, too
            keep = torch.ones(x.shape[1], dtype=torch.bool)
            keep[self.removed] = False
            made = nn.functional.group_norm(x[:, keep], 1, norm.weight[keep], norm.bias[keep], norm.eps)
            return torch.zeros_like(x).index_copy(1, keep.nonzero().flatten(), made)
        is_last = "2d" not in type(norm).__name__  # as torchvision's and timm's are called
        x = x if is_last else x.movedim(1, -1)
        keep = torch.ones(x.shape[-1], dtype=torch.bool)
        keep[self.removed] = False
        factor, offset = norm.weight[keep], getattr(norm, "bias", None)
        if isinstance(norm, nn.LayerNorm):
            made = nn.functional.layer_norm(
                x[..., keep], (int(keep.sum()),), factor, None if offset is None else offset[keep], norm.eps
            )
        else:
            made = nn.functional.rms_norm(x[..., keep], (int(keep.sum()),), factor, norm.eps)
        whole = torch.zeros_like(x)
        activation = getattr(norm, "act", None)  # of some norms of timm
        whole[..., keep] = activation(made) if isinstance(activation, nn.Module) else made
        return whole if is_last else whole.movedim(-1, 1)
