"""`prune` and `transtailor`: a user's module pruned by the stages of a trial, in memory."""

import math
from collections.abc import Iterable
from inspect import signature
from numbers import Real
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tailor.common.errors import ConfigError, TrainingError, explain_errors
from tailor.config.allocations import LeGR
from tailor.config.latency_table import sha256_of_table
from tailor.config.optimisation import Optimisation
from tailor.config.parsing import parse_trial
from tailor.config.pruning import PruningConfig
from tailor.config.trial import TrialConfig
from tailor.data.objective import Loss
from tailor.data.task_data import Samples
from tailor.execution.dry_run import planned_stages
from tailor.execution.frozen_check import refuse_frozen
from tailor.execution.in_memory import SamplesContext, run_in_memory
from tailor.execution.network_check import refuse_single_images
from tailor.facts.datasets import DATASETS, DataInfo
from tailor.facts.widths import WIDE_FILTERS
from tailor.methods.prune import Pruning
from tailor.methods.recipe import Recipe
from tailor.methods.transtailor import TransTailor
from tailor.model.cost import count_products, macs_of, params_count
from tailor.model.factors import carries
from tailor.model.state import ModelState
from tailor.networks.building import copied
from tailor.parallel.process_group import ProcessGroup
from tailor.pruning.budget_solver import BUDGET_MARGIN, BudgetError, macs_after, refuse_impossible_budgets
from tailor.pruning.criteria import CRITERIA
from tailor.pruning.group_records import Group, members_of, sites
from tailor.pruning.groups import FOLLOWED, Candidate, candidates, prunable_groups, reasons_of
from tailor.pruning.network_facts import activation_kinds
from tailor.pruning.removal_check import ADVICE, evaluate, random_batches, refuse_other_function
from tailor.stages import FineTune, GroupRule, ImageChanges, MeasureNorms, StageGenerator
from tailor.user_module.given import (
    OwnNetwork,
    checked_example,
    copy_module,
    plain_torch,
    registration,
    samples_of,
    try_loss,
)
from tailor.user_module.pruned import PrunedGroup, PrunedNetwork
from transtailor.names import nearest

DEFAULTS: dict[str, Any] = {"residual": "coupled", "linear": True}  # all filters of any network that can go (C)
ALIGNED = 8  # multiple of wide layers' filters by default, unless eight filters of one are too many MACs (C)
WHERE = "arguments"
_OWN_OF_TRIALS = {"name", "step_removed_latency_fraction", "table", "table_sha256", "stop_early", "tolerance_fraction"}
_OWN_OF_TRIALS |= {"placement", "head_epochs", "regulariser", "distillation_weight", "distillation_temperature"}
_OWN_OF_TRIALS |= {"compile", "layer_decay", "step_removed_macs_fraction", "class_weights", "device", "sampling"}
_OWN_OF_TRIALS |= {"optimiser_state", "scores_from", *ImageChanges.model_fields}
_OF_ALL = dict.fromkeys(PruningConfig.model_fields.keys() - _OWN_OF_TRIALS, "pruning") | {"seed": ""}
_OF_PRUNE = _OF_ALL | dict.fromkeys(["allocation", "grouping", "normalisation"], "method")
_OF_PRUNE |= {"batch_size": "optimisation"}
_OF_TRANSTAILOR = _OF_ALL | dict.fromkeys(Optimisation.model_fields.keys() - _OWN_OF_TRIALS, "optimisation")
_OF_TRANSTAILOR |= dict.fromkeys(TransTailor.model_fields.keys() - _OWN_OF_TRIALS, "method")
"""Settings of a call -> the table of a trial that has them."""


