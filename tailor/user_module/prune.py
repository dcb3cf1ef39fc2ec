"""`prune` and `transtailor`: a user's module pruned by the stages of a trial, in memory."""

import math
from collections.abc import Callable, Iterable, Mapping
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
from tailor.data.task_data import Batch, Samples
from tailor.execution.dry_run import planned_stages
from tailor.execution.frozen_check import refuse_frozen
from tailor.execution.in_memory import SamplesContext, run_in_memory
from tailor.execution.network_check import refuse_single_images
from tailor.facts.datasets import DATASETS, DataInfo
from tailor.facts.widths import WIDE_FILTERS
from tailor.methods.prune import Pruning
from tailor.methods.recipe import Recipe
from tailor.methods.transtailor import TransTailor
from tailor.model.cost import macs_of, params_count
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
    IGNORED,
    OwnNetwork,
    checked_example,
    copy_module,
    plain_torch,
    registration,
    samples_of,
    task_of,
    try_loss,
)
from tailor.user_module.pruned import PrunedGroup, PrunedNetwork
from transtailor.names import nearest

DEFAULTS: dict[str, Any] = {"residual": "coupled", "linear": True}  # all filters of any network that can go (C)
ALIGNED = 8  # multiple of wide layers' filters by default, unless eight filters of one are too many MACs (C)
WHERE = "arguments"
_OF_ALL: dict[str, list[str]] = {
    "": ["seed"],
    "pruning": sorted(PruningConfig.model_fields.keys() - {"optimiser_state", "scores_from"}),  # the loader's
}
_GIVEN_OTHERWISE = {
    "step_removed_macs_fraction": "give asked_removed_macs_fraction, which all steps together remove",
    "class_weights": "give loss = torch.nn.CrossEntropyLoss(weight=...), with a number for each class",
    "device": "move the module, and it is computed there: model.to('cuda')",
    "sampling": "give a loader with a sampler, such as torch.utils.data.WeightedRandomSampler",
} | dict.fromkeys(ImageChanges.model_fields, "change the inputs in loader")
"""Settings of a trial that something else takes the place of here -> what to give."""
_OWN_OF_TRIALS = {"name", "step_removed_latency_fraction", "table", "table_sha256", "stop_early", "tolerance_fraction"}
_OWN_OF_TRIALS |= {"placement", "head_epochs", "regulariser", "distillation_weight", "distillation_temperature"}
_OWN_OF_TRIALS |= {"compile", "layer_decay", *_GIVEN_OTHERWISE}
_OF_TRANSTAILOR = _OF_ALL | {
    "method": sorted(TransTailor.model_fields.keys() - _OWN_OF_TRIALS),
    "optimisation": sorted(Optimisation.model_fields.keys() - _OWN_OF_TRIALS),
}
_OF_PRUNE = _OF_ALL | {"method": ["allocation", "grouping", "normalisation"], "optimisation": ["batch_size"]}


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
        loss: of (outputs, targets), the mean over the batch. By default cross-entropy, of real targets squared error.
        settings: `residual`, `linear` (True here), `stream`, `heads`, `conv_groups`, `exclude`,
            `minimum_filters_fraction`, `width_multiple` (8 here unless eight filters of a layer are more than 0.05 of
            the MACs), `multiple_from_filters`, `measure_norms`, `shift_means`, `allocation`, `grouping`,
            `normalisation`, `batch_size`, `seed`, as in a trial.

    Returns:
        The new module, on the device and in the mode of `model`, with what was removed.

    Raises:
        ConfigError: an argument is wrong, the module cannot be analysed, or it cannot lose this share.
    """
    _refuse_unknown(settings, _OF_PRUNE, prune)
    if criterion is None and loader is None:
        raise ConfigError(
            "neither loader nor criterion is given; give loader = ..., batches of (inputs, targets) of your task, so "
            "that the filters go that it needs least; or name a criterion that reads only weights, such as criterion = "
            "'l2', which may keep less of the task than random filters (docs/criteria.md)"
        )
    if criterion is not None and not isinstance(criterion, str):
        raise ConfigError(f"criterion = {criterion!r}; expected a name from docs/criteria.md; a loss is given as loss")
    criterion = criterion or Pruning.model_fields["criterion"].default
    method: dict[str, Any] = {"name": "prune", "criterion": criterion}
    if (asked_removed_macs_fraction is None) == (asked_latency_fraction is None) or (
        asked_latency_fraction is None
    ) != (table is None):
        raise ConfigError(
            "give one budget: asked_removed_macs_fraction = ..., or asked_latency_fraction = ... and table = FILE"
        )
    if table is not None:
        method["allocation"] = {
            "name": "latency",
            "asked_latency_fraction": asked_latency_fraction,
            "table": str(table),
            "table_sha256": sha256_of_table(Path(table)),
        }
    else:
        method["asked_removed_macs_fraction"] = asked_removed_macs_fraction
    raw = _tables(DEFAULTS | settings, _OF_PRUNE, method)
    if loader is None and criterion in CRITERIA and CRITERIA[criterion].reads_data:
        raise ConfigError(f"criterion {criterion!r} reads data; give loader = ..., batches of (inputs, targets)")
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
    _refuse_unknown(settings, _OF_TRANSTAILOR, transtailor)
    raw = _tables(DEFAULTS | settings, _OF_TRANSTAILOR, {"name": "transtailor"})
    steps = raw["method"].setdefault("steps", TransTailor.model_fields["steps"].default)
    if not isinstance(asked_removed_macs_fraction, Real) or not 0.0 < asked_removed_macs_fraction < 1.0:
        raise ConfigError(
            f"asked_removed_macs_fraction = {asked_removed_macs_fraction!r}; expected a number between 0 and 1: "
            "for 30% type 0.3"
        )
    is_count = isinstance(steps, int) and steps > 0  # any other value is refused with all settings
    raw["method"]["step_removed_macs_fraction"] = float(asked_removed_macs_fraction) / steps if is_count else 0.5
    tuning = raw.setdefault("optimisation", {})
    if loss is not None and "label_smoothing" in tuning:
        raise ConfigError("label_smoothing is a part of the loss by default, and loss is given; leave one of them out")
    rate = tuning.get("learning_rate", Optimisation.model_fields["learning_rate"].default)
    tuning.setdefault("head_learning_rate", rate)
    try:
        return _prune(model, example_input, raw, loader, loss)
    except BudgetError as error:
        if steps == 1:
            raise
        of_step = str(error).partition("; choose another budget")[0]  # the one that can be met is of the step, too
        raise ConfigError(
            f"asked_removed_macs_fraction = {asked_removed_macs_fraction:g} in {steps} steps, each of which has to "
            f"meet its share (steps = 1 has one budget to meet): after one of them, {of_step}"
        ) from error


def _refuse_unknown(
    settings: Mapping[str, Any], names: Mapping[str, list[str]], function: Callable[..., object]
) -> None:
    """Raise ConfigError for the first setting that neither a table nor the function's signature names."""
    known = {name for of_table in names.values() for name in of_table}
    of_others = _OWN_OF_TRIALS.union({"criterion", "allocation"}, PruningConfig.model_fields, *_OF_TRANSTAILOR.values())
    for name in settings:
        if name not in known:
            if name in of_others:
                advice = _GIVEN_OTHERWISE.get(name, "leave it out")
                raise ConfigError(
                    f"{name} is a setting of other methods or of trials, not of {function.__name__}; {advice}"
                )
            arguments = signature(function).parameters.keys() - {"settings", "model", "example_input"}
            raise ConfigError(f"there is no setting {name!r}{nearest(name, known | arguments)}")


