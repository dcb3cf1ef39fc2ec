"""PAC-Net (Myung et al., ICML 2022): finds the essential weights, trains only them, and then the redundant ones."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

import tailor.stages as stages
from tailor.data.task_data import Batch
from tailor.model import cost
from tailor.model.cost import macs_of
from tailor.model.state import ModelState, weights
from tailor.networks import pretrained
from tailor.parallel.norm import synchronise_norms
from tailor.stage_execution.base import StageContext, StageOutput, Tensors, add_prefix, compute
from tailor.training.backward import Penalty
from tailor.training.loop import NO_EXTRAS, TrainingExtras, group, optimiser_for, train

# --- Prune ---


@compute.register
def compute_find_essential(stage: stages.FindEssential, parent: ModelState, _context: StageContext) -> StageOutput:
    essential = essential_masks(weights_of(parent), stage.prune_ratio)
    return StageOutput(info=counts(essential) | {"macs": macs_of(parent)}, tensors=add_prefix("essential", essential))


def weights_of(state: ModelState) -> Tensors:
    """The weights of all convolution and linear layers by name, with the head's; without biases and norms."""
    applied = cost.positions(state.network, state.classes, state.input_shape)
    return {name: state.tensors[name] for name in sorted(applied)}


def essential_masks(weights: Tensors, prune_ratio: float) -> Tensors:
    """Masks, true at the weights of largest magnitude over all tensors together; of equal ones the first are true.

    >>> essential_masks({"a": torch.tensor([0.1, -3.0]), "b": torch.tensor([2.0, 0.0])}, prune_ratio=0.5)
    {'a': tensor([False,  True]), 'b': tensor([ True, False])}

    Args:
        prune_ratio: share of all weights whose mask is false, rounded to whole weights.
    """
    magnitudes = torch.cat([tensor.abs().flatten() for tensor in weights.values()])
    order = magnitudes.sort(descending=True, stable=True).indices
    essential_count = round((1.0 - prune_ratio) * len(magnitudes))
    mask = torch.zeros(len(magnitudes), dtype=torch.bool)
    mask[order[:essential_count]] = True
    parts = mask.split([tensor.numel() for tensor in weights.values()])
    masks = {}
    for (name, tensor), part in zip(weights.items(), parts, strict=True):
        masks[name] = part.reshape(tensor.shape)
    return masks


def counts(essential: Tensors) -> dict[str, Any]:
    """The number of weights that may be redundant, of essential ones, and the share of redundant ones."""
    total = sum(mask.numel() for mask in essential.values())
    kept = int(sum(mask.sum() for mask in essential.values()))
    return {"weights": total, "essential_weights": kept, "redundant_fraction": 1.0 - kept / total}


# --- Allocate ---


@compute.register
def compute_allocate(stage: stages.Allocate, parent: ModelState, context: StageContext) -> StageOutput:
    pretrained.check_head(parent.classes, stage.data_name, context.info(stage.data_name).source_classes)
    zeroed = {name: parent.tensors[name].where(mask, 0.0) for name, mask in parent.essential.items()}
    state = replace(parent, tensors=parent.tensors | zeroed)
    model = synchronise_norms(state.build(context.ranks.device).train(), context.ranks)
    restrict(model, parent.essential)
    optimiser = optimiser_for([group(list(model.parameters()), stage.training.learning_rate)], stage.training)
    samples = context.source(stage.data_name)
    checkpoint = context.checkpoint(stage.key())
    extras = NO_EXTRAS
    if stage.start_penalty:
        extras = TrainingExtras(penalty=sum_of_squares(model, parent.essential, stage.start_penalty, parent.tensors))
    history = train(model, optimiser, samples, stage.training, "none", checkpoint, extras)
    return masked_output(model, history, parent)


# --- Calibrate ---


@compute.register
def compute_calibrate(stage: stages.Calibrate, parent: ModelState, context: StageContext) -> StageOutput:
    redundant = redundant_masks(parent)
    model = parent.build(context.ranks.device).eval().requires_grad_(False)  # norms keep the source's statistics
    names = parent.head_names()
    head = [parameter for name, parameter in model.named_parameters() if name in names]
    rest = [model.get_parameter(name) for name in redundant]
    for parameter in head + rest:
        parameter.requires_grad_(True)
    restrict(model, redundant)
    groups = [group(rest, stage.training.learning_rate), group(head, stage.training.head_learning_rate)]
    optimiser = optimiser_for(groups, stage.training)
    samples = context.train(stage.task)
    penalty = sum_of_squares(model, redundant, stage.penalty_strength)
    extras = TrainingExtras(penalty=penalty, validation=context.validation(stage.task))
    checkpoint = context.checkpoint(stage.key())
    history = train(model, optimiser, samples, stage.training, stage.task.augmentation, checkpoint, extras)
    return masked_output(model, history, parent)


def redundant_masks(state: ModelState) -> Tensors:
    """Masks, true at the redundant weights, without the head's: all weights of the target's new head are trained."""
    head = state.head_names()
    return {name: ~mask for name, mask in state.essential.items() if name not in head}


def sum_of_squares(model: nn.Module, masks: Tensors, strength: float, starts: Tensors | None = None) -> Penalty:
    """The penalty strength x sum of w^2 over the weights of `model` at which the masks are true.

    With `starts`, which are the weights before training, the sum of (w - start)^2.
    """
    weights = {name: model.get_parameter(name) for name in masks}
    masks = {name: mask.to(weights[name].device) for name, mask in masks.items()}
    if starts is not None:
        starts = {name: starts[name].to(weight.device) for name, weight in weights.items()}

    def penalty(_batch: Batch, _outputs: Tensor) -> Tensor:
        sums = []
        for name, weight in weights.items():
            distance = weight if starts is None else weight - starts[name]
            sums.append((distance * masks[name]).square().sum())
        return strength * torch.stack(sums).sum()

    return penalty


def restrict(model: nn.Module, masks: Tensors) -> None:
    """Set the gradients of weights to 0 where their mask is false, so that no step of SGD or Adam changes them.

    Both start from momentum 0 and without weight decay here, so a weight whose gradient is always 0 keeps its bits.
    """
    for name, mask in masks.items():
        weight = model.get_parameter(name)
        weight.register_hook(mask.to(weight.device).mul)


def masked_output(model: nn.Module, history: list[dict[str, Any]], parent: ModelState) -> StageOutput:
    """What a masked training stores: its epochs, the share of redundant weights, and all tensors."""
    info = {"epochs": history, "macs": macs_of(parent)} | counts(parent.essential)
    return StageOutput(info=info, tensors=add_prefix("tensors", weights(model)))
