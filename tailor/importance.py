"""Criteria: one score per filter, the smaller the sooner it goes; and TransTailor's importance factors.

Shapes: F filters of a layer.
"""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from tailor.data import Samples, batches, generator
from tailor.distributed import Ranks
from tailor.errors import ConfigError
from tailor.factors import attach, fold_into
from tailor.state import ModelState
from tailor.surgery import Group

CLIP = (0.1, 10.0)  # a safeguard of ours, see docs/methods/transtailor.md


def l1(state: ModelState, found: tuple[Group, ...]) -> dict[str, Tensor]:
    """Site -> (F,) sum of the absolute weights of each filter (Li et al., 2017)."""
    return {g.site: state.tensors[f"{g.layer}.weight"].abs().sum(dim=(1, 2, 3)) for g in found}


def random(found: tuple[Group, ...], seed: int) -> dict[str, Tensor]:
    """Site -> (F,) uniform random numbers: the control."""
    numbers = generator(seed, "random scores")
    return {g.site: torch.rand(g.filters, generator=numbers) for g in found}


def taylor(
    state: ModelState, found: tuple[Group, ...], samples: Samples, batch_size: int, ranks: Ranks
) -> dict[str, Tensor]:
    """Site -> (F,) mean over mini-batches of |dL/dfactor x factor| (TransTailor Eq. 5).

    The factors are the state's trained alpha, or ones, with which this is plain first-order Taylor. The absolute value
    is taken per mini-batch, because at a trained alpha the gradient of the whole data vanishes. The loss is the mean
    over the mini-batch; norms use their running statistics.
    """
    model = state.build(ranks.device).eval().requires_grad_(False)
    values = {g.site: state.alpha.get(g.site, torch.ones(g.filters)) for g in found}
    parameters = attach(model, {site: value.to(ranks.device) for site, value in values.items()}, trainable=True)
    totals = [torch.zeros_like(p) for p in parameters]
    count = 0
    for batch in batches(samples, batch_size, 0, 0, "none", ranks):
        loss = F.cross_entropy(model(batch.images), batch.labels, reduction="sum") / batch.global_count
        gradients = torch.autograd.grad(loss, parameters)
        for total, gradient, parameter in zip(totals, gradients, parameters, strict=True):
            total += (ranks.sum(gradient.contiguous()) * parameter.detach()).abs()
        count += 1
    return {site: (total / count).cpu() for site, total in zip(values, totals, strict=True)}


def attach_importance(state: ModelState, mode: str, layer_of: dict[str, str]) -> ModelState:
    """The scored state ready for importance-aware fine-tuning (TransTailor Eq. 6), its scores used up.

    Args:
        state: a pruned state with scores beta and no factors attached.
        mode: `fold` multiplies beta / mean and divides the weights by it, so that the function stays; `sqrt`
            multiplies sqrt(beta) / mean; `raw` multiplies beta itself; `grad` scales the gradients of the filters'
            weights by beta / mean and nothing else; `off` does nothing. Normalised factors are clipped to [0.1, 10].
        layer_of: site -> name of its convolution.

    Raises:
        ConfigError: no such mode.
    """
    plain = replace(state, scores={})
    if mode == "off":
        return plain
    if mode == "raw":
        return replace(plain, factors=dict(state.scores))
    if mode == "sqrt":
        return replace(plain, factors={site: normalised(beta.sqrt()) for site, beta in state.scores.items()})
    factors = {site: normalised(beta) for site, beta in state.scores.items()}
    if mode == "grad":
        return replace(plain, gradient_factors={layer_of[site]: factor for site, factor in factors.items()})
    if mode == "fold":
        inverse = {site: 1.0 / factor for site, factor in factors.items()}
        return replace(plain, factors=factors, tensors=fold_into(state.tensors, inverse))
    raise ConfigError(f"no such mode of beta: {mode!r} (valid: fold, sqrt, grad, raw, off)")


def fold_importance(state: ModelState) -> ModelState:
    """The state with its factors multiplied into the weights: the same function, nothing attached."""
    return replace(state, tensors=fold_into(state.tensors, state.factors), factors={}, gradient_factors={})


def normalised(beta: Tensor) -> Tensor:
    """beta (F,) over its layer's mean, clipped to [0.1, 10]; ones where the whole layer scores zero."""
    mean = beta.mean()
    return torch.ones_like(beta) if mean <= 0 else (beta / mean).clamp(*CLIP)
