"""TransTailor's importance in the model: attached for fine-tuning, then folded into the weights (Eq. 6)."""

from dataclasses import replace

import torch
from torch import Tensor

from tailor.core.errors import ConfigError
from tailor.data.task_data import generator
from tailor.model.factors import HEADS, fold_into
from tailor.model.state import ModelState
from tailor.pruning.group_records import sites
from tailor.pruning.surgery import Group
from tailor.stages import AttachImportance, Normalisation

CLIP = (0.1, 10.0)  # a safeguard of ours, see docs/methods/transtailor.md


def attach_importance(state: ModelState, found: tuple[Group, ...], how: AttachImportance) -> ModelState:
    """The scored state prepared for importance-aware fine-tuning, without its scores.

    Args:
        state: a model with scores beta and no factors attached.
        how: `fold` multiplies beta / mean and divides the weights by it, so that the function stays; `sqrt`
            multiplies sqrt(beta) / mean; `raw` multiplies beta itself; `grad` only scales the gradients of the filters'
            weights by beta / mean; `off` changes nothing. Normalised factors are clipped to [0.1, 10].
    """
    plain = replace(state, scores={})
    if how.mode == "off":
        return plain
    site_of = sites(found, how.placement)
    beta = {layer: scores.sqrt() if how.mode == "sqrt" else scores for layer, scores in state.scores.items()}
    if how.mode != "raw":
        numbers = None if how.seed is None else generator(how.seed, "placebo")
        beta = {layer: normalise_importance(values, how.normalisation, numbers) for layer, values in beta.items()}
    if how.mode == "grad":
        return replace(plain, gradient_factors=beta)
    attached = replace(plain, factors={site_of[layer]: values for layer, values in beta.items()})
    if how.mode == "fold":
        inverse = {site: 1.0 / factor for site, factor in attached.factors.items()}
        return _fold(attached, inverse, found)
    return attached


def fold_importance(state: ModelState, found: tuple[Group, ...]) -> ModelState:
    """The state with its factors multiplied into the weights: the same function without factors."""
    return replace(_fold(state, state.factors, found), factors={}, gradient_factors={})


def normalise_importance(beta: Tensor, how: Normalisation, numbers: torch.Generator | None = None) -> Tensor:
    """beta (F,) over its layer's mean or root mean square, clipped to [0.1, 10]; ones if all of the layer is zero.

    `none` only raises values to at least 1e-6, because `fold` divides by them. `permuted` normalises by the mean and
    permutes the values of the layer's filters at random.

    >>> normalise_importance(torch.tensor([1.0, 3.0]), "layer_mean").tolist()
    [0.5, 1.5]
    """
    if how == "none":
        return beta.clamp_min(1e-6)
    scale = beta.square().mean().sqrt() if how == "rms" else beta.mean()
    values = torch.ones_like(beta) if scale <= 0 else (beta / scale).clamp(*CLIP)
    return values[torch.randperm(len(values), generator=numbers)] if how == "permuted" else values


def _fold(state: ModelState, factors: dict[str, Tensor], found: tuple[Group, ...]) -> ModelState:
    """Multiply the weights and the anchor that they are compared with by their filters' factors; momentum too."""
    carrier = {}  # a factor after a ReLU can be moved before it, since factors are positive
    for group in found:
        for member in group.members:
            for site in (member.layer, member.norm, member.activation):
                if site is not None:
                    carrier[site] = member.norm or member.layer if site == member.activation else site
    moved = {carrier[site]: values for site, values in factors.items()}
    if without := [site for site in moved if f"{site.removesuffix(HEADS)}.weight" not in state.tensors]:
        raise ConfigError(
            f"factors follow {without[0]}, a norm without weights that could take them; choose beta = 'grad' or 'off', "
            f"or exclude the layers before it"
        )
    inverse = {name: 1.0 / values for name, values in moved.items()}  # gradients of a weight f times as large: 1 / f
    return replace(
        state,
        tensors=fold_into(state.tensors, moved),
        anchor=fold_into(state.anchor, moved),
        momentum=fold_into(state.momentum, inverse),
    )
