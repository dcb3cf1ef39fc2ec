"""Tries a user's network on random inputs before a trial of it computes anything.

What would fail after hours of training, in torch's words, is refused here with the module and what to change. The
networks of this program are tested with it; of them, only the last batch of a training is checked.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

import tailor.stages as stages
from tailor.catalogue.networks import NETWORKS
from tailor.config.trial import TrialConfig
from tailor.core.errors import ConfigError, explain_errors
from tailor.core.plugin_digests import digest_of
from tailor.execution.dry_run import planned_stages
from tailor.execution.frozen_check import refuse_frozen
from tailor.model.state import ModelState, weights
from tailor.networks import building
from tailor.parallel.norm import refuse_unknown_norms
from tailor.pruning.group_records import Group
from tailor.pruning.groups import FOLLOWED, candidates, reasons_of
from tailor.pruning.removal_check import evaluate, random_batches, refuse_other_function, train_once
from tailor.stages import GroupRule, Stage, Training

T = TypeVar("T")


class _RunError(Exception):
    """A network's code raised, in a module ("features.3, a Linear"; empty if in its own forward), for a reason."""

    def __init__(self, module: str, reason: str) -> None:
        super().__init__(module, reason)
        self.module, self.reason = module, reason


def refuse_unfit(config: TrialConfig, world_size: int) -> None:
    """Raise ConfigError unless the network of a trial can be trained and pruned as the trial does.

    Args:
        config: the trial.
        world_size: ranks that train together.
    """
    planned = list(planned_stages(config))
    network, shape, classes = config.network, config.data.input_shape, config.data.info.target_classes
    refuse_single_images(planned, config, world_size, config.train_images)
    sha256 = digest_of(NETWORKS, network)
    if sha256 is None:
        return
    rules = {rule for stage in planned if isinstance(rule := getattr(stage, "rule", None), GroupRule)}
    try:
        _try_training(network, sha256, shape, classes, world_size > 1)
        groups = [group for rule in rules for group in _try_pruning(network, sha256, shape, classes, rule)]
        refuse_frozen(building.skeleton(network, classes), planned, groups, config.method.name)
    except ConfigError as error:
        raise ConfigError(f"network {network!r}: {error}") from error.__cause__


# --- once per structure ---


@lru_cache(maxsize=64)
def _try_training(
    network: str, _sha256: str, input_shape: tuple[int, ...], classes: int, has_several_ranks: bool
) -> None:
    """Raise ConfigError unless the network runs on images, forward and backward, and uses all that it trains."""
    with explain_errors(f"it cannot be built with num_classes = {classes}", "mend its builder"):
        model = building.build(network, classes, seed=0)
    if any(map(nn.parameter.is_lazy, model.parameters())):
        raise ConfigError("it has lazy layers, which have no width before their first call; give them their widths")
    _refuse_head(model, NETWORKS[network].head, classes)
    for mode, run, count in (("evaluation", evaluate, 1), ("evaluation", evaluate, 2), ("training", train_once, 2)):
        images = torch.randn(count, *input_shape, generator=torch.Generator().manual_seed(0))
        tried = f"on {count} image{'s' if count > 1 else ''} {input_shape} in {mode} mode"
        try:
            outputs = _run(model, partial(run, batch=images))
        except _RunError as error:
            where = error.module and f", in {error.module}"
            raise ConfigError(f"it does not run {tried}{where}: {error.reason}; mend its code") from error
        if not isinstance(outputs, Tensor) or outputs.shape != (count, classes):
            given = f"a tensor {tuple(outputs.shape)}" if isinstance(outputs, Tensor) else f"a {type(outputs).__name__}"
            raise ConfigError(f"{tried} it makes {given}; a trial expects one tensor of outputs ({count}, {classes})")
    if not has_several_ranks:
        return
    refuse_unknown_norms(model)
    unused = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    if unused:
        raise ConfigError(
            f"no output depends on {', '.join(unused)}, and with several ranks torch waits for the gradients of all "
            "parameters; remove from the network what is not used, freeze it (parameter.requires_grad_(False)), or "
            "train on one rank: resources.ranks = 1"
        )


def _refuse_head(model: nn.Module, head: str, classes: int) -> None:
    """Raise ConfigError unless the head is a layer with one output for each class that is trained."""
    weights = {name.removesuffix(".weight"): p for name, p in model.named_parameters() if name.endswith(".weight")}
    fitting = [name for name, weight in weights.items() if weight.dim() > 1 and len(weight) == classes]
    if head not in fitting:
        raise ConfigError(
            f"head = {head!r} of its NetworkInfo names no layer with {classes} outputs (num_classes), which a new "
            f"target replaces; it has {', '.join(fitting) or 'none'}"
        )
    if not all(parameter.requires_grad for parameter in model.get_submodule(head).parameters()):
        raise ConfigError(
            f"{head}, its head, is not trained (requires_grad = False), and a new target replaces it by a new one that "
            "has to be trained; train it, too"
        )


