"""SFP's fine-tuning that zeroes filters, and GBN's tick."""

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

import tailor.stages as stages
from tailor.model.cost import macs_of
from tailor.model.factors import attach
from tailor.model.state import ModelState
from tailor.pruning import budget_solver
from tailor.pruning.criteria.base import norms_behind
from tailor.pruning.surgery import Group
from tailor.stage_execution.base import StageContext, StageOutput, Tensors, add_prefix, compute
from tailor.stage_execution.pruning import groups_of
from tailor.stage_execution.tuning import compute_fine_tune
from tailor.training.loop import TrainingExtras, group, optimiser_for, train

LARGEST_SHIFT = 10.0  # of a gated norm, in standard deviations of its output, as in the authors' code


# --- soft filter pruning ---


@compute.register
def compute_fine_tune_softly(stage: stages.FineTuneSoftly, parent: ModelState, context: StageContext) -> StageOutput:
    groups = groups_of(parent, stage.rule)
    budget = budget_solver.budget_of(stage, parent, groups)
    kept = budget_solver.uniform(budget, {})
    # The same counts in every epoch.
    zeroed = {filter_group.name: filter_group.filters - len(kept[filter_group.name]) for filter_group in groups}
    return compute_fine_tune(stage, parent, context, lambda model: zero_smallest(model, groups, zeroed))


@torch.no_grad()
def zero_smallest(model: nn.Module, groups: tuple[Group, ...], zeroed: dict[str, int]) -> None:
    """Set the weights of the filters of smallest L2 norm to zero, `zeroed[name]` of each group, in all its members.

    Biases and norms stay, so that the filters' outputs keep a gradient and can grow again.
    """
    norms = {}
    for filter_group in groups:
        for member in filter_group.members:
            weight = model.get_parameter(f"{member.layer}.weight")
            norms[member.layer] = weight.flatten(1).norm(dim=1).cpu()
    ranking = budget_solver.combine_scores(norms, groups, "sum")
    kept = budget_solver.lowest_in_each(groups, zeroed, ranking)
    for filter_group in groups:
        stays = torch.zeros(filter_group.filters)
        stays[kept[filter_group.name]] = 1.0
        for member in filter_group.members:
            weight = model.get_parameter(f"{member.layer}.weight")
            weight.mul_(stays.to(weight.device).reshape(-1, *[1] * (weight.dim() - 1)))


# --- gate decorator ---


@compute.register
def compute_train_gates(stage: stages.TrainGates, parent: ModelState, context: StageContext) -> StageOutput:
    """Train only the gates phi of norms phi (x + b / gamma), from phi = gamma; everything else is frozen.

    Stores the norms' new factors and biases, and for each layer the mean of |dL/dphi phi| over the batches. `b / gamma`
    is limited to LARGEST_SHIFT, so a norm with gamma near 0 computes something else from then on.

    Raises:
        ConfigError: a layer has no norm with factors behind it, or shares one.
    """
    device = context.ranks.device
    norm_of = norms_behind(parent, groups_of(parent, stage.rule), "method 'gbn'")
    shifts = {norm: shift(parent, norm) for norm in norm_of.values()}
    gates = {norm: parent.tensors[f"{norm}.weight"].to(device) for norm in norm_of.values()}
    model = with_gates_apart(parent, shifts).build(device).eval().requires_grad_(False)
    parameters = attach(model, gates, trainable=True)
    optimiser = optimiser_for([group(parameters, stage.training.learning_rate)], stage.training)
    samples = context.train(stage.task)
    checkpoint = context.checkpoint(stage.key())
    extras = TrainingExtras(before_step=partial(add_scores, optimiser, stage.training.batch_size))
    history = train(model, optimiser, samples, stage.training, stage.task.augmentation, checkpoint, extras)
    batches = len(history) * len(samples) / stage.training.batch_size
    trained: Tensors = {}
    scores: Tensors = {}
    for (layer, norm), gate in zip(norm_of.items(), parameters, strict=True):
        phi = gate.detach().cpu()
        trained[f"{norm}.weight"] = phi
        trained[f"{norm}.bias"] = phi * shifts[norm]
        scores[layer] = optimiser.state[gate]["score"].cpu() / batches
    info = {"epochs": history, "macs": macs_of(parent)}
    return StageOutput(info=info, tensors=add_prefix("tensors", trained) | add_prefix("scores", scores))


def shift(state: ModelState, norm: str) -> Tensor:
    """b / gamma (F,) of a norm, in [-10, 10]; 0 where gamma and b are 0."""
    ratio = state.tensors[f"{norm}.bias"] / state.tensors[f"{norm}.weight"]
    return ratio.nan_to_num(nan=0.0, posinf=LARGEST_SHIFT, neginf=-LARGEST_SHIFT).clamp(-LARGEST_SHIFT, LARGEST_SHIFT)


def with_gates_apart(state: ModelState, shifts: dict[str, Tensor]) -> ModelState:
    """The state with norms x^ + b / gamma, before they are multiplied by gates phi = gamma."""
    without_gates: Tensors = {}
    for norm, ratio in shifts.items():
        without_gates[f"{norm}.weight"] = torch.ones_like(ratio)
        without_gates[f"{norm}.bias"] = ratio
    return replace(state, tensors=state.tensors | without_gates)


@torch.no_grad()
def add_scores(optimiser: torch.optim.Optimizer, batch_size: int, images: int) -> None:
    """Add |dL/dphi x phi| to each gate's score, which is in the optimiser's state and so in its checkpoints.

    A smaller last batch weighs as its images do: its gradient is noisier, so one image would decide as much as a batch.
    """
    for parameters in optimiser.param_groups:
        for gate in parameters["params"]:
            memory = optimiser.state[gate]
            memory["score"] = memory.get("score", 0.0) + (gate.grad * gate).abs() * (images / batch_size)
