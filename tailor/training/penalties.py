"""Regularisers of fine-tuning as terms of the loss; their settings are in `tailor.catalogue.regularisation`.

A penalty follows `tailor.training.backward.Penalty`: its gradient, averaged over ranks, is that of the term for the
global batch. Shapes: B images of this rank, N of all ranks, F features, C channels, H height, W width.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor, nn

from tailor.catalogue import regularisation
from tailor.catalogue.networks import NETWORKS
from tailor.catalogue.regularisation import Regulariser
from tailor.core.errors import ConfigError
from tailor.data.task_data import Batch
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
    """The penalty that `regulariser` adds to the fine-tuning of `state`; None without a regulariser.

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
    """The penalty of one kind of regulariser on a model that was built from a state.

    Raises:
        ConfigError: this kind is not registered.
    """
    raise ConfigError(f"regulariser {regulariser.name!r} has no function `penalty`; register one")


@penalty.register
def l2_sp(regulariser: regularisation.L2SP, model: nn.Module, state: ModelState, _ranks: ProcessGroup) -> Penalty:
    """strength / 2 x ||w - w0||^2 over all shared parameters, norms included, and head_strength / 2 x ||head||^2."""
    head = set(state.head_names())
    shared = [
        (parameter, state.anchor[name].to(parameter.device))
        for name, parameter in model.named_parameters()
        if name not in head
    ]
    of_head = [parameter for name, parameter in model.named_parameters() if name in head]

    def value(_batch: Batch, _outputs: Tensor) -> Tensor:
        distance = torch.stack([(now - then).square().sum() for now, then in shared]).sum()
        return 0.5 * (regulariser.strength * distance + regulariser.head_strength * squares(of_head))

    return value


@penalty.register
def delta(regulariser: regularisation.Delta, model: nn.Module, state: ModelState, ranks: ProcessGroup) -> Penalty:
    """strength / 2 x sum over layers, images and channels of weight x ||map - map0||^2 / (H x W), and the head's L2.

    The sum runs over the images of the global batch, as in the authors' code. The pre-trained network is the state's
    anchor at the model's widths and under its factors, in evaluation mode.

    Raises:
        ConfigError: the channels of the state were not weighed.
    """
    if not state.channel_weights:
        raise ConfigError("regulariser 'delta' needs the stage `weigh_channels` before it, as `Recipe.head` yields it")
    head = [model.get_parameter(name) for name in state.head_names()]
    anchor = replace(state, tensors=state.tensors | state.anchor).build(ranks.device).eval().requires_grad_(False)
    weights = {layer: weight.to(ranks.device) for layer, weight in state.channel_weights.items()}
    now, then = FeatureMaps(model, list(weights)), FeatureMaps(anchor, list(weights))

    def value(batch: Batch, _outputs: Tensor) -> Tensor:
        with torch.no_grad():
            anchor(batch.images)
        terms = [
            ((now.maps[layer] - then.maps[layer]).square().mean(dim=(2, 3)) * weight).sum()
            for layer, weight in weights.items()
        ]
        of_maps = ranks.world_size * torch.stack(terms).sum()  # of this rank's images; the mean over ranks is the sum
        return 0.5 * (regulariser.strength * of_maps + regulariser.head_strength * squares(head))

    return value


@penalty.register
def bss(regulariser: regularisation.BSS, model: nn.Module, state: ModelState, ranks: ProcessGroup) -> Penalty:
    """strength x sum of the `smallest` squared singular values of the global batch's features (N, F).

    Features are the inputs of the head. Each rank differentiates by the rows of its own images, so its value is
    multiplied by the number of ranks.
    """
    caught: dict[str, Tensor] = {}

    def catch(_head: nn.Module, inputs: tuple[Any, ...]) -> None:
        features = inputs[0].flatten(1)
        caught["features"] = features.float() if features.dtype == torch.bfloat16 else features  # for singular values

    model.get_submodule(NETWORKS[state.network].head).register_forward_pre_hook(catch)

    def value(batch: Batch, _outputs: Tensor) -> Tensor:
        own = caught["features"]
        everyone = ranks.gather_interleaved(own.detach(), batch.global_count).clone()
        everyone[ranks.rank :: ranks.world_size] = own
        smallest: Tensor = torch.linalg.svdvals(everyone)[-regulariser.smallest :]  # in descending order
        return regulariser.strength * ranks.world_size * smallest.square().sum()

    return value


@penalty.register
def slimming(
    regulariser: regularisation.Slimming, model: nn.Module, state: ModelState, _ranks: ProcessGroup
) -> Penalty:
    """strength x sum of |gamma| over the norms after layers that can lose filters under any rule.

    Raises:
        ConfigError: no such layer has a norm.
    """
    plain = replace(state, factors={})  # where a factor is attached, the trace finds no norm behind its layer
    found = surgery.groups(plain.build(), state.input_shape, ANY_LAYER)
    norms = {f"{member.norm}.weight" for group in found for member in group.members} & state.tensors.keys()
    gammas = [model.get_parameter(norm) for norm in sorted(norms)]
    if not gammas:
        raise ConfigError(f"regulariser 'slimming' shrinks BatchNorm's factors, and {state.network} has no norm")

    def value(_batch: Batch, _outputs: Tensor) -> Tensor:
        return regulariser.strength * torch.stack([gamma.abs().sum() for gamma in gammas]).sum()

    return value


def squares(parameters: list[nn.Parameter]) -> Tensor:
    """The sum of all squared elements."""
    return torch.stack([parameter.square().sum() for parameter in parameters]).sum()
