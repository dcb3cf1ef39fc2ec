"""Computes the pre-trained network, the head for the target, the anchor and a new initialisation."""

from dataclasses import replace

import torch

import tailor.stages as stages
from tailor.catalogue.networks import NETWORKS
from tailor.core.errors import ConfigError
from tailor.model.cost import macs_of
from tailor.model.state import ModelState, Pixels, weights
from tailor.networks import building, pretrained
from tailor.pruning import budget_solver, surgery
from tailor.stage_execution.base import StageContext, StageOutput, Tensors, add_prefix, apply, compute, part
from tailor.stage_execution.tuning import train_all
from tailor.stages import GroupRule
from tailor.training.loop import group, optimiser_for, train


@compute.register
def compute_train_source(stage: stages.TrainSource, _parent: None, context: StageContext) -> StageOutput:
    classes = context.info(stage.data_name).source_classes
    state = initial_state(stage.network, classes, stage.input_shape, seed=stage.initial_seed)
    if stage.removed_macs_fraction:
        state = narrow_state(state, stage.removed_macs_fraction, stage.width_multiple, seed=stage.initial_seed)
    samples = context.source(stage.data_name)
    trained = train_all(state, samples, stage.training, context, key=stage.key())
    return StageOutput(
        info={"epochs": trained.history, "macs": macs_of(state)}, tensors=add_prefix("tensors", trained.tensors)
    )


@apply.register
def apply_train_source(stage: stages.TrainSource, _parent: None, tensors: Tensors) -> ModelState:
    found = part("tensors", tensors)
    head = found[f"{NETWORKS[stage.network].head}.weight"]
    return ModelState(
        network=stage.network,
        classes=len(head),
        input_shape=tuple(stage.input_shape),
        tensors=found,
        kept=None if stage.removed_macs_fraction else {},
    )


@compute.register
def compute_load_weights(stage: stages.LoadWeights, _parent: None, context: StageContext) -> StageOutput:
    if context.weights is None:
        raise ConfigError("source.weights is not given, and its stage is not in the cache")
    tensors, classes = pretrained.load(context.weights, stage.weights_sha256, stage.network)
    return StageOutput(info={"classes": classes}, tensors=add_prefix("tensors", tensors))


@apply.register
def apply_load_weights(stage: stages.LoadWeights, _parent: None, tensors: Tensors) -> ModelState:
    found = part("tensors", tensors)
    return ModelState(
        network=stage.network,
        classes=len(found[f"{NETWORKS[stage.network].head}.weight"]),
        input_shape=tuple(stage.input_shape),
        pixels=Pixels(mean=tuple(stage.pixel_mean), std=tuple(stage.pixel_std)),
        tensors=found,
    )


def initial_state(network: str, classes: int, input_shape: tuple[int, ...], *, seed: int) -> ModelState:
    """A network initialised by its seed."""
    tensors = building.build(network, classes, seed=seed).state_dict()
    return ModelState(network=network, classes=classes, input_shape=tuple(input_shape), tensors=tensors)


def narrow_state(state: ModelState, removed_macs_fraction: float, width_multiple: int = 1, *, seed: int) -> ModelState:
    """A new state in which every layer lost the same share of its filters: a smaller dense network."""
    rule = GroupRule(residual="coupled", linear=True)
    found = surgery.groups(state.build(), state.input_shape, rule)
    least = budget_solver.minimums(state, found, 0.0)
    kept = budget_solver.uniform(budget_solver.Budget(state, found, removed_macs_fraction, least, width_multiple), {})
    return reinitialise(surgery.slim(state, kept, found), seed)


def reinitialise(state: ModelState, seed: int) -> ModelState:
    """New weights at the state's widths, by the layers' own initialisation."""
    model = building.rebuild(state.network, state.classes, state.tensors, state.sizes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in model.modules():
            if callable(reset := getattr(module, "reset_parameters", None)):
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
    state = replace_head(parent, context.info(stage.task.name).target_classes, stage.head_seed)
    model = state.build(context.ranks.device).eval().requires_grad_(False)  # norms keep the source's statistics
    head = model.get_submodule(NETWORKS[state.network].head).requires_grad_(True)
    samples = context.splits(stage.task).train
    optimiser = optimiser_for([group(list(head.parameters()), stage.training.head_learning_rate)], stage.training)
    history = train(model, optimiser, samples, stage.training, stage.task.augmentation, context.checkpoint(stage.key()))
    trained = weights(model)
    info = {"epochs": history, "macs": macs_of(state)}
    return StageOutput(info=info, tensors=add_prefix("tensors", {n: trained[n] for n in state.head_names()}))


@apply.register
def apply_fit_head(_stage: stages.FitHead, parent: ModelState, tensors: Tensors) -> ModelState:
    head = part("tensors", tensors)
    classes = len(head[f"{NETWORKS[parent.network].head}.weight"])
    return replace(parent, classes=classes, tensors=parent.tensors | head)


def replace_head(state: ModelState, classes: int, seed: int) -> ModelState:
    """The state with a newly initialised head of `classes` outputs, as wide as the state's features."""
    new = initial_state(state.network, classes, state.input_shape, seed=seed).tensors
    head = {name: new[name] for name in state.head_names()}
    weight = f"{NETWORKS[state.network].head}.weight"
    head[weight] = head[weight][:, : state.tensors[weight].shape[1]].contiguous()  # fewer in a narrower network
    return replace(state, classes=classes, tensors=state.tensors | head)


@apply.register
def apply_remember_weights(_stage: stages.RememberWeights, parent: ModelState, _tensors: Tensors) -> ModelState:
    head = parent.head_names()
    return replace(parent, anchor={name: t for name, t in parent.tensors.items() if name not in head})


@compute.register
def compute_reinitialise(stage: stages.Reinitialise, parent: ModelState, _context: StageContext) -> StageOutput:
    return StageOutput(tensors=add_prefix("tensors", reinitialise(parent, stage.seed).tensors))


@apply.register
def apply_reinitialise(_stage: stages.Reinitialise, parent: ModelState, tensors: Tensors) -> ModelState:
    return replace(parent, scores={}, alpha={}, momentum={}, kept=None, tensors=part("tensors", tensors))
