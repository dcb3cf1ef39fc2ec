"""Criteria that read the filters' outputs on the target's training images: one forward pass, no labels.

Shapes: B images, F filters of a layer, positions are the pixels or tokens of a feature map.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tailor.data.task_data import batches
from tailor.pruning.criteria.base import Scoring
from tailor.pruning.surgery import GroupMember

Reading = Callable[[Tensor], Tensor]
"""What is averaged of activations, element by element."""


def mean_activation(scoring: Scoring) -> dict[str, Tensor]:
    """Layer -> (F,) mean activation over images and positions (the criterion "activation" of Molchanov et al.)."""
    return means(scoring, lambda activations: activations)


def mean_absolute_activation(scoring: Scoring) -> dict[str, Tensor]:
    """Layer -> (F,) mean of the activations' absolute values, for activations that can be negative."""
    return means(scoring, torch.abs)


def apoz(scoring: Scoring) -> dict[str, Tensor]:
    """Layer -> (F,) share of activations that are NOT zero: 1 - APoZ of Hu et al., so that low scores are removed."""
    return means(scoring, lambda activations: activations != 0)


def means(scoring: Scoring, reading: Reading) -> dict[str, Tensor]:
    """Layer -> (F,) mean over all training images and positions of `reading` of the activations.

    A layer that is called several times in a pass has the mean over its calls.

    Each image is seen once, by one rank, without augmentation; norms use their running statistics. Activations are read
    at the output of the activation module. If the filter's layer has no module of its own (a plain function, a module
    that several layers share, an addition of branches in between), the output of its norm or layer is read and an
    activation is applied to it: of the shared module's class, else a ReLU.
    """
    ranks = scoring.ranks
    if not scoring.found:
        return {}
    assert scoring.batch_size is not None
    model = scoring.state.build(ranks.device).eval()
    totals: dict[str, Tensor] = {}
    for group in scoring.found:
        for member in group.members:
            # The last number counts what the layer saw.
            totals[member.layer] = torch.zeros(group.filters + 1, dtype=torch.float64, device=ranks.device)
            _add_into(totals[member.layer], model, member, reading)
    with torch.no_grad():
        for batch in batches(scoring.data, scoring.batch_size, 0, 0, "none", ranks):
            if len(batch.images):
                model(batch.images)
    lengths = [len(total) for total in totals.values()]
    sums = ranks.sum(torch.cat(list(totals.values()))).split(lengths)  # one message for all layers
    return {layer: (total[:-1] / total[-1]).float().cpu() for layer, total in zip(totals, sums, strict=True)}


def _add_into(total: Tensor, model: nn.Module, member: GroupMember, reading: Reading) -> None:
    """From now on, add to `total` (F + 1,) each image's mean reading over a layer's positions, and count the images."""
    activation: nn.Module = nn.Identity()
    if member.activation is None:
        activation = getattr(nn, member.activation_kind or "ReLU")()
    # The channels of a linear layer's output are last, all others are at dim 1.
    is_last = member.norm is None and isinstance(model.get_submodule(member.layer), nn.Linear)

    def add(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        values = reading(activation(output))
        channels_dim = values.dim() - 1 if is_last else 1
        other_dims = [dim for dim in range(values.dim()) if dim != channels_dim]
        positions = values.numel() // (len(values) * (len(total) - 1))
        total[:-1].add_(values.sum(dim=other_dims) / positions)
        total[-1] += len(values)

    site = member.activation or member.norm or member.layer
    model.get_submodule(site).register_forward_hook(add)
