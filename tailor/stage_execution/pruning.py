"""Factors, scores, the surgery and the importance that stays in the model."""

import logging
from dataclasses import asdict, replace

import torch

from tailor import stages
from tailor.core.errors import ConfigError
from tailor.core.torch_private import BatchNormBase
from tailor.data.task_data import batches, generator
from tailor.model import cost
from tailor.model.budget import macs_of, original_macs, removed_macs_fraction
from tailor.model.factors import attach
from tailor.model.latency import device_name, measure
from tailor.model.state import ModelState, weights
from tailor.parallel.norm import synchronise_norms
from tailor.pruning import budget_solver, importance, surgery
from tailor.pruning.criteria import CRITERIA
from tailor.pruning.criteria.base import Scoring
from tailor.pruning.groups import sites
from tailor.pruning.latency_budget import least_removal
from tailor.pruning.surgery import Group
from tailor.stage_execution.base import Made, Tensors, Workplace, apply, compute, named, part
from tailor.stage_execution.tuning import score_on
from tailor.stages import GroupRule
from tailor.training.loop import group, optimiser_for, train

log = logging.getLogger(__name__)

ROUNDING = 1e-9  # of a share of the MACs
PRECISIONS = {"float32": torch.float32, "bf16": torch.bfloat16}


def groups_of(state: ModelState, rule: GroupRule) -> tuple[Group, ...]:
    """The prunable groups of a state; its factors are no part of what is traced."""
    return surgery.groups(replace(state, factors={}).build(), state.input_shape, rule)


# --- TransTailor's factors, and scores (Eq. 3 and 5) ---


@compute.register
def compute_train_factors(todo: stages.TrainFactors, parent: ModelState, place: Workplace) -> Made:
    model = parent.build(place.ranks.device).eval().requires_grad_(False)
    numbers = None if todo.seed is None else generator(todo.seed, "factors")
    all_found, values = groups_of(parent, todo.rule), {}
    site_of = sites(all_found, todo.placement)
    for found in all_found:
        for member in found.members:
            value = torch.full((found.filters,), todo.start)
            if numbers is not None:
                value += todo.noise * torch.randn(found.filters, generator=numbers)
            values[site_of[member.layer]] = value.to(place.ranks.device)
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
def apply_train_factors(_done: stages.TrainFactors, parent: ModelState, tensors: Tensors) -> ModelState:
    return replace(parent, alpha=part("alpha", tensors))


@compute.register
def compute_score_filters(todo: stages.ScoreFilters, parent: ModelState, place: Workplace) -> Made:
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
def apply_score_filters(_done: stages.ScoreFilters, parent: ModelState, tensors: Tensors) -> ModelState:
    return replace(parent, alpha={}, scores=part("scores", tensors))


# --- surgery ---


@compute.register
def compute_prune(todo: stages.Prune, parent: ModelState, _place: Workplace) -> Made:
    found = groups_of(parent, todo.rule)
    kept = kept_within(todo, parent, found, todo.removed_macs_fraction)
    return surgery_made(parent, kept, found, todo.removed_macs_fraction)


def kept_within(
    todo: stages.Prune | stages.PruneToLatency,
    state: ModelState,
    found: tuple[Group, ...],
    removed_macs_fraction: float,
) -> surgery.Kept:
    """What a pruning with these settings keeps for a budget."""
    ranking = budget_solver.combined(state.scores, found, todo.grouping)
    if todo.seed is not None:
        numbers = generator(todo.seed, "random filters")
        ranking = {g.name: torch.rand(g.filters, generator=numbers) for g in found}
    minimum = budget_solver.minimums(state, found, todo.minimum_filters_fraction)
    allocate = budget_solver.lowest_of_all if todo.allocation == "global" else budget_solver.uniform
    return allocate(state, found, removed_macs_fraction, minimum, ranking, todo.width_multiple)


@compute.register
def compute_prune_to_latency(todo: stages.PruneToLatency, parent: ModelState, place: Workplace) -> Made:
    found, device = groups_of(parent, todo.rule), _device(todo)

    def latency_ms_at(fraction: float) -> float:
        slimmed = surgery.slim(parent, kept_within(todo, parent, found, fraction), found)
        text = b""
        if place.ranks.rank == 0:  # the others wait, and believe what was measured
            timed = measure(
                slimmed,
                batch=todo.batch_size,
                device=device,
                threads=todo.threads,
                repeats=todo.repeats,
                precision=PRECISIONS[todo.precision],
            )
            text = str(1e3 * timed.latency_lower_quartile_s).encode()
        return float(place.ranks.broadcast_bytes(text))

    tries = least_removal(
        todo.latency_ms, max(0.0, removed_macs_fraction(parent)), todo.removed_macs_fraction, latency_ms_at
    )
    info = {
        "asked_latency_ms": todo.latency_ms,
        "latency_ms": tries[-1].latency_ms,
        "device_name": device_name(device),
        "tries": [asdict(one) for one in tries],
    }
    asked = tries[-1].removed_macs_fraction
    return surgery_made(parent, kept_within(todo, parent, found, asked), found, asked, info)


def _device(todo: stages.PruneToLatency) -> torch.device:
    """The device that the latency is asked for on.

    Raises:
        ConfigError: this machine has none.
    """
    if todo.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"latency_ms = {todo.latency_ms:g} is asked for on cuda, and torch sees no GPU here; run the trial where "
            "there is one, or set allocation.device = 'cpu'"
        )
    return torch.device(todo.device)


