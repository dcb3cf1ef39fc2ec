"""Factors, scores, the surgery and the importance that stays in the model."""

from dataclasses import replace

import torch

from tailor import allocation, importance, stages, surgery
from tailor.budget import macs_of, removed_macs_fraction
from tailor.criteria import CRITERIA
from tailor.criteria.base import Scoring
from tailor.data import batches, generator
from tailor.factors import attach
from tailor.norm import synchronise_norms
from tailor.stages import GroupRule
from tailor.state import ModelState, weights
from tailor.steps.base import Made, Tensors, Workplace, apply, compute, named, part
from tailor.steps.tuning import score_on
from tailor.surgery import Group
from tailor.train import group, optimiser_for, train


def groups_of(state: ModelState, rule: GroupRule) -> tuple[Group, ...]:
    """The prunable groups of a state; its factors are no part of what is traced."""
    return surgery.groups(replace(state, factors={}).build(), state.input_shape, rule)


# --- TransTailor's factors, and scores (Eq. 3 and 5) ---


@compute.register
def _(todo: stages.TrainFactors, parent: ModelState, place: Workplace) -> Made:
    model = parent.build(place.ranks.device).eval().requires_grad_(False)
    numbers = None if todo.seed is None else generator(todo.seed, "factors")
    values = {}
    for found in groups_of(parent, todo.rule):
        for member in found.members:
            value = torch.full((found.filters,), todo.start)
            if numbers is not None:
                value += todo.noise * torch.randn(found.filters, generator=numbers)
            values[member.site(todo.placement)] = value.to(place.ranks.device)
    parameters = attach(model, values, trainable=True)
    samples = place.splits(todo.task).train
    history = train(
        model,
        optimiser_for([group(parameters, todo.training.learning_rate)], todo.training),
        samples,
        todo.training,
        todo.task.augmentation,
        place.ranks,
        place.checkpoint(todo.key()),
    )
    alpha = {site: p.detach().cpu() for site, p in zip(values, parameters, strict=True)}
    return Made(info={"epochs": history, "macs": macs_of(parent)}, tensors=named("alpha", alpha))


@apply.register
def _(_done: stages.TrainFactors, parent: ModelState, tensors: Tensors) -> ModelState:
    return replace(parent, alpha=part("alpha", tensors))


@compute.register
def _(todo: stages.ScoreFilters, parent: ModelState, place: Workplace) -> Made:
    scoring = Scoring(
        state=parent,
        found=groups_of(parent, todo.rule),
        ranks=place.ranks,
        samples=None if todo.task is None else place.splits(todo.task).train,
        batch_size=todo.batch_size,
        placement=todo.placement,
        seed=todo.seed,
    )
    return Made(tensors=named("scores", CRITERIA[todo.criterion].function()(scoring)))


@apply.register
def _(_done: stages.ScoreFilters, parent: ModelState, tensors: Tensors) -> ModelState:
    return replace(parent, alpha={}, scores=part("scores", tensors))


# --- surgery ---


@compute.register
def _(todo: stages.Prune, parent: ModelState, _place: Workplace) -> Made:
    found = groups_of(parent, todo.rule)
    ranking = allocation.combined(parent.scores, found, todo.grouping)
    if todo.seed is not None:
        numbers = generator(todo.seed, "random filters")
        ranking = {g.name: torch.rand(g.filters, generator=numbers) for g in found}
    minimum = allocation.minimums(parent, found, todo.minimum_filters_fraction)
    allocate = allocation.lowest_of_all if todo.allocation == "global" else allocation.uniform
    kept = allocate(parent, found, todo.removed_macs_fraction, minimum, ranking)
    return surgery_made(parent, kept, found)


@apply.register
def _(
    done: stages.Prune | stages.PruneBestOfRandom | stages.PruneByCumulativeSum, parent: ModelState, tensors: Tensors
) -> ModelState:
    return surgery.slim(parent, part("kept", tensors), groups_of(parent, done.rule))


@compute.register
def _(todo: stages.PruneBestOfRandom, parent: ModelState, place: Workplace) -> Made:
    found, data = groups_of(parent, todo.rule), place.splits(todo.task)
    ranking = allocation.combined(parent.scores, found, todo.grouping)
    minimum = allocation.minimums(parent, found, todo.minimum_filters_fraction)
    numbers = generator(todo.seed, "random widths")
    best, scores = None, []
    for _ in range(todo.draws):
        kept = allocation.random_widths(parent, found, todo.removed_macs_fraction, minimum, ranking, numbers)
        score = score_on(surgery.slim(parent, kept, found), data.validation, place)
        if best is None or score > max(scores):
            best = kept
        scores.append(score)
    assert best is not None
    return surgery_made(parent, best, found, {"drawn_scores": scores})


def surgery_made(
    parent: ModelState, kept: surgery.Kept, found: tuple[Group, ...], info: dict[str, object] | None = None
) -> Made:
    """What a surgery stores: the filters that stay, and the share of the original MACs that is gone."""
    removed = removed_macs_fraction(surgery.slim(parent, kept, found))
    return Made(info={"removed_macs_fraction": removed} | (info or {}), tensors=named("kept", kept))


@compute.register
def _(todo: stages.MeasureNorms, parent: ModelState, place: Workplace) -> Made:
    model = parent.build(place.ranks.device).eval()  # dropout would draw from a generator without a seed
    for norm in model.modules():
        if isinstance(norm, torch.nn.modules.batchnorm._BatchNorm):
            norm.reset_running_stats()
            norm.momentum = None  # the plain mean over all batches
            norm.train()
    model = synchronise_norms(model, place.ranks)
    with torch.no_grad():
        for batch in batches(place.splits(todo.task).train, todo.batch_size, todo.seed, 0, "none", place.ranks):
            model(batch.images)
    measured = weights(model)
    buffers = {name for name, _ in model.named_buffers()}
    return Made(tensors=named("tensors", {name: t for name, t in measured.items() if name in buffers}))


@apply.register
def _(_done: stages.MeasureNorms, parent: ModelState, tensors: Tensors) -> ModelState:
    return replace(parent, tensors=parent.tensors | part("tensors", tensors))


# --- importance-aware fine-tuning (Eq. 6) ---


@apply.register
def _(done: stages.AttachImportance, parent: ModelState, _tensors: Tensors) -> ModelState:
    return importance.attach_importance(parent, groups_of(parent, done.rule), done)


@apply.register
def _(done: stages.FoldImportance, parent: ModelState, _tensors: Tensors) -> ModelState:
    return importance.fold_importance(parent, groups_of(parent, done.rule))
