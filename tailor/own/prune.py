"""`prune` and `transtailor`: a user's module pruned by the stages of a trial, in memory."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tailor.catalogue.datasets import DATASETS, DataInfo
from tailor.config.allocations import LeGR, RandomBest
from tailor.config.optimisation import Optimisation
from tailor.config.parsing import parse_trial
from tailor.config.pruning import PruningConfig
from tailor.config.trial import TrialConfig
from tailor.core.errors import ConfigError, explain_errors
from tailor.data.objective import Loss
from tailor.data.task_data import Samples
from tailor.execution.dry_run import planned_stages
from tailor.execution.frozen_check import refuse_frozen
from tailor.execution.in_memory import SamplesContext, run_in_memory
from tailor.execution.network_check import refuse_single_images
from tailor.methods.prune import Pruning
from tailor.methods.recipe import Recipe
from tailor.methods.transtailor import TransTailor
from tailor.model.cost import macs_of, params_count
from tailor.model.factors import carries
from tailor.model.state import ModelState
from tailor.networks.building import copied
from tailor.own.given import (
    OwnNetwork,
    checked_example,
    copy_module,
    registration,
    samples_of,
)
from tailor.own.pruned import PrunedGroup, PrunedNetwork
from tailor.parallel.process_group import ProcessGroup
from tailor.pruning.criteria import CRITERIA
from tailor.pruning.group_records import sites
from tailor.pruning.groups import FOLLOWED, Candidate, candidates, reasons_of
from tailor.pruning.removal_check import ADVICE, evaluate, random_batches, refuse_other_function, train_once
from tailor.stages import FineTune, StageGenerator
from transtailor.names import nearest

DEFAULTS: dict[str, Any] = {"residual": "coupled", "linear": True}  # all filters of any network that can go (C)
WHERE = "arguments"
_OF_ALL: dict[str, list[str]] = {
    "": ["seed"],
    "pruning": sorted(PruningConfig.model_fields.keys() - {"optimiser_state"}),
}
_OWN_OF_TRIALS = {"name", "step_macs_fraction", "stop_early", "tolerance_fraction", "placement"}
_OWN_OF_TRIALS |= {"head_epochs", "regulariser", "distillation_weight", "distillation_temperature", "compile"}
_OF_TRANSTAILOR = _OF_ALL | {
    "method": sorted(TransTailor.model_fields.keys() - _OWN_OF_TRIALS),
    "optimisation": sorted(Optimisation.model_fields.keys() - _OWN_OF_TRIALS),
}
_OF_PRUNE = _OF_ALL | {"method": ["allocation", "grouping"], "optimisation": ["batch_size"]}


def prune(
    model: nn.Module,
    example_input: Tensor,
    *,
    removed_macs_fraction: float,
    criterion: str = "l2",
    loader: Iterable[Any] | None = None,
    loss: Loss | None = None,
    **settings: Any,
) -> PrunedNetwork:
    """A smaller copy of a module, without the filters that a criterion scores lowest.

    >>> import tailor
    >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))
    >>> pruned = tailor.prune(network, torch.zeros(1, 3, 16, 16), removed_macs_fraction=0.5, criterion="l1")
    >>> pruned.model[0].out_channels, pruned.removed_macs_fraction
    (4, 0.5)

    Args:
        model: of any class; it is not changed. What is removed is found by running its code, which has to be free of
            branches on the values of its inputs.
        example_input: (B, ...) floats, a batch as the module reads them. MACs count for one input of this shape.
        removed_macs_fraction: share of the multiply-accumulates to remove, in (0, 1).
        criterion: a name from docs/criteria.md.
        loader: batches of (inputs, targets), for criteria that read data. It is read once, into memory.
        loss: of (outputs, targets), the mean over the batch. By default cross-entropy, of real targets squared error.
        settings: `residual`, `linear` (True here), `stream`, `heads`, `conv_groups`, `exclude`,
            `minimum_filters_fraction`, `width_multiple`, `measure_norms`, `shift_means`, `allocation`, `grouping`,
            `batch_size`, `seed`, as in a trial.

    Returns:
        The new module, on the device and in the mode of `model`, with what was removed.

    Raises:
        ConfigError: an argument is wrong, the module cannot be analysed, or it cannot lose this share.
    """
    method = {"name": "prune", "criterion": criterion, "removed_macs_fraction": removed_macs_fraction}
    raw = _tables(DEFAULTS | settings, _OF_PRUNE, method)
    if loader is None and criterion in CRITERIA and CRITERIA[criterion].reads_data:
        raise ConfigError(f"criterion {criterion!r} reads data; give loader = ..., batches of (inputs, targets)")
    return _prune(model, example_input, raw, loader, loss)


def transtailor(
    model: nn.Module,
    example_input: Tensor,
    *,
    removed_macs_fraction: float,
    loader: Iterable[Any],
    loss: Loss | None = None,
    **settings: Any,
) -> PrunedNetwork:
    """A smaller copy of a module by TransTailor, Algorithm 1: factors learned, filters removed, all weights fine-tuned.

    >>> import tailor
    >>> network = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    >>> loader = [(torch.randn(4, 8), torch.tensor([0, 1, 2, 0]))]
    >>> options = {"steps": 2, "alpha_epochs": 1, "epochs": 1}
    >>> pruned = tailor.transtailor(network, torch.zeros(1, 8), removed_macs_fraction=0.5, loader=loader, **options)
    >>> pruned.model[0].out_features
    8

    Source: Liu et al., AAAI 2021, as in docs/methods/transtailor.md; the module's last layer is the one of the target.

    Args:
        model, example_input, loss: as of `prune`.
        removed_macs_fraction: share of the multiply-accumulates that is removed after the last step.
        loader: batches of (inputs, targets) of the target task, read once, into memory.
        settings: as of `prune`, but for `allocation`; of the method `steps`, `alpha_epochs`, `alpha_learning_rate`,
            `beta` and others; of fine-tuning `epochs`, `learning_rate`, `optimiser` and others of docs/training.md. The
            last layer has the same learning rate, unless `head_learning_rate` is given.

    Raises:
        ConfigError: as of `prune`.
        TrainingError: the loss is no longer finite.
    """
    raw = _tables(DEFAULTS | settings, _OF_TRANSTAILOR, {"name": "transtailor"})
    steps = raw["method"].setdefault("steps", TransTailor.model_fields["steps"].default)
    if not isinstance(removed_macs_fraction, float) or not 0.0 < removed_macs_fraction < 1.0:
        raise ConfigError(f"removed_macs_fraction = {removed_macs_fraction!r}; expected a number between 0 and 1")
    raw["method"]["step_macs_fraction"] = removed_macs_fraction / steps if isinstance(steps, int) and steps > 0 else 0.5
    tuning = raw.setdefault("optimisation", {})
    if loss is not None and "label_smoothing" in tuning:
        raise ConfigError("label_smoothing is a part of the loss by default, and loss is given; leave one of them out")
    rate = tuning.get("learning_rate", Optimisation.model_fields["learning_rate"].default)
    tuning.setdefault("head_learning_rate", rate)
    return _prune(model, example_input, raw, loader, loss)


def _tables(settings: Mapping[str, Any], names: Mapping[str, list[str]], method: dict[str, Any]) -> dict[str, Any]:
    """A trial's tables from settings without tables.

    Raises:
        ConfigError: there is no such setting.
    """
    table_of = {name: table for table, of_table in names.items() for name in of_table}
    tables: dict[str, Any] = {"method": method}
    for name, value in settings.items():
        if name not in table_of:
            raise ConfigError(f"there is no setting {name!r}{nearest(name, table_of)}")
        (tables.setdefault(table_of[name], {}) if table_of[name] else tables)[name] = value
    return tables


def _score_and_prune(config: TrialConfig) -> StageGenerator:
    """Yield the given model, its scores, and the surgery."""
    recipe, method = Recipe(config), config.method
    assert isinstance(method, Pruning)
    if isinstance(method.allocation, RandomBest | LeGR):
        raise ConfigError(
            f"allocation {method.allocation.name!r} chooses by validation images, which a trial has; choose 'global', "
            "'uniform', 'by_kind' or {'name': 'latency', 'latency_ms': ...}"
        )
    scores = yield recipe.scores((yield recipe.source()), method.criterion)
    yield from recipe.prune(scores, method.removed_macs_fraction, method.allocation, method.grouping)


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
        rule = parse_trial({"method": "fine_tune", "pruning": raw.get("pruning", {})}, WHERE).pruning.rule
        found = candidates(copied(own.template), tuple(example.shape[1:]), rule)
    if all(candidate.reason for candidate in found):
        raise ConfigError(f"no filter of {own.kind} can be removed: {reasons_of(found)}")
    samples, batch_size = samples_of(own, example, loader, loss)
    raw = raw | {"optimisation": {"batch_size": batch_size} | raw.get("optimisation", {})}
    with (
        registration(own, head=own.head(outputs), **_facts(found, example)),
        DATASETS.borrow(own.name, _info(example, samples)),
    ):
        config = parse_trial(raw | {"network": own.name, "data": {"name": own.name, "train_images": 1}}, WHERE)
        _refuse_own_sites(own, config, found)
        removable = tuple(candidate.group for candidate in found if candidate.reason is None)
        planned = list(planned_stages(config))
        refuse_frozen(own.template, planned, removable, config.method.name)
        is_simple = isinstance(config.method, Pruning)
        if not is_simple and samples is not None:
            tunings = [stage for stage in planned if isinstance(stage, FineTune)]
            refuse_single_images(tunings, config, 1, len(samples))
            with explain_errors(f"{own.kind} does not run forward and backward in training mode", "mend its code"):
                train_once(copied(own.template), samples.images[: config.optimisation.batch_size].cpu())
        walk = _score_and_prune(config) if is_simple else config.method.walk(config)
        given = own.state(example)
        ranks = ProcessGroup(rank=0, world_size=1, device=own.device)
        context = SamplesContext(ranks=ranks, checkpoint_folder=None, checkpoint_every_s=math.inf, samples=samples)
        state = run_in_memory(walk, given, context).fold_factors()
        pruned = own.build(state)
        _check_pruned(given, state, found, example)
        return PrunedNetwork(
            model=pruned,
            groups=tuple(_pruned_group(candidate, state) for candidate in found),
            macs=macs_of(state),
            macs_before=macs_of(given),
            params=params_count(state.tensors, pruned),
            params_before=params_count(given.tensors, own.template),
            state=state,
        )


def _refuse_own_sites(own: OwnNetwork, config: TrialConfig, found: list[Candidate]) -> None:
    """Raise ConfigError where factors would stay in the module, because they follow a layer of the user's own class."""
    if not isinstance(config.method, TransTailor) or config.method.mode(own.name) in ("grad", "off"):
        return
    for site in sites(tuple(c.group for c in found if c.reason is None), config.method.placement).values():
        if not carries(own.template, site):
            raise ConfigError(
                f"factors follow {site}, a {type(own.template.get_submodule(site.partition(':')[0])).__name__}, into "
                f"which they cannot be multiplied; set exclude = [{site!r}], or beta = 'grad'"
            )


