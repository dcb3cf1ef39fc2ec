"""What each kind of stage does: `compute` makes what the stage stores, `apply` turns the parent's state into the next.

`apply` alone makes the next state, whether the stage was computed now or read from the cache: so cached equals
computed. Both are collective: all ranks call them in the same order.
"""

from dataclasses import dataclass, field, replace
from functools import singledispatch
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tailor import allocation, cost, importance, networks, stage, surgery
from tailor.catalog import DATASETS, NETWORKS
from tailor.checkpoint import Checkpoint
from tailor.data import Splits, source, splits
from tailor.distributed import Ranks
from tailor.errors import ConfigError
from tailor.factors import attach
from tailor.norm import synchronise_norms
from tailor.stage import Stage, Task, Training
from tailor.state import ModelState, weights
from tailor.train import group, loss_and_accuracy, predict, train

Tensors = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True, eq=False)
class Made:
    """What a stage stores: facts as JSON values, and the tensors that it changed."""

    info: dict[str, Any] = field(default_factory=dict)
    tensors: Tensors = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Workplace:
    """Where a stage is computed; nothing here changes its result."""

    ranks: Ranks
    checkpoint_folder: Path | None
    checkpoint_every_s: float

    def checkpoint(self, key: str) -> Checkpoint:
        """The checkpoint of the stage with this key."""
        path = None if self.checkpoint_folder is None else self.checkpoint_folder / f"{key}.safetensors"
        return Checkpoint(path, self.checkpoint_every_s, self.ranks)

    def splits(self, task: Task) -> Splits:
        """The target's splits, on this rank's device."""
        found, device = splits(task), self.ranks.device
        return Splits(train=found.train.to(device), validation=found.validation.to(device), test=found.test.to(device))


@singledispatch
def compute(todo: Stage, parent: ModelState | None, place: Workplace) -> Made:  # noqa: ARG001
    """Do the work of a stage on its parent's state.

    Raises:
        ConfigError: the stage is impossible on this model (a budget that it cannot lose, say).
        TrainingError: training diverged.
    """
    raise ConfigError(f"no way to compute a stage of kind {todo.kind!r}")


@singledispatch
def apply(done: Stage, parent: ModelState | None, tensors: Tensors) -> ModelState:  # noqa: ARG001
    """The state after a stage, from its parent's state and what the stage stored."""
    raise ConfigError(f"no way to apply a stage of kind {done.kind!r}")


# --- the pre-trained network ---


@compute.register
def _(todo: stage.TrainSource, _parent: None, place: Workplace) -> Made:
    classes = DATASETS[todo.data_name].source_classes
    model = networks.build(todo.network, classes, seed=todo.initial_seed).to(place.ranks.device)
    samples = source(todo.data_name).to(place.ranks.device)
    history = _train_all(model, NETWORKS[todo.network].head, samples, todo.training, "none", todo.key(), place)
    return Made(info={"epochs": history}, tensors=_named("tensors", weights(model)))


@apply.register
def _(done: stage.TrainSource, _parent: None, tensors: Tensors) -> ModelState:
    classes = DATASETS[done.data_name].source_classes
    return ModelState(network=done.network, classes=classes, tensors=_part("tensors", tensors))


# --- the head (Algorithm 1, line 1) ---


@compute.register
def _(todo: stage.FitHead, parent: ModelState, place: Workplace) -> Made:
    state = _with_new_head(parent, DATASETS[todo.task.name].target_classes, todo.head_seed)
    model = state.build(place.ranks.device).eval().requires_grad_(False)  # norms keep the source's statistics
    head = model.get_submodule(NETWORKS[state.network].head).requires_grad_(True)
    samples = place.splits(todo.task).train
    parameters = [group(list(head.parameters()), todo.training.head_learning_rate)]
    history = train(
        model, parameters, samples, todo.training, todo.task.augmentation, place.ranks, place.checkpoint(todo.key())
    )
    trained = weights(model)
    return Made(info={"epochs": history}, tensors=_named("tensors", {n: trained[n] for n in state.head_names()}))