@lru_cache(maxsize=64)
def _try_pruning(
    network: str, _sha256: str, input_shape: tuple[int, ...], classes: int, rule: GroupRule
) -> tuple[Group, ...]:
    """The groups that can lose filters.

    Raises:
        ConfigError: there are none, or the network computes something else without half of the filters.
    """
    model = building.build(network, classes, seed=0)
    state = ModelState(network=network, classes=classes, input_shape=input_shape, tensors=weights(model))
    with explain_errors("its code cannot be followed", FOLLOWED):
        found = candidates(model, input_shape, rule)
    groups = tuple(candidate.group for candidate in found if candidate.reason is None)
    if not groups:
        raise ConfigError(
            f"no filter can be removed: {reasons_of(found)}; change its code, or these settings: pruning.residual = "
            "'coupled', pruning.linear = true; methods 'fine_tune' and 'head_only' remove none"
        )
    kept = {group.name: torch.arange(group.filters // 2, group.filters) for group in groups}
    refuse_other_function(state, kept, groups, random_batches(torch.zeros(1, *input_shape))[:1])
    return groups


# --- the last batch ---


def refuse_single_images(
    planned: Iterable[Stage], config: TrialConfig, world_size: int, train_images: int | None
) -> None:
    """Raise ConfigError if a norm would get one value per channel in the last batch of a training.

    Args:
        planned: the trial's stages.
        config: the trial.
        world_size: ranks that train together.
        train_images: of the target; None: not known.
    """
    network, shape, classes = config.network, config.data.input_shape, config.data.info.target_classes
    for stage in planned:
        if not isinstance(stage, stages.TrainSource | stages.FineTune | stages.Allocate):
            continue
        is_of_source = isinstance(stage, stages.TrainSource | stages.Allocate)
        images, training = config.data.info.source_images if is_of_source else train_images, stage.training
        if training.norm == "frozen" or not images or _fewest_images(images, training, world_size) > 1:
            continue
        norm = _norm_of_single(network, digest_of(NETWORKS, network), shape, classes)
        if norm is not None:
            key = "source.batch_size" if isinstance(stage, stages.TrainSource) else "optimisation.batch_size"
            raise ConfigError(
                f"{images} images in batches of {training.batch_size} leave a last batch in which {norm}, would get "
                f"one value per channel, which has no variance; {_other_size(images, training, world_size, key)}"
            )


def _other_size(images: int, training: Training, world_size: int, key: str) -> str:
    """In words, the nearest batch size that leaves more than one image."""
    sizes = (size for step in range(1, images) for size in (training.batch_size + step, training.batch_size - step))
    fits = (s for s in sizes if s > 1 and _fewest_images(images, training.replace(batch_size=s), world_size) > 1)
    size = next(fits, None)
    return "take more training images" if size is None else f"set {key} = {size}"


def _fewest_images(images: int, training: Training, world_size: int) -> int:
    """The fewest images over which a norm computes, in the smallest part of the last batch."""
    last = images % training.batch_size or min(images, training.batch_size)
    shares = [len(range(rank, last, world_size)) for rank in range(world_size)]
    parts = min(training.accumulation_steps, -(-last // world_size))
    smallest = [share // parts for share in shares]
    return min(filter(None, smallest), default=1) if training.norm == "local" else max(1, sum(smallest))


@lru_cache(maxsize=64)
def _norm_of_single(network: str, _sha256: str | None, input_shape: tuple[int, ...], classes: int) -> str | None:
    """The module of the network that cannot be trained on one image, though on two; None: there is none."""
    model = building.skeleton(network, classes).train()
    for count in (2, 1):
        images = torch.zeros(count, *input_shape, device="meta")
        try:
            with torch.no_grad():
                _run(model, partial(_call, images=images))
        except _RunError as error:
            return error.module if count == 1 else None  # what fails with two has another cause
    return None


def _call(model: nn.Module, images: Tensor) -> Any:
    return model(images)


def _run(model: nn.Module, run: Callable[[nn.Module], T]) -> T:
    """What `run` makes of the model.

    Raises:
        _RunError: the model's code raised.
    """
    running: list[str] = []

    def begin(name: str, _module: nn.Module, _inputs: Any) -> None:
        running.append(name)

    def end(_module: nn.Module, _inputs: Any, _outputs: Any) -> None:
        running.pop()

    hooks = [module.register_forward_pre_hook(partial(begin, name)) for name, module in model.named_modules()]
    hooks += [module.register_forward_hook(end) for module in model.modules()]
    try:
        return run(model)
    except Exception as error:  # a user's code may raise anything
        module = ", ".join(f"{name}, a {type(model.get_submodule(name)).__name__}" for name in running[-1:] if name)
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise _RunError(module, reason) from error
    finally:
        for hook in hooks:
            hook.remove()