def _tables(settings: Mapping[str, Any], names: Mapping[str, list[str]], method: dict[str, Any]) -> dict[str, Any]:
    """A trial's tables from settings without tables.

    Args:
        names: table -> its settings; "" has those that are in no table.
        method: the table `method` so far.
    """
    table_of: dict[str, str] = {}  # by setting
    for table, of_table in names.items():
        table_of |= dict.fromkeys(of_table, table)
    exclude = settings.get("exclude", ())
    if not isinstance(exclude, list | tuple | set) or not all(isinstance(name, str) for name in exclude):
        raise ConfigError(
            "exclude is a list of names of modules, as model.named_modules() gives them: for model.layer1.conv1 type "
            "exclude = ['layer1.conv1']"
        )
    raw: dict[str, Any] = {"method": method}
    for name, value in settings.items():
        table = table_of[name]
        if table == "":
            raw[name] = value
        else:
            raw.setdefault(table, {})[name] = value
    return raw


def _score_and_prune(config: TrialConfig) -> StageGenerator:
    """Yield the given model, its scores, and the surgery."""
    recipe = Recipe(config)
    method = config.method
    assert isinstance(method, Pruning)
    if isinstance(method.allocation, LeGR):
        raise ConfigError(
            f"allocation {method.allocation.name!r} chooses by validation images, which a trial has; choose 'global', "
            "'uniform', 'by_kind', 'knapsack' or {'name': 'latency', 'asked_latency_ms': ...}"
        )
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
    if raw.get("optimisation", {}).get("precision") == "bf16" and not isinstance(outputs, Tensor):
        raise ConfigError(
            f"precision = 'bf16' converts outputs that are one tensor, and {own.kind} returns a "
            f"{type(outputs).__name__}; leave precision out"
        )
    with registration(own), explain_errors(f"{own.kind} cannot be analysed", FOLLOWED):
        of_rule = {name: value for name, value in raw.get("pruning", {}).items() if name in GroupRule.model_fields}
        rule = parse_trial({"method": "fine_tune", "pruning": of_rule}, WHERE).pruning.rule
        all_candidates = candidates(copied(own.template), tuple(example.shape[1:]), rule)
        removable = prunable_groups(all_candidates)
        whole = own.state(example, outputs)
        width_multiple = 1 if _is_coarse(whole, removable) else ALIGNED
    if not removable:
        raise ConfigError(f"no filter of {own.kind} can be removed: {reasons_of(all_candidates)}")
    samples, batch_size = samples_of(own, example, loader, loss)
    raw = raw | {"optimisation": {"batch_size": batch_size} | raw.get("optimisation", {})}
    with (
        registration(own, head=own.head(outputs), width_multiple=width_multiple, **_facts(removable, example)),
        DATASETS.borrow(own.name, _info(example, samples)),
    ):
        config = parse_trial(raw | {"network": own.name, "data": {"name": own.name, "train_images": 1}}, WHERE)
        _refuse_own_sites(own, config, removable)
        planned = list(planned_stages(config))
        refuse_frozen(own.template, planned, removable, config.method.name)
        refuse_impossible_budgets(planned, whole, all_candidates)
        is_simple = isinstance(config.method, Pruning)
        if samples is not None:
            with_norms = MeasureNorms if is_simple else FineTune | MeasureNorms
            refuse_single_images([s for s in planned if isinstance(s, with_norms)], config, 1, len(samples))
        if not is_simple and samples is not None:
            with explain_errors(f"{own.kind} does not run forward and backward in training mode", "mend its code"):
                try_loss(own, _batch(samples, slice(config.optimisation.batch_size)), in_training=True)
        walk = _score_and_prune(config) if is_simple else config.method.walk(config)
        ranks = ProcessGroup(rank=0, world_size=1, device=own.device)
        context = SamplesContext(
            ranks=ranks,
            checkpoint_folder=None,
            checkpoint_every_s=math.inf,
            samples=samples,
            latency_table=config.latency_table,
        )
        pruned = run_in_memory(walk, whole, context).fold_factors()
        pruned_model = own.build(pruned)
        _check_pruned(whole, pruned, all_candidates, example)
        task = "" if samples is None else task_of(samples, outputs)
        if not is_simple and samples is not None:
            task += _after_training(pruned_model, own.device, samples, batch_size)
        return PrunedNetwork(
            model=pruned_model,
            criterion=config.method.criterion if isinstance(config.method, Pruning) else "beta",
            task=task,
            groups=tuple(_pruned_group(candidate, pruned) for candidate in all_candidates),
            macs=macs_of(pruned),
            original_macs=macs_of(whole),
            params=params_count(pruned.tensors, pruned_model),
            original_params=params_count(whole.tensors, own.template),
            state=pruned,
        )