def _check_pruned(given: ModelState, state: ModelState, found: list[Candidate], example: Tensor) -> None:
    """Raise ConfigError unless the pruned network runs, and is what the given one is with zeros (`removal_check`)."""
    lost = tuple(c.group for c in found if c.group.name in (state.kept or {}))
    kept = {group.name: (state.kept or {})[group.name] for group in lost}
    refuse_other_function(given, kept, lost, [*random_batches(example), example])
    with explain_errors("the network does not run without the filters that were chosen", ADVICE):
        evaluate(state.build(), example, 0)


def _facts(found: list[Candidate], example: Tensor) -> dict[str, Any]:
    """What checks of settings read of a network."""
    members = [member for candidate in found if candidate.reason is None for member in candidate.group.members]
    kinds = sorted({member.activation_kind for member in members if member.activation_kind})
    return {
        "input_shape": tuple(example.shape[1:]),
        "has_norm": any(member.norm for member in members),
        "activation": "+".join(kinds) or "none",
    }


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


def _pruned_group(candidate: Candidate, state: ModelState) -> PrunedGroup:
    matrices = {name for name, tensor in state.tensors.items() if name.endswith(".weight") and tensor.dim() > 1}
    group = candidate.group
    kept = (state.kept or {}).get(group.name, torch.arange(group.filters))
    members = [member.layer.partition(":")[0] for member in group.members]
    made = [s.tensor.removesuffix(".weight") for s in group.slices if s.dim == 0 and s.tensor in matrices]
    return PrunedGroup(
        layers=tuple(dict.fromkeys([*members, *made])),
        kind=group.kind,
        filters=group.filters,
        kept=tuple(kept.tolist()),
        reason=candidate.reason,
    )
