"""Computes factors, scores, the surgery, and the importance in the model."""

import json
import logging
from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import replace
from functools import lru_cache
from typing import cast

import torch
from torch import nn

import tailor.stages as stages
from tailor.common.errors import ConfigError
from tailor.common.torch_private import BatchNormBase
from tailor.config.latency_table import read_table
from tailor.data.task_data import batches, generator
from tailor.model.cost import macs_of, original_macs, original_shapes, removed_macs_fraction
from tailor.model.factors import attach
from tailor.model.state import ModelState, weights
from tailor.networks import building
from tailor.parallel.norm import synchronise_norms
from tailor.pruning import budget_solver, importance, surgery
from tailor.pruning.criteria import CRITERIA
from tailor.pruning.criteria.base import Scoring
from tailor.pruning.group_records import sites
from tailor.pruning.knapsack_budget import knapsack, knapsack_by_table
from tailor.pruning.surgery import Group
from tailor.stage_execution.base import StageContext, StageOutput, Tensors, add_prefix, apply, compute, without_prefix
from tailor.stage_execution.tuning import HasState
from tailor.stages import GroupRule
from tailor.training.loop import group, optimiser_for, train

log = logging.getLogger(__name__)

ROUNDING = 1e-9  # of a share of the MACs


_TRACED: dict[Hashable, tuple[Group, ...]] = {}  # structure -> groups; the stages of one pruning ask for the same few
MOST_TRACED = 8


def groups_of(state: ModelState, rule: GroupRule) -> tuple[Group, ...]:
    """The groups of a state that can lose filters, of those that the whole network has.

    With one head left a block has no group of heads, and a convolution with one group left would be in others than
    before. The factors of a state are not traced, and equal structures are traced once.
    """
    shapes = {name: tensor.shape for name, tensor in state.tensors.items()}
    structure = (state.network, state.classes, state.input_shape, tuple(shapes.items()), json.dumps(state.sizes), rule)
    if structure not in _TRACED:
        if len(_TRACED) == MOST_TRACED:
            _TRACED.clear()
        model = replace(state, factors={}).build()
        _TRACED[structure] = surgery.groups(model, state.input_shape, rule)
    groups = _TRACED[structure]
    whole_shapes = original_shapes(state.network, state.classes)
    if all(whole_shapes[name] == shape for name, shape in shapes.items()):
        return groups
    of_whole = {_identity(group) for group in groups_of_whole(state.network, state.classes, state.input_shape, rule)}
    return tuple(group for group in groups if _identity(group) in of_whole)


@lru_cache(maxsize=MOST_TRACED)
def groups_of_whole(network: str, classes: int, input_shape: tuple[int, ...], rule: GroupRule) -> tuple[Group, ...]:
    """The groups of a network that has lost nothing: all that scores and factors can be of, at any width."""
    return surgery.groups(building.skeleton(network, classes), input_shape, rule)


def _identity(group: Group) -> tuple[str, ...]:
    """What a group is, whatever its width: its kind, and the layers of its members."""
    return group.kind, *(member.layer for member in group.members)


# --- TransTailor's factors, and scores (Eq. 3 and 5) ---


@compute.register
def compute_train_factors(stage: stages.TrainFactors, parent: ModelState, context: StageContext) -> StageOutput:
    groups = groups_of(parent, stage.rule)
    if not groups:  # earlier steps left a single head in each block
        return StageOutput(info={"epochs": [], "macs": macs_of(parent)})
    model = parent.build(context.ranks.device).eval().requires_grad_(False)
    numbers = None if stage.seed is None else generator(stage.seed, "factors")
    site_of = sites(groups, stage.placement)
    starts = {}  # site -> (filters,)
    for filter_group in groups:
        for member in filter_group.members:
            start = torch.full((filter_group.filters,), stage.start)
            if numbers is not None:
                start += stage.noise * torch.randn(filter_group.filters, generator=numbers)
            starts[site_of[member.layer]] = start.to(context.ranks.device)
    parameters = attach(model, starts, trainable=True)
    optimiser = optimiser_for([group(parameters, stage.training.learning_rate)], stage.training)
    samples = context.train(stage.task)
    checkpoint = context.checkpoint(stage.key())
    history = train(model, optimiser, samples, stage.training, stage.task.augmentation, checkpoint)
    alpha = {site: parameter.detach().cpu() for site, parameter in zip(starts, parameters, strict=True)}
    return StageOutput(info={"epochs": history, "macs": macs_of(parent)}, tensors=add_prefix("alpha", alpha))


