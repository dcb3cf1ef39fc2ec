"""Criteria that differentiate the loss by gates at the filters' outputs. F: filters of a layer."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from tailor.common.determinism import RepeatableBackward
from tailor.common.errors import ConfigError
from tailor.data.task_data import batches
from tailor.model.factors import attach
from tailor.pruning.criteria.base import Scoring
from tailor.pruning.group_records import sites


def beta(scoring: Scoring) -> dict[str, Tensor]:
    """Layer -> (F,) mean over mini-batches of |dL/dalpha x alpha| (TransTailor, Eq. 5).

    alpha is the state's, or ones if it has none: then this is first-order Taylor with absolute values. The absolute
    value is taken per mini-batch, because at a trained alpha the gradient of the whole data vanishes.
    """
    return _mean_over_batches(scoring, scoring.state.alpha, torch.abs)


def taylor(scoring: Scoring) -> dict[str, Tensor]:
    """Layer -> (F,) mean over mini-batches of (dL/dz x z)^2 at gates z = 1 (Taylor-FO: Molchanov et al., CVPR 2019)."""
    return _mean_over_batches(scoring, {}, torch.square)


def _mean_over_batches(
    scoring: Scoring, gates: dict[str, Tensor], size_of: Callable[[Tensor], Tensor]
) -> dict[str, Tensor]:
    """Layer -> (F,) mean over mini-batches of size_of(dL/dz x z) at gates z.

    L is the mean loss of the mini-batch over all ranks; norms use their running statistics. Batches weigh as their
    images do: else one image that is left for the last batch would decide as much as a whole batch, or more, because
    its gradient is noisier.

    Args:
        gates: site -> z (F,); at sites that are not in it, z is 1.
    """
    if not scoring.found:
        return {}
    ranks = scoring.ranks
    assert scoring.placement is not None and scoring.batch_size is not None
    site_of = sites(scoring.found, scoring.placement)
    gate_at = {}
    for group in scoring.found:
        for member in group.members:
            site = site_of[member.layer]
            gate_at[site] = gates.get(site, torch.ones(group.filters)).to(ranks.device)
    model = scoring.state.build(ranks.device).eval().requires_grad_(False)
    parameters = attach(model, gate_at, trainable=True)
    lengths = [len(parameter) for parameter in parameters]
    z = torch.cat([parameter.detach() for parameter in parameters])
    repeatable = RepeatableBackward(model)
    total = torch.zeros(sum(lengths), device=ranks.device)
    weights = 0.0
    for batch in batches(scoring.data, scoring.batch_size, 0, 0, "none", ranks):
        loss = batch.loss_sum(model(batch.images)) / batch.global_count
        with repeatable.context(batch.images):
            gradients = _gradients(loss, dict(zip(site_of, parameters, strict=True)))
        gradient = ranks.sum(torch.cat(gradients))  # one message for all layers
        weight = batch.global_count / scoring.batch_size
        total += size_of(gradient * z) * weight
        weights += weight
    means = (total / weights).cpu().split(lengths)
    return {layer: mean.clone() for layer, mean in zip(site_of, means, strict=True)}


def _gradients(loss: Tensor, gate_of: Mapping[str, Tensor]) -> list[Tensor]:
    """The gradients by the gates, in their order. Raises ConfigError: the loss has none by some of them."""
    gates = list(gate_of.values())
    gradients = torch.autograd.grad(loss, gates, allow_unused=True) if loss.requires_grad else [None] * len(gates)
    without = [layer for layer, gradient in zip(gate_of, gradients, strict=True) if gradient is None]
    if without:
        raise ConfigError(
            f"this criterion needs gradients by the filters of {without[0]} (and {len(without) - 1} other layers), and "
            "the loss has none: forward runs them under torch.no_grad() or detaches what they put out, or the loss "
            "does not read it; freeze layers by requires_grad_(False) instead, or prune by a criterion that reads no "
            "gradients, such as 'l1'"
        )
    return [gradient for gradient in gradients if gradient is not None]
