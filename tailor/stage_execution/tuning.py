"""Training of all weights, and the measurement of what came out."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from tailor import stages
from tailor.catalogue.networks import NETWORKS
from tailor.data.objective import quality
from tailor.data.task_data import Samples, Splits
from tailor.model import cost
from tailor.model.budget import macs_of, original_macs
from tailor.model.state import ModelState, weights
from tailor.parallel.norm import set_norms
from tailor.stage_execution.base import Made, Tensors, Workplace, apply, compute, named, part
from tailor.stages import Training
from tailor.training import penalties
from tailor.training.backward import Forward, Penalty
from tailor.training.distillation import Teaching
from tailor.training.loop import group, optimiser_for, predict, train


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """What a training of all weights leaves."""

    history: list[dict[str, Any]]  # one dict per epoch
    tensors: Tensors  # the state_dict
    momentum: Tensors  # by parameter; empty where the optimiser keeps none


def train_all(
    state: ModelState,
    samples: Samples,
    training: Training,
    place: Workplace,
    *,
    key: str,
    augmentation: str = "none",
    penalty_of: "penalties.PenaltyOf | None" = None,
    teaching: Teaching | None = None,
    after_epoch: Callable[[nn.Module], None] | None = None,
) -> Trained:
    """Train every weight of a state, the head at its own rate, the norms as `training` says.

    Gradient factors scale gradients, and momentum that the state kept goes on. `after_epoch` may change the model.
    """
    model = state.build(place.ranks.device)
    for layer, factor in state.gradient_factors.items():
        scale_gradients(model.get_submodule(layer), factor.to(place.ranks.device))
    model = set_norms(model, training.norm, place.ranks)
    head = list(model.get_submodule(NETWORKS[state.network].head).parameters())
    rest = [p for p in model.parameters() if not any(p is h for h in head)]
    groups = [group(rest, training.learning_rate), group(head, training.head_learning_rate)]
    optimiser = optimiser_for([g for g in groups if g["params"]], training)
    for name, parameter in model.named_parameters():
        if name in state.momentum:
            optimiser.state[parameter]["momentum_buffer"] = state.momentum[name].to(place.ranks.device, copy=True)
    penalty: Penalty | None = None if penalty_of is None else penalty_of(model)
    history = train(
        model,
        optimiser,
        samples,
        training,
        augmentation,
        place.ranks,
        place.checkpoint(key),
        penalty=penalty,
        teaching=teaching,
        after_epoch=None if after_epoch is None else partial(after_epoch, model),
    )
    buffers = {name: optimiser.state[p].get("momentum_buffer") for name, p in model.named_parameters()}
    momentum = {name: buffer.detach().cpu() for name, buffer in buffers.items() if buffer is not None}
    return Trained(history=history, tensors=weights(model), momentum=momentum)


def scale_gradients(module: nn.Module, factor: Tensor) -> None:
    """Multiply the gradients of a layer's weights by one factor per output."""
    for parameter in module.parameters(recurse=False):
        shape = (-1, *[1] * (parameter.dim() - 1))
        parameter.register_hook(lambda gradient, shape=shape: gradient * factor.reshape(shape))


@compute.register
def compute_fine_tune(todo: stages.FineTune, parent: ModelState, place: Workplace) -> Made:
    return fine_tune(todo, parent, place)


def fine_tune(
    todo: stages.FineTune,
    parent: ModelState,
    place: Workplace,
    after_epoch: Callable[[nn.Module], None] | None = None,
) -> Made:
    """What a fine-tuning stores; `after_epoch` may change the model after the last step of each epoch."""
    trained = train_all(
        parent,
        place.splits(todo.task).train,
        todo.training,
        place,
        key=todo.key(),
        augmentation=todo.task.augmentation,
        penalty_of=penalties.of(todo.regulariser, parent, place.ranks),
        teaching=teaching_of(todo, place),
        after_epoch=after_epoch,
    )
    tensors = named("tensors", trained.tensors)
    if todo.optimiser_state == "kept":
        tensors |= named("momentum", trained.momentum)
    return Made(info={"epochs": trained.history, "macs": macs_of(parent)}, tensors=tensors)


