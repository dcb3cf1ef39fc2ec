"""Computes the pre-trained network, the target's head, the anchor, its channels' weights, a new initialisation."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

import tailor.stages as stages
from tailor.common.errors import ConfigError
from tailor.data.objective import loss_sum
from tailor.data.task_data import Samples, generator, ordered_batches
from tailor.facts.networks import NETWORKS
from tailor.facts.widths import ANY_WIDTH, WidthRule
from tailor.model.cost import macs_of
from tailor.model.state import ModelState, Pixels, weights
from tailor.networks import building, pretrained
from tailor.pruning import budget_solver, surgery
from tailor.stage_execution.base import StageContext, StageOutput, Tensors, add_prefix, apply, compute, without_prefix
from tailor.stage_execution.tuning import train_all
from tailor.stages import GroupRule
from tailor.training.feature_maps import compared_layers
from tailor.training.loop import optimiser_for, parameter_groups, train

TEMPERATURE = 5.0  # of the softmax over standardised loss increases, as in the authors' code


@compute.register
def compute_train_source(stage: stages.TrainSource, _parent: None, context: StageContext) -> StageOutput:
    classes = context.info(stage.data_name).source_classes
    state = initial_state(stage.network, classes, stage.input_shape, seed=stage.initial_seed)
    if stage.asked_removed_macs_fraction:
        state = narrow_state(state, stage.asked_removed_macs_fraction, stage.widths, seed=stage.initial_seed)
    samples = context.source(stage.data_name)
    trained = train_all(state, samples, stage.training, context, key=stage.key())
    info = {"epochs": trained.history, "macs": macs_of(state)}
    return StageOutput(info=info, tensors=add_prefix("tensors", trained.tensors))


@apply.register
def apply_train_source(stage: stages.TrainSource, _parent: None, tensors: Tensors) -> ModelState:
    state_dict = without_prefix("tensors", tensors)
    head = state_dict[f"{NETWORKS[stage.network].head}.weight"]
    return ModelState(
        network=stage.network,
        classes=len(head),
        input_shape=tuple(stage.input_shape),
        tensors=state_dict,
        kept=None if stage.asked_removed_macs_fraction else {},
    )


@compute.register
def compute_load_weights(stage: stages.LoadWeights, _parent: None, context: StageContext) -> StageOutput:
    if context.weights is None:
        raise ConfigError("source.weights is not given, and its stage is not in the cache")
    tensors, classes = pretrained.load(context.weights, stage.weights_sha256, stage.network)
    return StageOutput(info={"classes": classes}, tensors=add_prefix("tensors", tensors))


@apply.register
def apply_load_weights(stage: stages.LoadWeights, _parent: None, tensors: Tensors) -> ModelState:
    state_dict = without_prefix("tensors", tensors)
    head = state_dict[f"{NETWORKS[stage.network].head}.weight"]
    return ModelState(
        network=stage.network,
        classes=len(head),
        input_shape=tuple(stage.input_shape),
        pixels=Pixels(mean=tuple(stage.pixel_mean), std=tuple(stage.pixel_std)),
        tensors=state_dict,
    )


def initial_state(network: str, classes: int, input_shape: tuple[int, ...], *, seed: int) -> ModelState:
    """A network initialised by its seed."""
    tensors = building.tensors_of(building.build(network, classes, seed=seed))
    return ModelState(network=network, classes=classes, input_shape=tuple(input_shape), tensors=tensors)


def narrow_state(
    state: ModelState, asked_removed_macs_fraction: float, widths: WidthRule = ANY_WIDTH, *, seed: int
) -> ModelState:
    """A new state in which every layer lost the same share of its filters: a smaller dense network."""
    rule = GroupRule(residual="coupled", linear=True)
    groups = surgery.groups(state.build(), state.input_shape, rule)
    minimum = budget_solver.minimums(state, groups, 0.0)
    budget = budget_solver.Budget(state, groups, asked_removed_macs_fraction, minimum, widths)
    kept = budget_solver.uniform(budget, {})
    return reinitialise(surgery.slim(state, kept, groups), seed)


def reinitialise(state: ModelState, seed: int) -> ModelState:
    """New weights at the state's widths, by the layers' own initialisation; other parameters stay."""
    model = building.rebuild(state.network, state.classes, state.tensors, state.sizes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in model.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
    return ModelState(
        network=state.network,
        classes=state.classes,
        input_shape=state.input_shape,
        tensors=weights(model),
        kept=None,
        sizes=state.sizes,
    )


@compute.register
def compute_fit_head(stage: stages.FitHead, parent: ModelState, context: StageContext) -> StageOutput:
    state = replace_head(parent, context.outputs(stage.task), stage.head_seed)
    model = state.build(context.ranks.device).eval()  # norms keep the source's statistics
    head = state.head_names()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in head)
    samples = context.train(stage.task)
    optimiser = optimiser_for(parameter_groups(model, state, stage.training), stage.training)
    history = train(model, optimiser, samples, stage.training, stage.task.augmentation, context.checkpoint(stage.key()))
    trained = weights(model)
    head_tensors = {name: trained[name] for name in head}
    info = {"epochs": history, "macs": macs_of(state)}
    return StageOutput(info=info, tensors=add_prefix("tensors", head_tensors))


@apply.register
def apply_fit_head(_stage: stages.FitHead, parent: ModelState, tensors: Tensors) -> ModelState:
    head = without_prefix("tensors", tensors)
    classes = len(head[f"{NETWORKS[parent.network].head}.weight"])
    return replace(parent, classes=classes, tensors=parent.tensors | head)


def replace_head(state: ModelState, classes: int, seed: int) -> ModelState:
    """The state with a newly initialised head of `classes` outputs, as wide as the state's features."""
    new = initial_state(state.network, classes, state.input_shape, seed=seed).tensors
    head = {name: new[name] for name in state.head_names()}
    for name, tensor in head.items():
        if tensor.dim() > 1:
            features = state.tensors[name].shape[1]  # fewer in a narrower network
            head[name] = tensor[:, :features].contiguous()
    return replace(state, classes=classes, tensors=state.tensors | head)