@apply.register
def _(done: stage.FitHead, parent: ModelState, tensors: Tensors) -> ModelState:
    classes = DATASETS[done.task.name].target_classes
    return replace(parent, classes=classes, tensors=parent.tensors | _part("tensors", tensors))


def _with_new_head(state: ModelState, classes: int, seed: int) -> ModelState:
    fresh = networks.build(state.network, classes, seed=seed).state_dict()
    new_head = {name: fresh[name] for name in state.head_names()}
    return replace(state, classes=classes, tensors=state.tensors | new_head)


# --- TransTailor's factors and scores (Eq. 3 and 5) ---


@compute.register
def _(todo: stage.TrainFactors, parent: ModelState, place: Workplace) -> Made:
    model = parent.build(place.ranks.device).eval().requires_grad_(False)
    found = surgery.groups(parent.build(), parent.network)
    ones = {g.site: torch.ones(g.filters, device=place.ranks.device) for g in found}
    parameters = attach(model, ones, trainable=True)
    samples = place.splits(todo.task).train
    history = train(
        model,
        [group(parameters, todo.training.learning_rate)],
        samples,
        todo.training,
        todo.task.augmentation,
        place.ranks,
        place.checkpoint(todo.key()),
    )
    alpha = {site: p.detach().cpu() for site, p in zip(ones, parameters, strict=True)}
    return Made(info={"epochs": history}, tensors=_named("alpha", alpha))


@apply.register
def _(_done: stage.TrainFactors, parent: ModelState, tensors: Tensors) -> ModelState:
    return replace(parent, alpha=_part("alpha", tensors))


@compute.register
def _(todo: stage.ScoreFilters, parent: ModelState, place: Workplace) -> Made:
    found = surgery.groups(parent.build(), parent.network)
    if todo.criterion == "l1":
        scores = importance.l1(parent, found)
    elif todo.criterion == "random" and todo.seed is not None:
        scores = importance.random(found, todo.seed)
    elif todo.criterion == "taylor" and todo.task is not None and todo.batch_size is not None:
        scores = importance.taylor(parent, found, place.splits(todo.task).train, todo.batch_size, place.ranks)
    else:
        raise ConfigError(f"no such criterion: {todo.criterion!r} (valid: l1, random, taylor)")
    return Made(tensors=_named("scores", scores))


@apply.register
def _(_done: stage.ScoreFilters, parent: ModelState, tensors: Tensors) -> ModelState:
    return replace(parent, alpha={}, scores=_part("scores", tensors))


# --- surgery ---


@compute.register
def _(todo: stage.Prune, parent: ModelState, _place: Workplace) -> Made:
    found = surgery.groups(parent.build(), parent.network)
    kept = allocation.lowest_of_all(parent, found, todo.removed_macs_fraction, todo.minimum_filters_fraction)
    slimmed = surgery.slim(parent, kept, found)
    info = {"removed_macs_fraction": removed_macs_fraction(slimmed)}
    return Made(info=info, tensors=_named("kept", kept))


@apply.register
def _(_done: stage.Prune, parent: ModelState, tensors: Tensors) -> ModelState:
    found = surgery.groups(parent.build(), parent.network)
    return surgery.slim(parent, _part("kept", tensors), found)


def removed_macs_fraction(state: ModelState) -> float:
    """Share of the original network's MACs (with the same head) that the state no longer has, in [0, 1]."""
    original = cost.macs(state.network, state.classes, cost.original_shapes(state.network, state.classes))
    return 1.0 - cost.macs(state.network, state.classes, {n: t.shape for n, t in state.tensors.items()}) / original


# --- importance-aware fine-tuning (Eq. 6) ---


@compute.register
def _(_todo: stage.AttachImportance, _parent: ModelState, _place: Workplace) -> Made:
    return Made()


@apply.register
def _(done: stage.AttachImportance, parent: ModelState, _tensors: Tensors) -> ModelState:
    layer_of = {g.site: g.layer for g in surgery.groups(parent.build(), parent.network)}
    return importance.attach_importance(parent, done.mode, layer_of)


