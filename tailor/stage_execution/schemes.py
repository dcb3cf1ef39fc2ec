"""SFP's fine-tuning that zeroes filters, and GBN's tick."""

from dataclasses import replace
from typing import Any

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
from tailor.training.loop import group, optimiser_for, train

LARGEST_SHIFT = 10.0  # of a gated norm, in standard deviations of its output, as in the authors' code


# --- soft filter pruning ---


@compute.register
def compute_fine_tune_softly(stage: stages.FineTuneSoftly, parent: ModelState, context: StageContext) -> StageOutput:
    found = groups_of(parent, stage.rule)
    minimum = budget_solver.minimums(parent, found, stage.minimum_filters_fraction)
    budget = budget_solver.Budget(parent, found, stage.removed_macs_fraction, minimum, stage.width_multiple)
    kept = budget_solver.uniform(budget, {})
    zeroed = {g.name: g.filters - len(kept[g.name]) for g in found}  # the same counts in every epoch
    return compute_fine_tune(stage, parent, context, lambda model: zero_smallest(model, found, zeroed))


@torch.no_grad()
def zero_smallest(model: nn.Module, found: tuple[Group, ...], zeroed: dict[str, int]) -> None:
    """Set the weights of the filters of smallest L2 norm to zero, `zeroed[name]` of each group, in all its members.

    Biases and norms stay, so that the filters' outputs keep a gradient and can grow again.
    """
    weights = {m.layer: model.get_parameter(f"{m.layer}.weight") for g in found for m in g.members}
    norms = {layer: weight.flatten(1).norm(dim=1).cpu() for layer, weight in weights.items()}
    kept = budget_solver.lowest_in_each(found, zeroed, budget_solver.combine_scores(norms, found, "sum"))
    for g in found:
        stays = torch.zeros(g.filters)
        stays[kept[g.name]] = 1.0
        for member in g.members:
            weight = weights[member.layer]
            weight.mul_(stays.to(weight.device).reshape(-1, *[1] * (weight.dim() - 1)))


# --- gate decorator ---


@compute.register
def compute_train_gates(stage: stages.TrainGates, parent: ModelState, context: StageContext) -> StageOutput:
    norm_of = norms_behind(parent, groups_of(parent, stage.rule), "method 'gbn'")
    shifts = {norm: shift(parent, norm) for norm in norm_of.values()}
    gates = {norm: parent.tensors[f"{norm}.weight"] for norm in norm_of.values()}
    model = with_gates_apart(parent, shifts).build(context.ranks.device).eval().requires_grad_(False)
    parameters = attach(model, {norm: gate.to(context.ranks.device) for norm, gate in gates.items()}, trainable=True)
    optimiser = optimiser_for([group(parameters, stage.training.learning_rate)], stage.training)
    optimiser.register_step_pre_hook(add_scores)
    samples, checkpoint = context.splits(stage.task).train, context.checkpoint(stage.key())
    history = train(model, optimiser, samples, stage.training, stage.task.augmentation, checkpoint)
    trained: Tensors = {}
    for norm, gate in zip(gates, parameters, strict=True):
        phi = gate.detach().cpu()
        trained |= {f"{norm}.weight": phi, f"{norm}.bias": phi * shifts[norm]}
    steps = len(history) * -(-len(samples) // stage.training.batch_size)
    scores = {
        layer: optimiser.state[gate]["score"].cpu() / steps for layer, gate in zip(norm_of, parameters, strict=True)
    }
    info = {"epochs": history, "macs": macs_of(parent)}
    return StageOutput(info=info, tensors=add_prefix("tensors", trained) | add_prefix("scores", scores))


def shift(state: ModelState, norm: str) -> Tensor:
    """b / gamma (F,) of a norm, in [-10, 10]; 0 where gamma and b are 0."""
    ratio = state.tensors[f"{norm}.bias"] / state.tensors[f"{norm}.weight"]
    return ratio.nan_to_num(nan=0.0, posinf=LARGEST_SHIFT, neginf=-LARGEST_SHIFT).clamp(-LARGEST_SHIFT, LARGEST_SHIFT)


def with_gates_apart(state: ModelState, shifts: dict[str, Tensor]) -> ModelState:
    """The state with norms x^ + b / gamma, before they are multiplied by gates phi = gamma."""
    plain: Tensors = {}
    for norm, ratio in shifts.items():
        plain |= {f"{norm}.weight": torch.ones_like(ratio), f"{norm}.bias": ratio}
    return replace(state, tensors=state.tensors | plain)


@torch.no_grad()
def add_scores(optimiser: torch.optim.Optimizer, _args: Any, _kwargs: Any) -> None:
    """Add |dL/dphi x phi| to each gate's score, which is in the optimiser's state and so in its checkpoints.

    Called before each step, when the gradients are those of the global batch on every rank.
    """
    for parameters in optimiser.param_groups:
        for gate in parameters["params"]:
            memory = optimiser.state[gate]
            memory["score"] = memory.get("score", 0.0) + (gate.grad * gate).abs()