@apply.register
def apply_remember_weights(_stage: stages.RememberWeights, parent: ModelState, _tensors: Tensors) -> ModelState:
    head = parent.head_names()
    return replace(parent, anchor={name: t for name, t in parent.tensors.items() if name not in head})


@compute.register
def compute_reinitialise(stage: stages.Reinitialise, parent: ModelState, _context: StageContext) -> StageOutput:
    own = own_parameters(parent)
    if own and not NETWORKS[parent.network].has_own_parameters:
        raise ConfigError(
            f"weights = 'reinitialised' would keep {own[0]} of {parent.network} as it was pre-trained: its module has "
            "no reset_parameters() that sets it; give it one, or choose another network"
        )
    tensors = reinitialise(parent, stage.seed).tensors
    if own:
        whole = building.build(parent.network, parent.classes, seed=stage.seed).state_dict()
        for name in own:
            first_of_each_dim = tuple(slice(size) for size in tensors[name].shape)
            tensors[name] = whole[name][first_of_each_dim].clone()
    return StageOutput(tensors=add_prefix("tensors", tensors))


def own_parameters(state: ModelState) -> list[str]:
    """Names of the parameters that no layer's `reset_parameters` sets, such as positions and class tokens."""
    names: list[str] = []
    for path, module in building.skeleton(state.network, state.classes).named_modules():
        if not callable(getattr(module, "reset_parameters", None)):
            names += [name for name, _ in module.named_parameters(prefix=path, recurse=False)]
    return names


@apply.register
def apply_reinitialise(_stage: stages.Reinitialise, parent: ModelState, tensors: Tensors) -> ModelState:
    return replace(parent, scores={}, alpha={}, momentum={}, kept=None, tensors=without_prefix("tensors", tensors))


# --- DELTA's attention: the loss with each channel of the pre-trained network zeroed ---


@compute.register
def compute_weigh_channels(stage: stages.WeighChannels, parent: ModelState, context: StageContext) -> StageOutput:
    ranks = context.ranks
    samples = context.train(stage.task)
    drawn = torch.randperm(len(samples), generator=generator(stage.seed, "attention"))[: stage.images]
    own_samples = samples.take(drawn[ranks.rank :: ranks.world_size].to(samples.labels.device))
    model = parent.build(ranks.device).eval()
    channels_of = compared_layers(parent)
    if not channels_of:
        raise ConfigError(f"regulariser 'delta' compares feature maps, and no convolution of {parent.network} has any")
    channel_weights = {}
    for layer, channels in channels_of.items():
        losses = []
        for channel in range(channels):
            with zero_channel(model.get_submodule(layer), channel):
                losses.append(loss_of(model, own_samples))
        channel_weights[layer] = attention(ranks.sum(torch.stack(losses)).cpu())
    return StageOutput(tensors=add_prefix("channel_weights", channel_weights))


def attention(losses: Tensor) -> Tensor:
    """Weights (C,) with mean 1 of a layer's channels, from the losses (C,) without each of them, summed over images.

    They are C x softmax(z / 5), z the standardised increases of the loss, in which the loss with all channels and the
    number of images cancel. The authors' code is the same, and multiplies by C in the penalty. If all channels matter
    equally, all weights are 1.

    >>> attention(torch.tensor([2.0, 2.0])).tolist()
    [1.0, 1.0]
    """
    z = (losses - losses.mean()) / losses.std(correction=0).clamp_min(1e-30)
    return (len(losses) * (z / TEMPERATURE).softmax(dim=0)).float()


@torch.no_grad()
def loss_of(model: nn.Module, samples: Samples) -> Tensor:
    """The loss summed over samples, float64."""
    total = torch.zeros((), dtype=torch.float64, device=next(model.parameters()).device)
    for images, labels in ordered_batches(samples):
        total += loss_sum(model(images), labels)
    return total


@contextmanager
def zero_channel(layer: nn.Module, channel: int) -> Iterator[None]:
    """Set one channel of the layer's output to zero within the context."""

    def zero(_layer: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        output[:, channel] = 0.0
        return output

    hook = layer.register_forward_hook(zero)
    try:
        yield
    finally:
        hook.remove()
