"""Trains all weights, and measures the result."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

import tailor.stages as stages
from tailor.common.errors import TrainingError
from tailor.data.objective import Quality, quality
from tailor.data.task_data import Samples
from tailor.facts.metrics import Metric
from tailor.model import cost
from tailor.model.cost import macs_of, original_macs
from tailor.model.state import ModelState, weights
from tailor.parallel.norm import set_norms
from tailor.stage_execution.base import StageContext, StageOutput, Tensors, add_prefix, apply, compute, without_prefix
from tailor.stages import Training
from tailor.training import penalties
from tailor.training.backward import Forward
from tailor.training.distillation import Teaching
from tailor.training.loop import NO_EXTRAS, TrainingExtras, do_nothing, optimiser_for, parameter_groups, train
from tailor.training.prediction import predict


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainedWeights:
    """The result of training all weights."""

    model: nn.Module
    history: list[dict[str, Any]]  # one dict per epoch
    tensors: Tensors  # the state_dict
    momentum: Tensors  # by parameter; empty if the optimiser has none


def train_all(
    state: ModelState,
    samples: Samples,
    training: Training,
    context: StageContext,
    *,
    key: str,
    augmentation: str = "none",
    extras_for: Callable[[nn.Module], TrainingExtras] = lambda _model: NO_EXTRAS,
) -> TrainedWeights:
    """Train every weight of a state, each at its own rate, the norms as `training` says.

    Gradient factors scale gradients. Momentum that the state kept is continued.
    """
    model = state.build(context.ranks.device)
    for layer, factor in state.gradient_factors.items():
        scale_gradients(model.get_submodule(layer), factor.to(context.ranks.device))
    model = set_norms(model, training.norm, context.ranks)
    optimiser = optimiser_for(parameter_groups(model, state, training), training)
    for name, parameter in model.named_parameters():
        if name in state.momentum:
            optimiser.state[parameter]["momentum_buffer"] = state.momentum[name].to(context.ranks.device, copy=True)
    history = train(model, optimiser, samples, training, augmentation, context.checkpoint(key), extras_for(model))
    momentum: Tensors = {}
    for name, parameter in model.named_parameters():
        buffer = optimiser.state[parameter].get("momentum_buffer")
        if buffer is not None:
            momentum[name] = buffer.detach().cpu()
    return TrainedWeights(model=model, history=history, tensors=weights(model), momentum=momentum)


def scale_gradients(module: nn.Module, factor: Tensor) -> None:
    """Multiply the gradients of a layer's weights by one factor per output; what is not trained has none."""
    for parameter in module.parameters(recurse=False):
        if parameter.requires_grad:
            shape = (-1, *[1] * (parameter.dim() - 1))
            parameter.register_hook(lambda gradient, shape=shape: gradient * factor.reshape(shape))


@compute.register
def compute_fine_tune_part(stage: stages.FineTunePart, parent: ModelState, context: StageContext) -> StageOutput:
    trained = _tune(stage.whole, parent, context, until_epoch=stage.first_epochs)
    validation = measure(trained.model, context.splits(stage.task).validation, context, stage.metric)
    return StageOutput(
        info={
            "metric": validation.metric,
            "validation_score": validation.score,
            "validation_loss": validation.loss,
            "macs": macs_of(parent),
        }
    )


@compute.register
def compute_fine_tune(
    stage: stages.FineTune,
    parent: ModelState,
    context: StageContext,
    after_epoch: Callable[[nn.Module], None] = do_nothing,
) -> StageOutput:
    """What a fine-tuning stores; `after_epoch` may change the model after the last step of each epoch."""
    trained = _tune(stage, parent, context, after_epoch)
    tensors = add_prefix("tensors", trained.tensors)
    if stage.optimiser_state == "kept":
        tensors |= add_prefix("momentum", trained.momentum)
    return StageOutput(info={"epochs": trained.history, "macs": macs_of(parent)}, tensors=tensors)


def _tune(
    stage: stages.FineTune,
    parent: ModelState,
    context: StageContext,
    after_epoch: Callable[[nn.Module], None] = do_nothing,
    until_epoch: int | None = None,
) -> TrainedWeights:
    penalty_of = penalties.penalty_for(stage.regulariser, parent, context.ranks)
    teaching = teaching_of(stage, context)

    def extras_for(model: nn.Module) -> TrainingExtras:
        return TrainingExtras(
            penalty=None if penalty_of is None else penalty_of(model),
            teaching=teaching,
            after_epoch=partial(after_epoch, model),
            validation=context.validation(stage.task),
            until_epoch=until_epoch,
        )

    return train_all(
        parent,
        context.train(stage.task),
        stage.training,
        context,
        key=stage.key(),
        augmentation=stage.task.augmentation,
        extras_for=extras_for,
    )


