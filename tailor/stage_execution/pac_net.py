"""PAC-Net (Myung et al., ICML 2022): the essential weights found, trained alone, and then the redundant ones."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from tailor import stages
from tailor.catalogue.networks import NETWORKS
from tailor.data.task_data import Batch
from tailor.model import cost
from tailor.model.budget import macs_of
from tailor.model.state import ModelState, weights
from tailor.networks import pretrained
from tailor.parallel.norm import synchronise_norms
from tailor.stage_execution.base import Made, Tensors, Workplace, apply, compute, named, part
from tailor.training.backward import Penalty
from tailor.training.loop import group, optimiser_for, train

# --- Prune ---


@compute.register
def compute_find_essential(todo: stages.FindEssential, parent: ModelState, _place: Workplace) -> Made:
    essential = largest(weights_of(parent), todo.prune_ratio)
    return Made(info=counts(essential) | {"macs": macs_of(parent)}, tensors=named("essential", essential))


@apply.register
def apply_find_essential(_done: stages.FindEssential, parent: ModelState, tensors: Tensors) -> ModelState:
    return replace(parent, essential=part("essential", tensors))


def weights_of(state: ModelState) -> Tensors:
    """The weights of all convolution and linear layers by name, the head's too; biases and norms are no candidates."""
    applied = cost.positions(state.network, state.classes, state.input_shape)
    return {name: state.tensors[name] for name in sorted(applied)}


def largest(found: Tensors, prune_ratio: float) -> Tensors:
    """Masks, true at the weights of largest magnitude over all tensors together; of equal ones the first stay.

    Args:
        found: weights by name.
        prune_ratio: share of all weights whose mask is false, rounded to whole weights.
    """
    magnitudes = torch.cat([found[name].abs().flatten() for name in found])
    order = magnitudes.sort(descending=True, stable=True).indices
    mask = torch.zeros(len(magnitudes), dtype=torch.bool)
    mask[order[: round((1.0 - prune_ratio) * len(magnitudes))]] = True
    parts = mask.split([tensor.numel() for tensor in found.values()])
    return {name: own.reshape(tensor.shape) for (name, tensor), own in zip(found.items(), parts, strict=True)}


def counts(essential: Tensors) -> dict[str, Any]:
    """How many weights may be redundant, how many are essential, and the share that is redundant in fact."""
    total = sum(mask.numel() for mask in essential.values())
    kept = int(sum(mask.sum() for mask in essential.values()))
    return {"weights": total, "essential_weights": kept, "redundant_fraction": 1.0 - kept / total}


# --- Allocate ---


@compute.register
def compute_allocate(todo: stages.Allocate, parent: ModelState, place: Workplace) -> Made:
    pretrained.check_head(parent.classes, todo.data_name, place.info(todo.data_name).source_classes)
    zeroed = {name: parent.tensors[name].where(mask, 0.0) for name, mask in parent.essential.items()}
    state = replace(parent, tensors=parent.tensors | zeroed)
    model = synchronise_norms(state.build(place.ranks.device).train(), place.ranks)
    restrict(model, parent.essential)
    history = train(
        model,
        optimiser_for([group(list(model.parameters()), todo.training.learning_rate)], todo.training),
        place.source(todo.data_name),
        todo.training,
        "none",
        place.ranks,
        place.checkpoint(todo.key()),
    )
    return made(model, history, parent)


@apply.register
def apply_trained_weights(
    _done: stages.Allocate | stages.Calibrate, parent: ModelState, tensors: Tensors
) -> ModelState:
    return replace(parent, tensors=part("tensors", tensors))


# --- Calibrate ---


@compute.register
def compute_calibrate(todo: stages.Calibrate, parent: ModelState, place: Workplace) -> Made:
    redundant = redundant_of(parent)
    model = parent.build(place.ranks.device).eval().requires_grad_(False)  # norms keep the source's statistics
    head = list(model.get_submodule(NETWORKS[parent.network].head).parameters())
    rest = [model.get_parameter(name) for name in redundant]
    for parameter in head + rest:
        parameter.requires_grad_(True)
    restrict(model, redundant)
    groups = [group(rest, todo.training.learning_rate), group(head, todo.training.head_learning_rate)]
    history = train(
        model,
        optimiser_for(groups, todo.training),
        place.splits(todo.task).train,
        todo.training,
        todo.task.augmentation,
        place.ranks,
        place.checkpoint(todo.key()),
        penalty=sum_of_squares(model, redundant, todo.penalty_strength),
    )
    return made(model, history, parent)


def redundant_of(state: ModelState) -> Tensors:
    """Masks, true at the redundant weights, without the head's: the target's head is new and free."""
    head = state.head_names()
    return {name: ~mask for name, mask in state.essential.items() if name not in head}


def sum_of_squares(model: nn.Module, masks: Tensors, strength: float) -> Penalty:
    """The penalty strength x sum of w^2 over the weights of `model` at which the masks are true."""
    masked = [(model.get_parameter(name), mask) for name, mask in masks.items()]
    masked = [(weight, mask.to(weight.device)) for weight, mask in masked]

    def penalty(_batch: Batch, _outputs: Tensor) -> Tensor:
        return strength * torch.stack([(weight * mask).square().sum() for weight, mask in masked]).sum()

    return penalty


def restrict(model: nn.Module, masks: Tensors) -> None:
    """Set the gradients of weights to 0 where their mask is false, so that no step of SGD or Adam moves them.

    Both start from momentum 0 and decay no weight here, so a gradient that is always 0 leaves a weight bit for bit.
    """
    for name, mask in masks.items():
        weight = model.get_parameter(name)
        weight.register_hook(mask.to(weight.device).mul)


def made(model: nn.Module, history: list[dict[str, Any]], parent: ModelState) -> Made:
    """What a masked training stores: its epochs, the share of redundant weights, and all tensors."""
    info = {"epochs": history, "macs": macs_of(parent)} | counts(parent.essential)
    return Made(info=info, tensors=named("tensors", weights(model)))
