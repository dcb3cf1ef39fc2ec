"""The pre-trained network, the head for the target, and what is remembered or forgotten of the weights."""

from dataclasses import replace

import torch

from tailor import stages
from tailor.catalogue.networks import NETWORKS
from tailor.core.errors import ConfigError
from tailor.model.budget import macs_of
from tailor.model.state import ModelState, Pixels, weights
from tailor.networks import building, pretrained
from tailor.pruning import budget_solver, surgery
from tailor.stage_execution.base import Made, Tensors, Workplace, apply, compute, named, part
from tailor.stage_execution.tuning import train_all
from tailor.stages import GroupRule
from tailor.training.loop import group, optimiser_for, train


@compute.register
def compute_train_source(todo: stages.TrainSource, _parent: None, place: Workplace) -> Made:
    classes = place.info(todo.data_name).source_classes
    state = fresh(todo.network, classes, todo.input_shape, seed=todo.initial_seed)
    if todo.removed_macs_fraction:
        state = narrower(state, todo.removed_macs_fraction, todo.width_multiple, seed=todo.initial_seed)
    samples = place.source(todo.data_name)
    trained = train_all(state, samples, todo.training, place, key=todo.key())
    return Made(info={"epochs": trained.history, "macs": macs_of(state)}, tensors=named("tensors", trained.tensors))


@apply.register
def apply_train_source(done: stages.TrainSource, _parent: None, tensors: Tensors) -> ModelState:
    found = part("tensors", tensors)
    head = found[f"{NETWORKS[done.network].head}.weight"]
    return ModelState(
        network=done.network,
        classes=len(head),
        input_shape=tuple(done.input_shape),
        tensors=found,
        kept=None if done.removed_macs_fraction else {},
    )


@compute.register
def compute_load_weights(todo: stages.LoadWeights, _parent: None, place: Workplace) -> Made:
    if place.weights is None:
        raise ConfigError("source.weights names no file, and its stage is not in the cache")
    tensors, classes = pretrained.load(place.weights, todo.weights_sha256, todo.network)
    return Made(info={"classes": classes}, tensors=named("tensors", tensors))


@apply.register
def apply_load_weights(done: stages.LoadWeights, _parent: None, tensors: Tensors) -> ModelState:
    found = part("tensors", tensors)
    return ModelState(
        network=done.network,
        classes=len(found[f"{NETWORKS[done.network].head}.weight"]),
        input_shape=tuple(done.input_shape),
        pixels=Pixels(mean=tuple(done.pixel_mean), std=tuple(done.pixel_std)),
        tensors=found,
    )


def fresh(network: str, classes: int, input_shape: tuple[int, ...], *, seed: int) -> ModelState:
    """A network as its seed alone initialises it."""
    tensors = building.build(network, classes, seed=seed).state_dict()
    return ModelState(network=network, classes=classes, input_shape=tuple(input_shape), tensors=tensors)


def narrower(state: ModelState, removed_macs_fraction: float, width_multiple: int = 1, *, seed: int) -> ModelState:
    """A fresh state in which every layer lost the same share of its filters: a smaller dense network."""
    rule = GroupRule(residual="coupled", linear=True)
    found = surgery.groups(state.build(), state.input_shape, rule)
    least = budget_solver.minimums(state, found, 0.0)
    kept = budget_solver.uniform(state, found, removed_macs_fraction, least, {}, width_multiple)
    return reinitialised(surgery.slim(state, kept, found), seed)


def reinitialised(state: ModelState, seed: int) -> ModelState:
    """Fresh weights at the state's widths, by the layers' own initialisation."""
    model = building.rebuild(state.network, state.classes, state.tensors)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in model.modules():
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()
    return ModelState(
        network=state.network, classes=state.classes, input_shape=state.input_shape, tensors=weights(model), kept=None
    )


@compute.register
def compute_fit_head(todo: stages.FitHead, parent: ModelState, place: Workplace) -> Made:
    state = with_new_head(parent, place.info(todo.task.name).target_classes, todo.head_seed)
    model = state.build(place.ranks.device).eval().requires_grad_(False)  # norms keep the source's statistics
    head = model.get_submodule(NETWORKS[state.network].head).requires_grad_(True)
    samples = place.splits(todo.task).train
    optimiser = optimiser_for([group(list(head.parameters()), todo.training.head_learning_rate)], todo.training)
    history = train(
        model, optimiser, samples, todo.training, todo.task.augmentation, place.ranks, place.checkpoint(todo.key())
    )
    trained = weights(model)
    info = {"epochs": history, "macs": macs_of(state)}
    return Made(info=info, tensors=named("tensors", {n: trained[n] for n in state.head_names()}))


@apply.register
def apply_fit_head(_done: stages.FitHead, parent: ModelState, tensors: Tensors) -> ModelState:
    head = part("tensors", tensors)
    classes = len(head[f"{NETWORKS[parent.network].head}.weight"])
    return replace(parent, classes=classes, tensors=parent.tensors | head)


def with_new_head(state: ModelState, classes: int, seed: int) -> ModelState:
    """The state with a freshly initialised head of `classes` outputs, as wide as the state's features."""
    new = fresh(state.network, classes, state.input_shape, seed=seed).tensors
    head = {name: new[name] for name in state.head_names()}
    weight = f"{NETWORKS[state.network].head}.weight"
    head[weight] = head[weight][:, : state.tensors[weight].shape[1]].contiguous()  # fewer in a narrower network
    return replace(state, classes=classes, tensors=state.tensors | head)


@apply.register
def apply_remember_weights(_done: stages.RememberWeights, parent: ModelState, _tensors: Tensors) -> ModelState:
    head = parent.head_names()
    return replace(parent, anchor={name: t for name, t in parent.tensors.items() if name not in head})


@compute.register
def compute_reinitialise(todo: stages.Reinitialise, parent: ModelState, _place: Workplace) -> Made:
    return Made(tensors=named("tensors", reinitialised(parent, todo.seed).tensors))


@apply.register
def apply_reinitialise(_done: stages.Reinitialise, parent: ModelState, tensors: Tensors) -> ModelState:
    return replace(parent, scores={}, alpha={}, momentum={}, kept=None, tensors=part("tensors", tensors))