@apply.register
def apply_any_pruning(
    done: stages.Prune | stages.PruneBestOfRandom | stages.PruneByCumulativeSum | stages.PruneToLatency,
    parent: ModelState,
    tensors: Tensors,
) -> ModelState:
    return surgery.slim(parent, part("kept", tensors), groups_of(parent, done.rule))


@compute.register
def compute_prune_best_of_random(todo: stages.PruneBestOfRandom, parent: ModelState, place: Workplace) -> Made:
    found, data = groups_of(parent, todo.rule), place.splits(todo.task)
    ranking = budget_solver.combined(parent.scores, found, todo.grouping)
    minimum = budget_solver.minimums(parent, found, todo.minimum_filters_fraction)
    numbers = generator(todo.seed, "random widths")
    best, scores = None, []
    for _ in range(todo.draws):
        kept = budget_solver.random_widths(
            parent, found, todo.removed_macs_fraction, minimum, ranking, numbers, todo.width_multiple
        )
        score = score_on(surgery.slim(parent, kept, found), data.validation, place)
        if best is None or score > max(scores):
            best = kept
        scores.append(score)
    assert best is not None
    return surgery_made(parent, best, found, todo.removed_macs_fraction, {"drawn_scores": scores})


def surgery_made(
    parent: ModelState,
    kept: surgery.Kept,
    found: tuple[Group, ...],
    asked_removed_macs_fraction: float | None,
    info: dict[str, object] | None = None,
) -> Made:
    """What a surgery stores: the filters that stay, and the share of the original MACs that is gone.

    Args:
        parent: before the surgery.
        kept: groups that are not in it keep all filters.
        found: the prunable groups.
        asked_removed_macs_fraction: the budget; None where a rule says what goes.
        info: what else is stored.

    Raises:
        ConfigError: a layer would be empty, or nothing would be removed although the budget is not met.
    """
    if empty := [name for name, stays in kept.items() if not len(stays)]:
        raise ConfigError(
            f"the pruning would leave no filter of {', '.join(empty)}; keep one at least, or set "
            "pruning.minimum_filters_fraction"
        )
    is_whole = all(len(kept[group.name]) == group.filters for group in found if group.name in kept)
    if is_whole and asked_removed_macs_fraction is not None:
        explain_nothing(parent, found, asked_removed_macs_fraction)
    removed = removed_macs_fraction(surgery.slim(parent, kept, found))
    return Made(info={"removed_macs_fraction": removed} | (info or {}), tensors=named("kept", kept))


def explain_nothing(state: ModelState, found: tuple[Group, ...], asked_removed_macs_fraction: float) -> None:
    """Warn that a step of a path removes nothing, because an earlier one removed enough for both.

    That is no error: its operating point meets its budget within `budget_solver.BUDGET_MARGIN`, and says by its MACs
    that it is as wide as the one before (C).

    Raises:
        ConfigError: no earlier step did; the text names the layer with the coarsest filters.
    """
    present = removed_macs_fraction(state)
    layer, share = coarsest(state, found)
    if present < asked_removed_macs_fraction - ROUNDING or present <= 0.0:
        raise ConfigError(
            f"the pruning removes nothing: {present:.3f} of the MACs of {state.network} are gone, and "
            f"removed_macs_fraction = {asked_removed_macs_fraction:g} was asked for; of its layers {layer} has the "
            f"coarsest filters, {share:.4f} of the MACs each; choose another budget or another allocation"
        )
    log.warning(
        "nothing is removed: %.3f of the MACs are gone already, where %.3f is asked for; the coarsest filters are "
        "those of %s, %.4f of the MACs each: with larger steps or a smaller pruning.width_multiple each removes some",
        present,
        asked_removed_macs_fraction,
        layer,
        share,
    )


def coarsest(state: ModelState, found: tuple[Group, ...]) -> tuple[str, float]:
    """The group of which one filter has the most MACs, and their share of the original ones; ("none", 0) of none."""
    shapes = {name: tensor.shape for name, tensor in state.tensors.items()}
    before, whole = macs_of(state), original_macs(state)

    def macs_without_one_of(group: Group) -> int:
        one = {other.name: int(other is group) for other in found}
        after = budget_solver.shapes_after(shapes, found, one)
        return cost.macs(state.network, state.classes, after, state.input_shape)

    shares = {group.name: (before - macs_without_one_of(group)) / whole for group in found}
    return max(shares.items(), key=lambda item: item[1], default=("none", 0.0))


@compute.register
def compute_measure_norms(todo: stages.MeasureNorms, parent: ModelState, place: Workplace) -> Made:
    model = parent.build(place.ranks.device).eval()  # dropout would draw from a generator without a seed
    for norm in model.modules():
        if isinstance(norm, BatchNormBase):
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
def apply_measure_norms(_done: stages.MeasureNorms, parent: ModelState, tensors: Tensors) -> ModelState:
    return replace(parent, tensors=parent.tensors | part("tensors", tensors))


# --- importance-aware fine-tuning (Eq. 6) ---


@apply.register
def apply_attach_importance(done: stages.AttachImportance, parent: ModelState, _tensors: Tensors) -> ModelState:
    return importance.attach_importance(parent, groups_of(parent, done.rule), done)


@apply.register
def apply_fold_importance(done: stages.FoldImportance, parent: ModelState, _tensors: Tensors) -> ModelState:
    return importance.fold_importance(parent, groups_of(parent, done.rule))