@compute.register
def compute_score_filters(stage: stages.ScoreFilters, parent: ModelState, context: StageContext) -> StageOutput:
    scoring = Scoring(
        state=replace(parent, tensors={name: tensor.clone() for name, tensor in parent.tensors.items()}),
        found=groups_of(parent, stage.rule),
        ranks=context.ranks,
        samples=None if stage.task is None else context.train(stage.task),
        batch_size=stage.batch_size,
        placement=stage.placement,
        seed=None if stage.seed is None else stages.step_seed(stage.seed, stage.step),
    )
    scores = CRITERIA[stage.criterion].function()(scoring)
    _check_scores(stage.criterion, scores, scoring.found)
    # Copies: a user's criterion may give layers that lose filters together one tensor, and a file has none twice.
    return StageOutput(tensors=add_prefix("scores", {layer: values.clone() for layer, values in scores.items()}))


def _check_scores(criterion: str, scores: object, groups: Iterable[Group]) -> None:
    """Raise ConfigError unless a criterion, which may be a user's, gave each layer of the groups its scores."""
    if not isinstance(scores, dict):
        raise ConfigError(
            f"criterion {criterion!r} returned a {type(scores).__name__}; expected a dictionary: layer -> scores of "
            "its filters, a tensor"
        )
    for scored in groups:
        for member in scored.members:
            values = scores.get(member.layer)
            expected = (
                f"criterion {criterion!r}, layer {member.layer}: expected {scored.filters} finite scores, a tensor"
            )
            if not isinstance(values, torch.Tensor):
                given = "none" if values is None else f"a {type(values).__module__}.{type(values).__name__}"
                raise ConfigError(f"{expected}; given {given}")
            if not values.is_floating_point():
                raise ConfigError(f"{expected} of floats; given one of {values.dtype}")
            if values.shape != (scored.filters,):
                raise ConfigError(f"{expected} of shape ({scored.filters},); given one of shape {tuple(values.shape)}")
            if not values.isfinite().all():
                raise ConfigError(f"{expected}; {int((~values.isfinite()).sum())} are NaN or infinite")


@compute.register
def compute_adopt_scores(stage: stages.AdoptScores, _parent: ModelState, _context: StageContext) -> StageOutput:
    return StageOutput(tensors=add_prefix("scores", cast(HasState, stage.donor).model_state().scores))


@apply.register
def apply_scores(_stage: stages.ScoreFilters | stages.AdoptScores, parent: ModelState, tensors: Tensors) -> ModelState:
    return replace(parent, alpha={}, scores=without_prefix("scores", tensors))


# --- surgery ---


@compute.register
def compute_prune(stage: stages.Prune, parent: ModelState, _context: StageContext) -> StageOutput:
    groups = groups_of(parent, stage.rule)
    budget = budget_solver.budget_of(stage, parent, groups)
    divide = knapsack if stage.allocation == "knapsack" else budget_solver.DIVISIONS[stage.allocation]
    kept = divide(budget, ranking_of(stage, parent, groups))
    return surgery_output(parent, kept, groups, stage.asked_removed_macs_fraction)


def ranking_of(
    stage: stages.Prune | stages.PruneByTable,
    state: ModelState,
    groups: tuple[Group, ...],
) -> budget_solver.Ranking:
    """The scores of each group's filters, or random ones if the stage has a seed."""
    if stage.seed is None:
        return budget_solver.combine_scores(state.scores, groups, stage.grouping, stage.normalisation)
    numbers = generator(stages.step_seed(stage.seed, stage.step), "random filters")
    return {group.name: torch.rand(group.filters, generator=numbers) for group in groups}


@compute.register
def compute_prune_by_table(stage: stages.PruneByTable, parent: ModelState, context: StageContext) -> StageOutput:
    if context.latency_table is None:
        raise ConfigError("allocation.table is not given, and its stage is not in the cache")
    table = read_table(context.latency_table, stage.table_sha256)
    groups = groups_of(parent, stage.rule)
    ranking = ranking_of(stage, parent, groups)
    minimum = budget_solver.minimums(parent, groups, stage.minimum_filters_fraction)
    asked_ms = table.asked_ms(stage.asked_latency_ms, stage.asked_latency_fraction)
    kept, solution = knapsack_by_table(table, parent, groups, ranking, minimum, asked_ms)
    for line in table.warnings():
        log.warning("%s", line)
    info = {
        "asked_latency_ms": asked_ms,
        "predicted_latency_ms": solution.cost,
        "held_out_median_error": table.held_out_median_error,
        "circumstance": table.circumstance,
    }
    return surgery_output(parent, kept, groups, None, info)


@apply.register
def apply_any_pruning(
    stage: stages.Prune | stages.PruneByTable | stages.PruneByCumulativeSum,
    parent: ModelState,
    tensors: Tensors,
) -> ModelState:
    return surgery.slim(parent, without_prefix("kept", tensors), groups_of(parent, stage.rule))