@compute.register
def _(_todo: stage.FoldImportance, _parent: ModelState, _place: Workplace) -> Made:
    return Made()


@apply.register
def _(_done: stage.FoldImportance, parent: ModelState, _tensors: Tensors) -> ModelState:
    return importance.fold_importance(parent)


@compute.register
def _(todo: stage.FineTune, parent: ModelState, place: Workplace) -> Made:
    model = parent.build(place.ranks.device)
    for layer, factor in parent.gradient_factors.items():
        _scale_gradients(model.get_submodule(layer), factor.to(place.ranks.device))
    samples, head = place.splits(todo.task).train, NETWORKS[parent.network].head
    history = _train_all(model, head, samples, todo.training, todo.task.augmentation, todo.key(), place)
    return Made(info={"epochs": history}, tensors=_named("tensors", weights(model)))


@apply.register
def _(_done: stage.FineTune, parent: ModelState, tensors: Tensors) -> ModelState:
    return replace(parent, scores={}, tensors=_part("tensors", tensors))


def _scale_gradients(module: nn.Module, factor: Tensor) -> None:
    for parameter in module.parameters(recurse=False):
        shape = (-1, *[1] * (parameter.dim() - 1))
        parameter.register_hook(lambda gradient, shape=shape: gradient * factor.reshape(shape))


def _train_all(
    model: nn.Module,
    head_name: str,
    samples: Any,
    training: Training,
    augmentation: str,
    key: str,
    place: Workplace,
) -> list[dict[str, Any]]:
    """Train every weight, the head at its own rate, norms over the global batch."""
    model = synchronise_norms(model.train(), place.ranks)
    head = list(model.get_submodule(head_name).parameters())
    rest = [p for p in model.parameters() if not any(p is h for h in head)]
    parameters = [group(rest, training.learning_rate), group(head, training.head_learning_rate)]
    return train(model, parameters, samples, training, augmentation, place.ranks, place.checkpoint(key))


# --- the operating point: the only place that reads the test split ---


@compute.register
def _(todo: stage.OperatingPoint, parent: ModelState, place: Workplace) -> Made:
    model, data = parent.build(place.ranks.device), place.splits(todo.task)
    shapes = {name: tensor.shape for name, tensor in parent.tensors.items()}
    original = cost.original_shapes(parent.network, parent.classes)
    by_layer = cost.macs_by_layer(parent.network, parent.classes, shapes)
    probabilities = {split: predict(model, getattr(data, split), place.ranks) for split in ("validation", "test")}
    loss, accuracy = loss_and_accuracy(probabilities["validation"], data.validation.labels.cpu())
    info = {
        "macs": sum(by_layer.values()),
        "original_macs": cost.macs(parent.network, parent.classes, original),
        "params": cost.params_count(parent.tensors, model),
        "validation_loss": loss,
        "validation_accuracy": accuracy,
        "validation_images": len(data.validation),
        "layers": [
            {"layer": n.removesuffix(".weight"), "width": shapes[n][0], "original_width": original[n][0], "macs": m}
            for n, m in by_layer.items()
        ],
    }
    tensors: Tensors = {}
    for split, probability in probabilities.items():
        confidence, prediction = probability.max(dim=1)
        samples = getattr(data, split)
        rows = {"image_id": samples.ids, "label": samples.labels, "prediction": prediction, "probability": confidence}
        tensors |= _named(split, {name: values.cpu().contiguous() for name, values in rows.items()})
    return Made(info=info, tensors=tensors)


@apply.register
def _(_done: stage.OperatingPoint, parent: ModelState, _tensors: Tensors) -> ModelState:
    return parent


def _named(part: str, tensors: Tensors) -> Tensors:
    return {f"{part}/{name}": tensor for name, tensor in tensors.items()}


def _part(part: str, tensors: Tensors) -> Tensors:
    # Sorted, because safetensors gives tensors in an order that differs between processes.
    return {n.removeprefix(f"{part}/"): tensors[n] for n in sorted(tensors) if n.startswith(f"{part}/")}