class Finished(Protocol):
    """What the runner gives for a parent: an outcome with a state."""

    @property
    def state(self) -> ModelState:
        """The model's state after that stage; collective."""
        ...


def teaching_of(todo: stages.FineTune, place: Workplace) -> Teaching | None:
    """The stage's teacher, in evaluation mode; None where labels alone teach. Every rank has all of it."""
    if todo.distillation is None:
        return None
    model = cast(Finished, todo.teacher).state.build(place.ranks.device).eval().requires_grad_(False)
    teacher = Forward(model, todo.training, place.ranks)
    return Teaching(teacher=teacher, weight=todo.distillation.weight, temperature=todo.distillation.temperature)


@apply.register
def apply_fine_tune(_done: stages.FineTune, parent: ModelState, tensors: Tensors) -> ModelState:
    return replace(parent, scores={}, tensors=part("tensors", tensors), momentum=part("momentum", tensors))


# --- the operating point: the only place that reads the test split ---


@compute.register
def compute_operating_point(todo: stages.OperatingPoint, parent: ModelState, place: Workplace) -> Made:
    model, data = parent.build(place.ranks.device), place.splits(todo.task)
    outputs = {split: predict(model, getattr(data, split), place.ranks) for split in ("validation", "test")}
    found = quality(outputs["validation"], data.validation.labels.cpu())
    deciding = found.score
    if todo.decides_on == "train":
        deciding = quality(predict(model, data.train, place.ranks), data.train.labels.cpu()).score
    facts = stages.PointFacts(
        **cost_of(parent, model),
        metric=found.metric,
        deciding_score=deciding,
        validation_score=found.score,
        validation_loss=found.loss,
        validation_images=len(data.validation),
    )
    kept = {layer: indices.to(torch.int32) for layer, indices in (parent.kept or {}).items()}
    return Made(info=asdict(facts), tensors=predictions(outputs, data) | named("kept", kept))


@apply.register
def apply_operating_point(_done: stages.OperatingPoint, parent: ModelState, _tensors: Tensors) -> ModelState:
    return parent


def cost_of(state: ModelState, model: nn.Module) -> dict[str, Any]:
    """MACs and parameters of a sub-model, and its widths layer by layer."""
    shapes = {name: tensor.shape for name, tensor in state.tensors.items()}
    original = cost.original_shapes(state.network, state.classes)
    by_layer = cost.macs_by_layer(state.network, state.classes, shapes, state.input_shape)
    return {
        "macs": macs_of(state),
        "original_macs": original_macs(state),
        "params": cost.params_count(state.tensors, model),
        "layers": [
            {"layer": n.removesuffix(".weight"), "width": shapes[n][0], "original_width": original[n][0], "macs": m}
            for n, m in by_layer.items()
        ],
    }


def predictions(outputs: dict[str, Tensor], data: Splits) -> Tensors:
    """Per split what stands in the table: id, label, prediction and, for classes, the probability given to it."""
    tensors: Tensors = {}
    for split, found in outputs.items():
        samples = getattr(data, split)
        rows = {"image_id": samples.ids, "label": samples.labels}
        if samples.labels.is_floating_point():
            rows["prediction"] = found.flatten()
        else:
            rows["probability"], rows["prediction"] = found.softmax(dim=1).max(dim=1)
        tensors |= named(split, {name: values.cpu().contiguous() for name, values in rows.items()})
    return tensors


@torch.no_grad()
def score_on(state: ModelState, samples: Samples, place: Workplace) -> float:
    """The score of a state on samples, in the task's metric."""
    return quality(predict(state.build(place.ranks.device), samples, place.ranks), samples.labels.cpu()).score
