"""Tries a user's network on random inputs before a trial of it computes anything.

What would fail after hours of training, in torch's words, is refused here with the module and what to change. The
networks of this program are tested with it; of them, only the last batch of a training is checked.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

import tailor.stages as stages
from tailor.common.errors import ConfigError, explain_errors
from tailor.common.plugin_digests import digest_of
from tailor.config.trial import TrialConfig
from tailor.data.objective import last_function
from tailor.execution.dry_run import planned_stages
from tailor.execution.frozen_check import refuse_frozen
from tailor.execution.untrained import trained_images
from tailor.facts.networks import NETWORKS, NetworkInfo
from tailor.model.factors import FACTORS
from tailor.model.state import ModelState, weights
from tailor.networks import building
from tailor.parallel.norm import refuse_unknown_norms
from tailor.pruning.budget_solver import refuse_impossible_budgets
from tailor.pruning.group_records import Group
from tailor.pruning.groups import FOLLOWED, Candidate, candidates, prunable_groups, reasons_of
from tailor.pruning.network_facts import CLASSES, with_facts
from tailor.pruning.removal_check import evaluate, random_batches, refuse_other_function, train_once
from tailor.stages import GroupRule, Stage, Training
from tailor.training.layer_order import layer_numbers
from transtailor.plural import counted, first_few

T = TypeVar("T")
NUMBERS = (torch.float32, torch.float64)


class _RunError(Exception):
    """A network's code raised; the text says in which module ("features.3, a Linear"), and why."""

    module: str = ""  # empty: in the network's own forward


def refuse_unfit(config: TrialConfig, world_size: int) -> None:
    """Raise ConfigError unless the network of a trial can be trained and pruned as the trial does.

    Args:
        config: the trial.
        world_size: ranks that train together.
    """
    planned = list(planned_stages(config))
    network = config.network
    input_shape = config.data.input_shape
    classes = config.data.info.target_classes
    refuse_single_images(planned, config, world_size, trained_images(config))
    sha256 = digest_of(NETWORKS, network)
    if sha256 is None:  # a network of this program
        return
    rules = {getattr(stage, "rule", None) for stage in planned}
    with _naming(network):
        _try_training(network, sha256, input_shape, classes, world_size > 1)
        if config.optimisation.layer_decay != 1.0:
            layer_numbers(network, classes, input_shape)
        groups: list[Group] = []
        for rule in rules:
            if isinstance(rule, GroupRule):
                traced = _try_pruning(network, sha256, input_shape, classes, rule)
                groups += prunable_groups(traced)
                of_rule = [stage for stage in planned if getattr(stage, "rule", None) == rule]
                skeleton = building.tensors_of(building.skeleton(network, classes))
                whole = ModelState(network=network, classes=classes, input_shape=input_shape, tensors=skeleton)
                refuse_impossible_budgets(of_rule, whole, traced)
        refuse_frozen(building.skeleton(network, classes), planned, groups, config.method.name)


def find_facts_of_users(network: str) -> NetworkInfo:
    """The record of a user's network with the facts of its code, which nobody has to type.

    Raises:
        ConfigError: it does not run on inputs of its record, or its code cannot be followed.
    """
    info = NETWORKS[network]
    with _naming(network):
        try:
            with explain_errors("its code cannot be followed", FOLLOWED):
                _refuse_head(building.skeleton(network, CLASSES), info.head, CLASSES)
                return with_facts(network, info)
        except ConfigError:  # its training takes longer, and says more if it fails, too
            _try_training(network, str(digest_of(NETWORKS, network)), info.input_shape, CLASSES, False)
            raise