class HasState(Protocol):
    """An outcome with a state, as the runner gives it for a parent."""

    def model_state(self) -> ModelState:
        """The model's state after that stage; collective."""


def teaching_of(stage: stages.FineTune, context: StageContext) -> Teaching | None:
    """The stage's teacher in evaluation mode, on every rank; None without distillation."""
    if stage.distillation is None:
        return None
    state = cast(HasState, stage.teacher).model_state()
    model = state.build(context.ranks.device).eval().requires_grad_(False)
    teacher = Forward(model, stage.training, context.ranks)
    return Teaching(teacher=teacher, weight=stage.distillation.weight, temperature=stage.distillation.temperature)


@apply.register
def apply_fine_tune(_stage: stages.FineTune, parent: ModelState, tensors: Tensors) -> ModelState:
    return replace(
        parent, scores={}, tensors=without_prefix("tensors", tensors), momentum=without_prefix("momentum", tensors)
    )


# --- the operating point: the only place that reads the test split ---


@compute.register
def compute_operating_point(stage: stages.OperatingPoint, parent: ModelState, context: StageContext) -> StageOutput:
    model = parent.build(context.ranks.device)
    data = context.splits(stage.task)
    validation = measure(model, data.validation, context, stage.metric)
    test = measure(model, data.test, context, stage.metric)
    deciding_score = validation.score
    if stage.decides_on == "train":
        deciding_score = measure(model, data.train, context, stage.metric).score
    facts = stages.PointFacts(
        **cost_of(parent, model),
        metric=validation.metric,
        deciding_score=deciding_score,
        validation_score=validation.score,
        validation_loss=validation.loss,
        validation_images=len(data.validation),
        **validation.scores_on("validation"),
    )
    kept = {layer: indices.to(torch.int32) for layer, indices in (parent.kept or {}).items()}
    tensors = add_prefix("kept", kept)
    tensors |= add_prefix("validation", predictions(validation, data.validation))
    tensors |= add_prefix("test", predictions(test, data.test))
    # Facts are what decisions may read, so the scores on the test split are tensors.
    test_scores = {name: torch.tensor(score, dtype=torch.float64) for name, score in test.scores_on("test").items()}
    return StageOutput(info=asdict(facts), tensors=tensors | add_prefix("scores", test_scores))


@apply.register
def apply_operating_point(_stage: stages.OperatingPoint, parent: ModelState, _tensors: Tensors) -> ModelState:
    return parent


def cost_of(state: ModelState, model: nn.Module) -> dict[str, Any]:
    """MACs and parameters of a sub-model, and its widths layer by layer."""
    shapes = {name: tensor.shape for name, tensor in state.tensors.items()}
    original = cost.original_shapes(state.network, state.classes)
    layers = []
    for weight, macs in cost.macs_by_layer(state.network, state.classes, shapes, state.input_shape).items():
        layers.append(
            {
                "layer": weight.removesuffix(".weight"),
                "width": shapes[weight][0],
                "original_width": original[weight][0],
                "macs": macs,
            }
        )
    return {
        "macs": macs_of(state),
        "original_macs": original_macs(state),
        "params": cost.params_count(state.tensors, model),
        "layers": layers,
    }


def measure(model: nn.Module, samples: Samples, context: StageContext, metric: Metric | None) -> Quality:
    """How good a model is on samples, over all ranks; without a metric by the task's usual one.

    Raises:
        TrainingError: an output is not a number, and would count as an answer: the last step has made it so.
    """
    measured = quality(predict(model, samples, context.ranks), samples.labels.cpu(), metric)
    if not math.isfinite(measured.loss):
        raise TrainingError(
            f"the loss of {len(samples)} images is {measured.loss} after training; a smaller learning rate may help"
        )
    return measured


def predictions(of_split: Quality, samples: Samples) -> Tensors:
    """The columns of the table of predictions or estimates: id, label, and what the model says of each sample."""
    columns = {"image_id": samples.ids, **of_split.columns}
    return {name: values.cpu().contiguous() for name, values in columns.items()}