def surgery_output(
    parent: ModelState,
    kept: surgery.Kept,
    groups: tuple[Group, ...],
    asked_removed_macs_fraction: float | None,
    info: dict[str, object] | None = None,
) -> StageOutput:
    """What a surgery stores: the filters that stay, and the share of the original MACs that is removed.

    Args:
        kept: groups that are not in it keep all filters.
        asked_removed_macs_fraction: the budget; None if a rule decides what is removed.

    Raises:
        ConfigError: a layer would be empty, or no filter would be removed although the budget is not met.
    """
    empty = [name for name, indices in kept.items() if len(indices) == 0]
    if empty:
        raise ConfigError(
            f"the pruning would leave no filter of {', '.join(empty)}; keep at least one, or set "
            "pruning.minimum_filters_fraction"
        )
    is_whole = all(len(kept[group.name]) == group.filters for group in groups if group.name in kept)
    if is_whole and asked_removed_macs_fraction is not None:
        warn_nothing_removed(parent, groups, asked_removed_macs_fraction)
    removed = removed_macs_fraction(surgery.slim(parent, kept, groups))
    return StageOutput(info={"removed_macs_fraction": removed} | (info or {}), tensors=add_prefix("kept", kept))


def warn_nothing_removed(state: ModelState, groups: tuple[Group, ...], asked_removed_macs_fraction: float) -> None:
    """Warn that a step of a path removes no filter, because an earlier one removed enough for both.

    This is not an error: its operating point meets its budget within `budget_solver.BUDGET_MARGIN`, and its MACs show
    that it has the same width as the one before (C).

    Raises:
        ConfigError: no earlier step removed enough; the text names the layer with the coarsest filters.
    """
    present = removed_macs_fraction(state)
    layer, share = coarsest(state, groups)
    if present < asked_removed_macs_fraction - ROUNDING or present <= 0.0:
        raise ConfigError(
            f"the pruning removes no filter: {present:.3f} of the MACs of {state.network} are removed, and the budget "
            f"is asked_removed_macs_fraction = {asked_removed_macs_fraction:g}; of its layers {layer} has the coarsest "
            f"filters, {share:.4f} of the MACs each; choose another budget or another allocation"
        )
    log.warning(
        "no filter is removed: %.3f of the MACs are removed already, and the budget is %.3f; the coarsest filters are "
        "those of %s, %.4f of the MACs each; with larger steps each step removes some",
        present,
        asked_removed_macs_fraction,
        layer,
        share,
    )


def coarsest(state: ModelState, groups: tuple[Group, ...]) -> tuple[str, float]:
    """The group whose filters have the most MACs each, and each filter's share of the original network's MACs.

    ("none", 0) if there is no group.
    """
    macs_before = macs_of(state)
    original = original_macs(state)
    macs_without = budget_solver.macs_after(state, groups)
    shares = {}
    for filter_group in groups:
        removed = {other.name: 1 if other is filter_group else 0 for other in groups}
        shares[filter_group.name] = (macs_before - macs_without(removed)) / original
    return max(shares.items(), key=lambda item: item[1], default=("none", 0.0))


@compute.register
def compute_measure_norms(stage: stages.MeasureNorms, parent: ModelState, context: StageContext) -> StageOutput:
    model = parent.build(context.ranks.device).eval()  # dropout would draw from a generator without a seed
    seen: Counter[nn.Module] = Counter()  # images, once for each call

    def weigh(norm: BatchNormBase, _inputs: object) -> None:
        """Let the statistics be the mean over all batches, which weigh as their images do."""
        seen[norm] += batch.global_count
        norm.momentum = batch.global_count / seen[norm]

    for norm in model.modules():
        if isinstance(norm, BatchNormBase):
            norm.reset_running_stats()
            norm.register_forward_pre_hook(weigh)
            norm.train()
    model = synchronise_norms(model, context.ranks)
    samples = context.train(stage.task)
    with torch.no_grad():
        for batch in batches(samples, stage.batch_size, stage.seed, 0, "none", context.ranks):
            model(batch.images)
    buffer_names = {name for name, _ in model.named_buffers()}
    buffers = {name: tensor for name, tensor in weights(model).items() if name in buffer_names}
    return StageOutput(tensors=add_prefix("tensors", buffers))


# --- importance-aware fine-tuning (Eq. 6) ---


@apply.register
def apply_attach_importance(stage: stages.AttachImportance, parent: ModelState, _tensors: Tensors) -> ModelState:
    return importance.attach_importance(parent, _groups_of_factors(parent, stage.rule), stage)


@apply.register
def apply_fold_importance(stage: stages.FoldImportance, parent: ModelState, _tensors: Tensors) -> ModelState:
    return importance.fold_importance(parent, _groups_of_factors(parent, stage.rule))


def _groups_of_factors(state: ModelState, rule: GroupRule) -> tuple[Group, ...]:
    """The groups that name where factors are: the whole network's, because a state keeps factors of a single head."""
    return groups_of_whole(state.network, state.classes, state.input_shape, rule)