@contextmanager
def _naming(network: str) -> Iterator[None]:
    """Say of which network an error is."""
    try:
        yield
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
    refuse_unfit_module(model)
    head = NETWORKS[network].head
    _refuse_head(model, head, classes)
    for count, run in ((1, evaluate), (2, evaluate), (2, train_once)):
        images = torch.randn(count, *input_shape, generator=torch.Generator().manual_seed(0))
        mode = "training" if run is train_once else "evaluation"
        attempt = f"on {counted(count, 'image')} {input_shape} in {mode} mode"
        try:
            outputs = _run(model, partial(run, batch=images))
        except _RunError as error:
            raise ConfigError(
                f"it does not run {attempt}{error}; mend its code, which gets float32, or give its NetworkInfo another "
                "input_shape"
            ) from error
        if not isinstance(outputs, Tensor) or outputs.shape != (count, classes):
            made = f"a tensor {tuple(outputs.shape)}" if isinstance(outputs, Tensor) else f"a {type(outputs).__name__}"
            raise ConfigError(f"{attempt} it makes {made}; a trial expects one tensor of outputs ({count}, {classes})")
    if not outputs.requires_grad:
        raise ConfigError(
            "its outputs have no gradient; leave .detach(), .item(), .numpy() and torch.no_grad() out of its code"
        )
    function = last_function(outputs) if classes > 1 else ""
    if function:
        raise ConfigError(
            f"it ends in a {function}, and a trial's loss, cross-entropy, takes a softmax of its outputs; leave the "
            f"{function} out of it"
        )
    trained = {name: tensor.grad for name, tensor in model.named_parameters() if tensor.requires_grad}
    unused = [name for name, gradient in trained.items() if gradient is None]
    below = [name for name in trained if not name.startswith(f"{head}.")]
    if below and set(below) <= set(unused):
        raise ConfigError(
            f"only its head, {head}, gets gradients, and none of {first_few(below, 2)}; leave torch.no_grad() and "
            ".detach() out of its code, or freeze them (parameter.requires_grad_(False)) if the head alone is meant"
        )
    if has_several_ranks:
        refuse_unknown_norms(model)
        if unused:
            raise ConfigError(
                f"no output depends on {', '.join(unused)}, and with several ranks torch waits for the gradients of all"
                " parameters; remove from the network what is not used, freeze it (parameter.requires_grad_(False)), "
                "or train on one rank: resources.ranks = 1"
            )


@torch.no_grad()
def refuse_unfit_module(model: nn.Module) -> None:
    """Raise ConfigError if a user's module has tensors that cannot be trained, pruned and saved."""
    kind = type(model).__name__
    building.refuse_unregistered(model)
    parameters = dict(model.named_parameters())
    tensors = parameters | dict(model.named_buffers())
    if not parameters:
        raise ConfigError(f"{kind} has no parameters, so no filter can be removed")
    if any(nn.parameter.is_lazy(tensor) for tensor in tensors.values()):
        raise ConfigError(f"{kind} has lazy layers, which have no width yet; run it once: model(inputs)")
    devices = {tensor.device for tensor in tensors.values()}
    if len(devices) > 1 or any(device.type == "meta" for device in devices):
        raise ConfigError(
            f"{kind} is on {', '.join(sorted(map(str, devices)))}; give it on one device that holds its numbers: "
            "model.to('cpu'), or make it there if it is on 'meta'"
        )
    state = model.state_dict()
    faults = {
        "state that is no tensor; leave get_extra_state out": [n for n in state if not isinstance(state[n], Tensor)],
        "names that pruning attaches to modules; rename": [n for n in tensors if n.rpartition(".")[2] in FACTORS],
        "weights in which scores are too coarse; give model.float(), and convert the result, such as "
        "pruned.model.half()": [n for n, v in tensors.items() if v.is_floating_point() and v.dtype not in NUMBERS],
        "parameters that are no floats; make them buffers: self.register_buffer(NAME, tensor)": [
            n for n, value in parameters.items() if not value.is_floating_point()
        ],
        "numbers that are not finite, and scores need finite ones; mend": [
            n for n, value in parameters.items() if not bool(value.isfinite().all())
        ],
    }
    for fault, names in faults.items():
        if names:
            raise ConfigError(f"{kind} has {fault}: {first_few(names, 3)}")


def _refuse_head(model: nn.Module, head: str, classes: int) -> None:
    """Raise ConfigError unless the head is a layer with one output for each class that is trained."""
    layers_with_these_outputs = []
    for name, parameter in model.named_parameters():
        is_matrix = name.endswith(".weight") and parameter.dim() > 1
        if is_matrix and len(parameter) == classes:
            layers_with_these_outputs.append(name.removesuffix(".weight"))
    if head not in layers_with_these_outputs:
        raise ConfigError(
            f"head = {head!r} of its NetworkInfo names no layer with {classes} outputs (num_classes), which a new "
            f"target replaces; it has {', '.join(layers_with_these_outputs) or 'none'}"
        )
    if not all(parameter.requires_grad for parameter in model.get_submodule(head).parameters()):
        raise ConfigError(
            f"{head}, its head, is not trained (requires_grad = False), and a new target replaces it by a new one that "
            "has to be trained; train it, too"
        )


