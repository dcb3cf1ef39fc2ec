"""Regularisers of fine-tuning as terms of the loss; their settings are in `tailor.facts.regularisation`.

A penalty follows `tailor.training.backward.Penalty`: its gradient, averaged over ranks, is that of the term for the
global batch. Shapes: B images of this rank, N of all ranks, F features, C channels, H height, W width.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor, nn

from tailor.common.errors import ConfigError
from tailor.data.task_data import Batch
from tailor.facts import regularisation
from tailor.facts.networks import NETWORKS
from tailor.facts.regularisation import Regulariser
from tailor.model.state import ModelState
from tailor.parallel.process_group import ProcessGroup
from tailor.pruning import surgery
from tailor.stages import GroupRule
from tailor.training.backward import Penalty
from tailor.training.feature_maps import FeatureMaps

PenaltyOf = Callable[[nn.Module], Penalty]
"""Makes the penalty for a built model, bound to its parameters and perhaps with hooks on its modules."""

ANY_LAYER = GroupRule(residual="coupled", linear=True)  # prunable under some rule, as in the authors' codes


def penalty_for(regulariser: Regulariser | None, state: ModelState, ranks: ProcessGroup) -> PenaltyOf | None:
    """Return what makes the penalty that `regulariser` adds to the fine-tuning of `state`; None without a regulariser.

    Raises:
        ConfigError: the penalty is not registered, or it needs pre-trained weights that the state does not have.
    """
    if regulariser is None:
        return None
    if regulariser.needs_anchor and not state.anchor:
        raise ConfigError(
            f"regulariser {regulariser.name!r} compares with the pre-trained weights, which are kept only if "
            "it is the trial's own: set optimisation.regulariser"
        )
    return lambda model: penalty(regulariser, model, state, ranks)


@singledispatch
def penalty(regulariser: Regulariser, model: nn.Module, state: ModelState, ranks: ProcessGroup) -> Penalty:  # noqa: ARG001
    """Return the penalty of one kind of regulariser on a model that was built from a state.

    Raises:
        ConfigError: this kind is not registered.
    """
    raise ConfigError(f"regulariser {regulariser.name!r} has no function `penalty`; register one")


@penalty.register
def l2_sp(regulariser: regularisation.L2SP, model: nn.Module, state: ModelState, _ranks: ProcessGroup) -> Penalty:
    """Return strength / 2 x ||w - w0||^2 over all shared parameters, norms too, + head_strength / 2 x ||head||^2."""
    head_names = set(state.head_names())
    head = []
    shared = []  # parameters with their pre-trained values
    for name, parameter in model.named_parameters():
        if name in head_names:
            head.append(parameter)
        else:
            shared.append((parameter, state.anchor[name].to(parameter.device)))

    def value(_batch: Batch, _outputs: Tensor) -> Tensor:
        squared_distances = [(parameter - pretrained).square().sum() for parameter, pretrained in shared]
        distance = torch.stack(squared_distances).sum()
        return 0.5 * (regulariser.strength * distance + regulariser.head_strength * squares(head))

    return value


@penalty.register
def delta(regulariser: regularisation.Delta, model: nn.Module, state: ModelState, ranks: ProcessGroup) -> Penalty:
    """Return strength / 2 x the sum of weight x ||map - map0||^2 / (H x W), and the head's L2.

    The sum runs over layers, channels and the images of the global batch, as in the authors' code. The pre-trained
    network is the state's anchor at the model's widths and under its factors, in evaluation mode.

    Raises:
        ConfigError: the channels of the state were not weighed.
    """
    if not state.channel_weights:
        raise ConfigError("regulariser 'delta' needs the stage `weigh_channels` before it, as `Recipe.head` yields it")
    head = [model.get_parameter(name) for name in state.head_names()]
    anchor = replace(state, tensors=state.tensors | state.anchor).build(ranks.device).eval().requires_grad_(False)
    weights = {layer: weight.to(ranks.device) for layer, weight in state.channel_weights.items()}
    model_maps = FeatureMaps(model, list(weights)).maps
    anchor_maps = FeatureMaps(anchor, list(weights)).maps

    def value(batch: Batch, _outputs: Tensor) -> Tensor:
        with torch.no_grad():
            anchor(batch.images)
        terms = []
        for layer, weight in weights.items():
            differences = model_maps[layer] - anchor_maps[layer]
            terms.append((differences.square().mean(dim=(2, 3)) * weight).sum())
        of_own_images = torch.stack(terms).sum()
        of_maps = ranks.world_size * of_own_images  # averaged over ranks, this is the sum over all images
        return 0.5 * (regulariser.strength * of_maps + regulariser.head_strength * squares(head))

    return value


@penalty.register
def bss(regulariser: regularisation.BSS, model: nn.Module, state: ModelState, ranks: ProcessGroup) -> Penalty:
    """Return strength x the sum of the `smallest` squared singular values of the global batch's features (N, F).

    A smaller last batch has none: its smallest singular value is large, of one image the norm of all its features.
    Features are the inputs of the head. Each rank differentiates by the rows of its own images, so its value is
    multiplied by the number of ranks.
    """
    last_features: dict[str, Tensor] = {}

    def keep_features(_head: nn.Module, inputs: tuple[Any, ...]) -> None:
        features = inputs[0].flatten(1)
        if features.dtype == torch.bfloat16:
            features = features.float()  # torch has no singular values of bfloat16
        last_features["own"] = features

    model.get_submodule(NETWORKS[state.network].head).register_forward_pre_hook(keep_features)

    def value(batch: Batch, _outputs: Tensor) -> Tensor:
        own = last_features["own"]
        if not batch.is_whole:
            return own.new_zeros(())
        of_all_ranks = ranks.gather_interleaved(own.detach(), batch.global_count).clone()
        of_all_ranks[ranks.rank :: ranks.world_size] = own  # the rows by which this rank differentiates
        singular_values = torch.linalg.svdvals(of_all_ranks)  # in descending order
        smallest: Tensor = singular_values[-regulariser.smallest :]
        return regulariser.strength * ranks.world_size * smallest.square().sum()

    return value


@penalty.register
def slimming(
    regulariser: regularisation.Slimming, model: nn.Module, state: ModelState, _ranks: ProcessGroup
) -> Penalty:
    """Return strength x the sum of |gamma| over the norms after layers that can lose filters under any rule.

    Raises:
        ConfigError: no such layer has a norm.
    """
    plain_state = replace(state, factors={})  # where a factor is attached, the trace finds no norm behind its layer
    gamma_names = set()
    for group in surgery.groups(plain_state.build(), state.input_shape, ANY_LAYER):
        gamma_names |= {f"{member.norm}.weight" for member in group.members}
    gamma_names &= state.tensors.keys()  # a member without a norm has no such tensor
    gammas = [model.get_parameter(name) for name in sorted(gamma_names)]
    if not gammas:
        raise ConfigError(f"regulariser 'slimming' shrinks BatchNorm's factors, and {state.network} has no norm")

    def value(_batch: Batch, _outputs: Tensor) -> Tensor:
        return regulariser.strength * torch.stack([gamma.abs().sum() for gamma in gammas]).sum()

    return value


def squares(parameters: list[nn.Parameter]) -> Tensor:
    """Return the sum of all squared elements."""
    return torch.stack([parameter.square().sum() for parameter in parameters]).sum()