def _refuse_own_sites(own: OwnNetwork, config: TrialConfig, removable: tuple[Group, ...]) -> None:
    """Raise ConfigError where factors would stay in the module, because they follow a layer of the user's own class."""
    if not isinstance(config.method, TransTailor) or config.method.mode(own.name) in ("grad", "off"):
        return
    for site in sites(removable, config.method.placement).values():
        if not carries(own.template, site):
            module = own.template.get_submodule(site.partition(":")[0])
            raise ConfigError(
                f"factors follow {site}, a {type(module).__name__}, into which they cannot be multiplied; set "
                f"pruning.exclude = [{site!r}], or beta = 'grad'"
            )


def _check_pruned(whole: ModelState, pruned: ModelState, candidates: list[Candidate], example: Tensor) -> None:
    """Raise ConfigError unless the pruned network runs, and is what the whole one is with zeros (`removal_check`)."""
    kept_by_layer = pruned.kept or {}
    smaller = [candidate.group for candidate in candidates if candidate.group.name in kept_by_layer]
    kept = {group.name: kept_by_layer[group.name] for group in smaller}
    refuse_other_function(whole, kept, smaller, [*random_batches(example), example])
    with explain_errors("the network does not run without the filters that were chosen", ADVICE):
        evaluate(pruned.build(), example, 0)


