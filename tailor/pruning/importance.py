"""TransTailor's importance in the model: attached for fine-tuning, then folded into the weights (Eq. 6)."""

from dataclasses import replace

import torch
from torch import Tensor

from tailor.common.errors import ConfigError
from tailor.data.task_data import generator
from tailor.model.factors import HEADS, fold_into
from tailor.model.state import ModelState
from tailor.pruning.group_records import members_of, sites
from tailor.pruning.surgery import Group
from tailor.stages import AttachImportance, BetaNormalisation

CLIP = (0.1, 10.0)  # a safeguard of ours, see docs/methods/transtailor.md


def attach_importance(state: ModelState, groups: tuple[Group, ...], how: AttachImportance) -> ModelState:
    """The scored state prepared for importance-aware fine-tuning, without its scores.

    Args:
        state: a model with scores beta and no factors attached.
        how: `fold` multiplies beta / mean and divides the weights by it, so that the function stays; `sqrt`
            multiplies sqrt(beta) / mean; `raw` multiplies beta itself; `grad` only scales the gradients of the filters'
            weights by beta / mean; `off` changes nothing. Normalised factors are clipped to [0.1, 10].
    """
    without_scores = replace(state, scores={})
    if how.mode == "off":
        return without_scores
    site_of = sites(groups, how.placement)
    beta = state.scores
    if how.mode == "sqrt":
        beta = {layer: scores.sqrt() for layer, scores in beta.items()}
    if how.mode != "raw":
        numbers = None if how.seed is None else generator(how.seed, "placebo")
        beta = {layer: normalise_importance(scores, how.normalisation, numbers) for layer, scores in beta.items()}
    if how.mode == "grad":
        return replace(without_scores, gradient_factors=beta)
    attached = replace(without_scores, factors={site_of[layer]: factor for layer, factor in beta.items()})
    if how.mode == "fold":
        inverse = {site: 1.0 / factor for site, factor in attached.factors.items()}
        return _fold(attached, inverse, groups)
    return attached


def fold_importance(state: ModelState, groups: tuple[Group, ...]) -> ModelState:
    """The state with its factors multiplied into the weights: the same function without factors."""
    return replace(_fold(state, state.factors, groups), factors={}, gradient_factors={})


def normalise_importance(beta: Tensor, how: BetaNormalisation, numbers: torch.Generator | None = None) -> Tensor:
    """beta (F,) over its layer's mean or root mean square, clipped to [0.1, 10]; ones if all of the layer is zero.

    `none` only raises values to at least 1e-6, because `fold` divides by them. `permuted` normalises by the mean and
    permutes the values of the layer's filters at random.

    >>> normalise_importance(torch.tensor([1.0, 3.0]), "layer_mean").tolist()
    [0.5, 1.5]
    """
    if how == "none":
        return beta.clamp_min(1e-6)
    scale = beta.square().mean().sqrt() if how == "rms" else beta.mean()
    factors = torch.ones_like(beta) if scale <= 0 else (beta / scale).clamp(*CLIP)
    if how == "permuted":
        return factors[torch.randperm(len(factors), generator=numbers)]
    return factors


def _fold(state: ModelState, factors: dict[str, Tensor], groups: tuple[Group, ...]) -> ModelState:
    """Multiply the weights and the anchor that they are compared with by their filters' factors; momentum too."""
    carrier: dict[str, str] = {}  # site -> the layer or norm whose weights take its factors
    for member in members_of(groups):
        carrier[member.layer] = member.layer
        if member.norm is not None:
            carrier[member.norm] = member.norm
        if member.activation is not None:
            # A factor after a ReLU can be moved before it, since factors are positive.
            carrier[member.activation] = member.norm or member.layer
    moved = {carrier[site]: factor for site, factor in factors.items()}
    without_weight = [name for name in moved if f"{name.removesuffix(HEADS)}.weight" not in state.tensors]
    if without_weight:
        raise ConfigError(
            f"factors follow {without_weight[0]}, a norm without weights that could take them; choose beta = 'grad' or "
            "'off', or exclude the layers before it"
        )
    inverse = {name: 1.0 / factor for name, factor in moved.items()}  # gradients of a weight f times as large: 1 / f
    return replace(
        state,
        tensors=fold_into(state.tensors, moved),
        anchor=fold_into(state.anchor, moved),
        momentum=fold_into(state.momentum, inverse),
    )