@lru_cache(maxsize=64)
def _try_pruning(
    network: str, _sha256: str, input_shape: tuple[int, ...], classes: int, rule: GroupRule
) -> tuple[Candidate, ...]:
    """Return the groups that can lose filters, and those that cannot.

    Raises:
        ConfigError: none can, or the network computes something else without half of the filters.
    """
    model = building.build(network, classes, seed=0)
    state = ModelState(network=network, classes=classes, input_shape=input_shape, tensors=weights(model))
    with explain_errors("its code cannot be followed", FOLLOWED):
        traced = tuple(candidates(model, input_shape, rule))
    groups = prunable_groups(traced)
    if not groups:
        raise ConfigError(
            f"no filter can be removed: {reasons_of(traced)}; change its code, or what is not yet set of "
            "pruning.residual = 'coupled' and pruning.linear = true; methods 'fine_tune' and 'head_only' remove none"
        )
    second_half = {group.name: torch.arange(group.filters // 2, group.filters) for group in groups}
    one_batch = random_batches(torch.zeros(1, *input_shape))[:1]
    refuse_other_function(state, second_half, groups, one_batch)
    return traced


# --- the last batch ---


def refuse_single_images(
    planned: Iterable[Stage], config: TrialConfig, world_size: int, train_images: int | None
) -> None:
    """Raise ConfigError if a norm would get one value per channel in the last batch of a training or of its measuring.

    Args:
        planned: the trial's stages.
        config: the trial.
        world_size: ranks that train together.
        train_images: of the target; None: not known.
    """
    for stage in planned:
        if isinstance(stage, stages.MeasureNorms):
            training = Training(epochs=1, batch_size=stage.batch_size, seed=stage.seed)
        elif isinstance(stage, stages.TrainSource | stages.FineTune | stages.Allocate):
            training = stage.training
        else:
            continue
        reads_source = isinstance(stage, stages.TrainSource | stages.Allocate)
        images = config.data.info.source_images if reads_source else train_images
        if training.norm == "frozen" or not images or _fewest_images(images, training, world_size) > 1:
            continue
        norm = _norm_refusing_one_image(
            config.network,
            digest_of(NETWORKS, config.network),
            config.data.input_shape,
            config.data.info.target_classes,
        )
        if norm is not None:
            key = "source.batch_size" if isinstance(stage, stages.TrainSource) else "optimisation.batch_size"
            raise ConfigError(
                f"{counted(images, 'image')} in batches of {training.batch_size} leave a last batch in which {norm}, "
                f"would get one value per channel, which has no variance; set another {key}"
            )


def _fewest_images(images: int, training: Training, world_size: int) -> int:
    """Return the fewest images over which a norm computes: those of the smallest micro-batch of the last batch."""
    last_batch = images % training.batch_size or min(images, training.batch_size)
    rank_shares = [len(range(rank, last_batch, world_size)) for rank in range(world_size)]
    micro_batches = min(training.accumulation_steps, max(rank_shares))
    smallest_of_ranks = [share // micro_batches for share in rank_shares]
    if training.norm == "local":  # each rank's norms see its own images; a rank without images computes nothing
        return min((count for count in smallest_of_ranks if count), default=1)
    return max(1, sum(smallest_of_ranks))


@lru_cache(maxsize=64)
def _norm_refusing_one_image(
    network: str, _sha256: str | None, input_shape: tuple[int, ...], classes: int
) -> str | None:
    """Return the module of the network that cannot be trained on one image, though on two; None: there is none."""
    model = building.skeleton(network, classes).train()
    if _module_that_fails(model, 2, input_shape) is not None:
        return None  # what fails with two images has another cause
    return _module_that_fails(model, 1, input_shape)


@torch.no_grad()
def _module_that_fails(model: nn.Module, count: int, input_shape: tuple[int, ...]) -> str | None:
    images = torch.zeros(count, *input_shape, device="meta")
    try:
        _run(model, lambda running_model: running_model(images))
    except _RunError as error:
        return error.module
    return None


def _run(model: nn.Module, run: Callable[[nn.Module], T]) -> T:
    """Return run(model).

    Raises:
        _RunError: the model's code raised.
    """
    running: list[str] = []  # names of the modules whose forward has begun and not ended, the innermost last

    def begin(name: str, _module: nn.Module, _inputs: Any) -> None:
        running.append(name)

    def end(_module: nn.Module, _inputs: Any, _outputs: Any) -> None:
        running.pop()

    hooks = [module.register_forward_pre_hook(partial(begin, name)) for name, module in model.named_modules()]
    hooks += [module.register_forward_hook(end) for module in model.modules()]
    try:
        return run(model)
    except Exception as error:  # a user's code may raise anything
        name = running[-1] if running else ""  # the model itself is called ""
        module = f"{name}, a {type(model.get_submodule(name)).__name__}" if name else ""
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raised = _RunError(f"{module and ', in '}{module}: {reason}")
        raised.module = module
        raise raised from error
    finally:
        for hook in hooks:
            hook.remove()