def prune(
    model: nn.Module,
    example_input: Tensor,
    *,
    asked_removed_macs_fraction: float | None = None,
    asked_latency_fraction: float | None = None,
    table: str | Path | None = None,
    criterion: str | None = None,
    loader: Iterable[Any] | None = None,
    loss: Loss | None = None,
    **settings: Any,
) -> PrunedNetwork:
    """A smaller copy of a module, without the filters that a criterion scores lowest.

    >>> import tailor
    >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))
    >>> pruned = tailor.prune(network, torch.zeros(1, 3, 16, 16), asked_removed_macs_fraction=0.5, criterion="l1")
    >>> pruned.model[0].out_channels, pruned.removed_macs_fraction
    (4, 0.5)

    Args:
        model: of any class; it is not changed. What is removed is found by running its code, which has to be free of
            branches on the values of its inputs.
        example_input: (B, ...) floats, a batch as the module reads them. MACs count for one input of this shape.
        asked_removed_macs_fraction: share of the multiply-accumulates to remove, in (0, 1). Either this, or the next
            two.
        asked_latency_fraction: of the whole network's milliseconds by `table`, in (0, 1); the widths keep the largest
            sum of scores within it.
        table: file that `transtailor model table` wrote for a network with the same layers and input.
        criterion: a name from docs/criteria.md; by default `taylor`, which reads the loader. No criterion that reads
            only weights is a default: on photographs those that were tried were behind random filters.
        loader: batches of (inputs, targets) of the task. It is read once, into memory, and batched anew.
        loss: of (outputs, targets), the mean over the batch. By default cross-entropy of class numbers.
        settings: `residual`, `linear` (True here), `stream`, `heads`, `conv_groups`, `exclude`,
            `minimum_filters_fraction`, `width_multiple` (8 here unless eight filters of a layer are more than 0.05 of
            the MACs), `measure_norms`, `shift_means`, `allocation`, `grouping`, `normalisation`, `batch_size`,
            `seed`, as in a trial.

    Returns:
        The new module, on the device and in the mode of `model`, with what was removed.

    Raises:
        ConfigError: an argument is wrong, the module cannot be analysed, or it cannot lose this share.
    """
    raw = _tables(settings, _OF_PRUNE, prune)
    criterion = criterion or Pruning.model_fields["criterion"].default
    if loader is None and criterion in CRITERIA and CRITERIA[criterion].reads_data:
        raise ConfigError(
            f"criterion {criterion!r} reads data; give loader = ..., batches of (inputs, targets) of your task, or a "
            "criterion that reads only weights, such as 'l2', which may keep less of it than random filters do"
        )
    is_by_table = table is not None
    if is_by_table == (asked_latency_fraction is None) or is_by_table == (asked_removed_macs_fraction is not None):
        raise ConfigError(
            "give one budget: asked_removed_macs_fraction = ..., or asked_latency_fraction = ... and table = FILE"
        )
    raw["method"] |= {"name": "prune", "criterion": criterion}
    if table is None:
        raw["method"]["asked_removed_macs_fraction"] = asked_removed_macs_fraction
    else:
        raw["method"]["allocation"] = {
            "name": "latency",
            "asked_latency_fraction": asked_latency_fraction,
            "table": str(table),
            "table_sha256": sha256_of_table(Path(table)),
        }
    return _prune(model, example_input, raw, loader, loss)


def transtailor(
    model: nn.Module,
    example_input: Tensor,
    *,
    asked_removed_macs_fraction: float,
    loader: Iterable[Any],
    loss: Loss | None = None,
    **settings: Any,
) -> PrunedNetwork:
    """A smaller copy of a module by TransTailor, Algorithm 1: factors learned, filters removed, all weights fine-tuned.

    >>> import tailor
    >>> network = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    >>> loader = [(torch.randn(4, 8), torch.tensor([0, 1, 2, 0]))]
    >>> options = {"asked_removed_macs_fraction": 0.5, "steps": 2, "alpha_epochs": 1, "epochs": 1}
    >>> pruned = tailor.transtailor(network, torch.zeros(1, 8), loader=loader, **options)
    >>> pruned.model[0].out_features
    8

    Source: Liu et al., AAAI 2021, as in docs/methods/transtailor.md; the module's last layer is the one of the target.

    Args:
        model, example_input, loss: as of `prune`.
        asked_removed_macs_fraction: share of the multiply-accumulates that is removed after the last step.
        loader: batches of (inputs, targets) of the target task, read once, into memory, and batched anew.
        settings: as of `prune`, but for `allocation` and `normalisation`; of the method `steps`, `alpha_epochs`,
            `alpha_learning_rate`, `beta` and others; of fine-tuning `epochs`, `learning_rate`, `optimiser` and others
            of docs/training.md. The last layer has the same learning rate, unless `head_learning_rate` is given.

    Raises:
        ConfigError: as of `prune`.
        TrainingError: the loss is no longer finite.
    """
    raw = _tables(settings, _OF_TRANSTAILOR, transtailor)
    method, tuning = raw["method"], raw["optimisation"]
    steps = method.setdefault("steps", TransTailor.model_fields["steps"].default)
    if not isinstance(asked_removed_macs_fraction, Real) or not 0.0 < asked_removed_macs_fraction < 1.0:
        raise ConfigError(
            f"asked_removed_macs_fraction = {asked_removed_macs_fraction!r}; expected a number between 0 and 1"
        )
    is_count = isinstance(steps, int) and steps > 0  # any other value is refused with all settings
    method |= {
        "name": "transtailor",
        "step_removed_macs_fraction": float(asked_removed_macs_fraction) / steps if is_count else 0.5,
    }
    if loss is not None and "label_smoothing" in tuning:
        raise ConfigError("label_smoothing is a part of the loss by default, and loss is given; leave one of them out")
    tuning.setdefault(
        "head_learning_rate", tuning.get("learning_rate", Optimisation.model_fields["learning_rate"].default)
    )
    try:
        return _prune(model, example_input, raw, loader, loss)
    except BudgetError as error:
        asked = f"asked_removed_macs_fraction = {asked_removed_macs_fraction:g} in {steps} steps"
        raise ConfigError(f"{asked}, each of which has to meet its share: after one of them, {error}") from error