@torch.no_grad()
def _after_training(trained: nn.Module, device: torch.device, samples: Samples, batch_size: int) -> str:
    """Say so if the network names one class for all of several; raise TrainingError if a loss is no finite number."""
    model = copied(trained).eval()
    named: set[int] = set()
    is_classifier = samples.loss is None and not samples.labels.is_floating_point()
    for begin in range(0, len(samples), batch_size):
        batch = _batch(samples, slice(begin, begin + batch_size), device)
        outputs = model(batch.images)
        loss = float(batch.loss_sum(outputs)) / batch.global_count
        if not math.isfinite(loss):
            raise TrainingError(f"the loss of a batch is {loss} after training; a smaller learning rate may help")
        if is_classifier:
            named.update(outputs.argmax(1).flatten().tolist())
    if len(named) != 1 or len(samples.labels[samples.labels != IGNORED].unique()) < 2:
        return ""
    return "; it names one class for all of them, so it learned nothing: a smaller learning rate may help"


def _batch(samples: Samples, part: slice, device: torch.device | str = "cpu") -> Batch:
    images, labels = samples.images[part].to(device), samples.labels[part].to(device)
    return Batch(images=images, labels=labels, global_count=len(images), loss=samples.loss)


def _facts(removable: tuple[Group, ...], example: Tensor) -> dict[str, Any]:
    """What checks of settings read of a network: fields of NetworkInfo."""
    members = members_of(removable)
    return {
        "input_shape": tuple(example.shape[1:]),
        "has_norm": any(member.norm for member in members),
        "activation": activation_kinds(members),
    }


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


def _info(example: Tensor, samples: Samples | None) -> DataInfo:
    """What checks of settings read of a data set."""
    is_real = samples is not None and samples.loss is None and samples.labels.is_floating_point()
    return DataInfo(
        description="a user's loader",
        loader="",
        sha256="",
        input_shape=tuple(example.shape[1:]),
        source_classes=1,
        target_classes=1 if is_real else 2,
        source_images=1,
        target_images=2,
        test_images=0,
    )


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