def _tables(settings: dict[str, Any], table_of: dict[str, str], function: Any) -> dict[str, Any]:
    """A trial's tables from settings without tables; raise ConfigError for one that is none of the function's."""
    raw: dict[str, Any] = {"method": {}, "pruning": {}, "optimisation": {}}
    for name, value in (DEFAULTS | settings).items():
        if name not in table_of:
            arguments = signature(function).parameters.keys() - {"settings", "model", "example_input"}
            near = nearest(name, table_of.keys() | arguments)
            raise ConfigError(f"{function.__name__} has no setting {name!r}{near}")
        (raw[table_of[name]] if table_of[name] else raw)[name] = value
    return raw


def _score_and_prune(recipe: Recipe) -> StageGenerator:
    """Yield the given model, its scores, and the surgery."""
    method = recipe.config.method
    assert isinstance(method, Pruning)
    if isinstance(method.allocation, LeGR):
        raise ConfigError("allocation 'legr' chooses by validation images, which a trial has; choose another one")
    model = yield recipe.source()
    scores = yield recipe.scores(model, method.criterion)
    yield from recipe.prune(
        scores,
        method.asked_removed_macs_fraction,
        method.allocation,
        method.grouping,
        normalisation=method.score_normalisation(),
    )


@plain_torch()
def _prune(
    model: nn.Module,
    example_input: Tensor,
    raw: dict[str, Any],
    loader: Iterable[Any] | None,
    loss: Loss | None,
) -> PrunedNetwork:
    """The module pruned by the method that `raw` names."""
    own = copy_module(model)
    example, outputs = checked_example(own, example_input)
    with registration(own), explain_errors(f"{own.kind} cannot be analysed", FOLLOWED):
        of_rule = {name: value for name, value in raw["pruning"].items() if name in GroupRule.model_fields}
        rule = parse_trial({"method": "fine_tune", "pruning": of_rule}, WHERE).pruning.rule
        all_candidates = candidates(copied(own.template), tuple(example.shape[1:]), rule)
        removable = prunable_groups(all_candidates)
        whole = own.state(example, outputs)
        width_multiple = 1 if _is_coarse(whole, removable) else ALIGNED
    if not removable:
        raise ConfigError(f"no filter of {own.kind} can be removed: {reasons_of(all_candidates)}")
    samples, batch_size = samples_of(own, example, outputs, loader, loss)
    raw = raw | {"network": own.name, "data": {"name": own.name, "train_images": 1}}
    raw["optimisation"] = {"batch_size": batch_size} | raw["optimisation"]
    members = members_of(removable)
    facts = {  # what checks of settings read
        "head": own.head(outputs),
        "width_multiple": width_multiple,
        "input_shape": whole.input_shape,
        "has_norm": any(member.norm for member in members),
        "activation": activation_kinds(members),
    }
    info = DataInfo(
        description="a user's loader",
        loader="",
        sha256="",
        input_shape=whole.input_shape,
        source_classes=1,
        target_classes=2,
        source_images=1,
        target_images=2,
        test_images=0,
    )
    with registration(own, **facts), DATASETS.borrow(own.name, info):
        config = parse_trial(raw, WHERE)
        _refuse_unfit(own, config, whole, all_candidates, samples)
        is_tuned = isinstance(config.method, TransTailor)
        size = config.optimisation.batch_size
        with explain_errors(f"{own.kind} cannot be pruned with these data", "mend its code, or loader and loss"):
            if is_tuned and samples is not None:
                try_loss(own.template, samples, size, in_training=True)
            context = SamplesContext(
                ranks=ProcessGroup(rank=0, world_size=1, device=own.device),
                checkpoint_folder=None,
                checkpoint_every_s=math.inf,
                samples=samples,
                latency_table=config.latency_table,
            )
            walk = config.method.walk(config) if is_tuned else _score_and_prune(Recipe(config))
            pruned = run_in_memory(walk, whole, context).fold_factors()
        pruned_model = own.build(pruned)
        every_group = [candidate.group for candidate in all_candidates]
        refuse_other_function(whole, pruned.kept or {}, every_group, [*random_batches(example), example])
        with explain_errors("the network does not run without the filters that were chosen", ADVICE):
            evaluate(pruned.build(), example, 0)
        if is_tuned and samples is not None:
            try:
                try_loss(pruned.build(), samples, size)
            except ConfigError as error:
                raise TrainingError(f"after training, {error}; a smaller learning rate may help") from error
        return PrunedNetwork(
            model=pruned_model,
            criterion=config.method.criterion if isinstance(config.method, Pruning) else "beta",
            groups=tuple(_pruned_group(candidate, pruned) for candidate in all_candidates),
            macs=macs_of(pruned),
            original_macs=macs_of(whole),
            params=params_count(pruned.tensors, pruned_model),
            original_params=params_count(whole.tensors, own.template),
            state=pruned,
            whole=own,
            head=own.head(outputs),
            example=example,
            uncounted=tuple(sorted(count_products(own.name, whole.classes, whole.input_shape).uncounted)),
        )


def _refuse_unfit(
    own: OwnNetwork, config: TrialConfig, whole: ModelState, all_candidates: list[Candidate], samples: Samples | None
) -> None:
    """Raise ConfigError if settings leave factors, write frozen weights, or miss what norms and budgets need."""
    removable = prunable_groups(all_candidates)
    method = config.method
    if isinstance(method, TransTailor) and method.mode(own.name) not in ("grad", "off"):
        own_sites = [site for site in sites(removable, method.placement).values() if not carries(own.template, site)]
        if own_sites:
            raise ConfigError(
                f"factors follow {', '.join(own_sites)}, layers of your own, into which they cannot be multiplied; set "
                f"exclude = {own_sites}, or beta = 'grad'"
            )
    planned = list(planned_stages(config))
    refuse_frozen(own.template, planned, removable, method.name)
    refuse_impossible_budgets(planned, whole, all_candidates)
    if samples is not None:  # the first training of a trial, of the head, is not run here
        run = FineTune | MeasureNorms if isinstance(method, TransTailor) else MeasureNorms
        refuse_single_images([stage for stage in planned if isinstance(stage, run)], config, 1, len(samples))


def _is_coarse(whole: ModelState, removable: tuple[Group, ...]) -> bool:
    """Whether so many filters of some wide layer are more than what a pruning may remove beyond its budget.

    With multiples, such a layer would make budgets impossible that single filters meet.
    """
    macs_without = macs_after(whole, removable)
    none = {group.name: 0 for group in removable}
    most_macs = BUDGET_MARGIN * macs_without(none)
    for group in removable:
        is_wide = group.kind in ("filters", "stream") and group.filters >= WIDE_FILTERS
        if is_wide and macs_without(none) - macs_without(none | {group.name: ALIGNED}) > most_macs:
            return True
    return False


def _pruned_group(candidate: Candidate, pruned: ModelState) -> PrunedGroup:
    group = candidate.group
    # Filters that go only all together are one unit.
    filters = group.own_slice.indices.numel() if group.kind == "filters" and group.slices else group.filters
    kept = (pruned.kept or {}).get(group.name, torch.arange(filters))
    layers = [member.layer.partition(":")[0] for member in group.members]
    for part in group.slices:
        is_matrix = part.tensor.endswith(".weight") and pruned.tensors[part.tensor].dim() > 1
        layer = part.tensor.removesuffix(".weight")
        if part.dim == 0 and is_matrix and layer not in layers:
            layers.append(layer)
    return PrunedGroup(
        layers=tuple(layers),
        kind=group.kind,
        filters=filters,
        kept=tuple(kept.tolist()),
        reason=candidate.reason,
    )
