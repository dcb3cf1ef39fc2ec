"""What a user gives to a call (a module, an example of its input, batches), checked and made usable by stages."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from tailor.common.errors import ConfigError, TrainingError, explain_errors
from tailor.common.torch_private import tree_leaves
from tailor.data.objective import Loss, last_function
from tailor.data.task_data import Batch, Samples
from tailor.execution.network_check import refuse_unfit_module
from tailor.facts.networks import NETWORKS, NetworkInfo
from tailor.model.state import ModelState, weights
from tailor.networks.building import copied, refuse_no_module

TABLE = re.compile(r"(?<![\w.])(?:pruning|method|optimisation)\.(?=\w)")  # of a setting, which has none in a call
IGNORED = -100  # the label that cross-entropy leaves out
GIVE_LOSS = "give loss = FUNCTION of outputs and targets, its mean over the batch"
PLAIN = (Tensor, int, float, str, type(None))
_calls = count(1)  # what is known of a network is remembered by its name, so that each has its own


@dataclass(frozen=True, kw_only=True, eq=False)
class OwnNetwork:
    """A user's module as a network that stages can build by its name, until the call ends."""

    name: str  # in the registry
    template: nn.Module  # a copy of the user's module, on the CPU
    device: torch.device  # of the user's module

    @property
    def kind(self) -> str:
        """The name of the module's class."""
        return type(self.template).__name__

    def state(self, example: Tensor, outputs: Any) -> ModelState:
        """The module as it was given, for inputs such as these (B, ...), of which it makes these outputs."""
        classes = outputs.shape[1] if isinstance(outputs, Tensor) and outputs.dim() == 2 else 1
        shape = tuple(example.shape[1:])
        return ModelState(network=self.name, classes=classes, input_shape=shape, tensors=weights(self.template))

    def build(self, state: ModelState) -> nn.Module:
        """A new module with this state, on the user's device."""
        return state.build().to(self.device)

    def head(self, outputs: Any) -> str:
        """The last layer with as many outputs as the network, else the last layer; "" if there is none."""
        classes = outputs.shape[1] if isinstance(outputs, Tensor) and outputs.dim() > 1 else None
        matrices = {name: len(tensor) for name, tensor in self.template.named_parameters() if tensor.dim() > 1}
        fitting = [name for name, outputs_count in matrices.items() if outputs_count == classes]
        return ["", *matrices, *fitting][-1].removesuffix(".weight")


@contextmanager
def plain_torch() -> Iterator[None]:
    """Let what the caller has switched on around a call change nothing: no autocast, gradients, no inference mode."""
    with (
        torch.inference_mode(mode=False),
        torch.enable_grad(),
        torch.autocast("cpu", enabled=False),
        torch.autocast("cuda", enabled=False),
    ):
        yield


@contextmanager
def registration(own: OwnNetwork, **facts: Any) -> Iterator[None]:
    """Let stages build the network by its name until the context ends; messages name the module's class.

    What is drawn meanwhile leaves torch's generators as they were.

    Args:
        own: the network.
        facts: fields of NetworkInfo.
    """
    drawn_on = [own.device] if own.device.type == "cuda" else []
    default_dtype = torch.get_default_dtype()
    torch.set_default_dtype(next(own.template.parameters()).dtype)  # else tried inputs would be of the caller's default
    stub = NetworkInfo(description="a user's module", builder=lambda **_: copied(own.template))
    try:
        with NETWORKS.borrow(own.name, replace(stub, **facts)), torch.random.fork_rng(devices=drawn_on):
            yield
    except (ConfigError, TrainingError) as error:
        message = TABLE.sub("", str(error).replace(own.name, own.kind))
        raise type(error)(re.sub(r"= (true|false)\b", lambda found: found[0].title(), message)) from error.__cause__
    finally:
        torch.set_default_dtype(default_dtype)


@contextmanager
def opened_module(model: nn.Module, image_px: int) -> Iterator[ModelState]:
    """Yield a user's module as it is, for square images; it can be built until the context ends.

    Raises:
        ConfigError: as of `copy_module` and `checked_example`.
    """
    own = copy_module(model)
    channels = next((tensor.shape[1] for tensor in own.template.parameters() if tensor.dim() == 4), 3)
    example, outputs = checked_example(own, torch.zeros(1, channels, image_px, image_px))
    with registration(own):
        yield own.state(example, outputs)


def copy_module(model: nn.Module) -> OwnNetwork:
    """A copy of the module on the CPU, which is all that is read of it.

    Raises:
        ConfigError: the module is not one that can be pruned.
    """
    kind = type(model).__name__
    refuse_no_module(model, "model is")
    refuse_unfit_module(model)
    with explain_errors(f"{kind} cannot be copied", "leave out of it what copy.deepcopy refuses"):
        template = copied(model).cpu()
    return OwnNetwork(name=f"{kind}#{next(_calls)}", template=template, device=next(model.parameters()).device)


def checked_example(own: OwnNetwork, example_input: Tensor) -> tuple[Tensor, Any]:
    """The example on the CPU, and what the module makes of it in evaluation mode.

    Raises:
        ConfigError: it is no batch of inputs of the module, or the outputs are no tensors.
    """
    is_tensor = isinstance(example_input, Tensor)
    if not is_tensor or example_input.dim() < 2 or not example_input.is_floating_point():
        raise ConfigError(
            f"example_input is {_kind_of(example_input)}; expected a batch of inputs as {own.kind} reads them: a tensor"
            " of floats (B, ...), such as torch.zeros(1, 3, 224, 224)"
        )
    example = example_input.detach().cpu().clone()  # a clone is no tensor of inference mode
    with explain_errors(
        f"{own.kind} does not run on example_input, {_kind_of(example)}, or not on one input alone",
        "give a batch of inputs as it reads them",
    ):
        outputs = run_copy(own.template, example)
        run_copy(own.template, example[:1])  # for which the cost is counted
    leaves = tree_leaves(outputs)
    if not all(isinstance(leaf, PLAIN) for leaf in leaves) or not any(isinstance(leaf, Tensor) for leaf in leaves):
        raise ConfigError(
            f"{own.kind} returns {_kind_of(outputs)}; expected are tensors, in tuples, lists and dictionaries too"
        )
    return example, outputs


@torch.no_grad()
def run_copy(model: nn.Module, inputs: Tensor) -> Any:
    """The outputs of a copy of the module in evaluation mode."""
    return copied(model).eval()(inputs)


def samples_of(
    own: OwnNetwork, example: Tensor, outputs: Any, loader: Iterable[Any] | None, loss: Loss | None
) -> tuple[Samples | None, int]:
    """All samples of a loader, read once into memory, and the size of its first batch.

    Raises:
        ConfigError: the loader gives something else than batches of (inputs, targets) for this network and loss.
    """
    if loader is None:
        if loss is not None:
            raise ConfigError("loss is given, and no data; give loader = ..., batches of (inputs, targets)")
        return None, 2
    if getattr(loss, "reduction", "") == "sum":
        raise ConfigError("loss is a sum over the batch; give its mean: reduction = 'mean'")
    batches: list[tuple[Tensor, Tensor]] = []
    with explain_errors("loader cannot be read", "give batches of two tensors: loader = [(inputs, targets)]"):
        for inputs, targets in loader:
            if len(inputs) != len(targets):
                raise ValueError(f"{len(inputs)} inputs and {len(targets)} targets in batch {len(batches)}")
            batches.append((inputs.detach().cpu(), targets.detach().cpu()))
        images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    if len(images) == 0 or images.shape[1:] != example.shape[1:] or images.dtype != example.dtype:
        raise ConfigError(
            f"loader gives inputs that are {_kind_of(images)}; expected some such as example_input, {_kind_of(example)}"
        )
    if not bool(images.isfinite().all() and labels.isfinite().all()):
        raise ConfigError("loader gives numbers that are NaN or infinite; leave their samples out")
    if loss is None:
        labels = _checked_labels(labels, outputs)
    samples = Samples(images=images, labels=labels, ids=torch.arange(len(images)), device=own.device, loss=loss)
    size = max(2, len(batches[0][0]))
    try_loss(own.template, samples, size)
    return samples, size


def _checked_labels(targets: Tensor, outputs: Any) -> Tensor:
    """Class numbers for cross-entropy, in int64; raise ConfigError if they are none of the network's."""
    if targets.is_floating_point():
        raise ConfigError(
            f"the targets are {targets.dtype}, and without loss they are class numbers; give targets.long() if they "
            f"are; else {GIVE_LOSS}, such as torch.nn.MSELoss() of values and torch.nn.BCEWithLogitsLoss() of yes or no"
        )
    classes = outputs.shape[1] if isinstance(outputs, Tensor) and outputs.dim() > 1 else 1
    labels = targets.long()
    counted = labels[labels != IGNORED]
    least, most = (int(counted.min()), int(counted.max())) if len(counted) else (IGNORED, IGNORED)
    if isinstance(outputs, Tensor) and (classes == 1 or not 0 <= least <= most < classes):
        raise ConfigError(
            f"the labels are {least} to {most}, and the network has {classes} outputs; expected at least two outputs, "
            f"and labels from 0 to one less, or {IGNORED} for what does not count; else {GIVE_LOSS}"
        )
    return labels


def try_loss(model: nn.Module, samples: Samples, size: int, *, in_training: bool = False) -> None:
    """Raise ConfigError unless the loss of the first samples is a finite number that depends on the weights.

    What the module itself raises is passed on. In training mode it also runs backward.
    """
    images, labels = samples.images[:size], samples.labels[:size]
    batch = Batch(images=images, labels=labels, global_count=len(images), loss=samples.loss)
    outputs = copied(model).train(in_training).requires_grad_(True)(images)
    mode = ", in training mode," if in_training else ""
    with explain_errors(
        f"the loss of the first batch cannot be computed from outputs that{mode} are {_kind_of(outputs)} and targets "
        f"that are {_kind_of(labels)}",
        GIVE_LOSS,
    ):
        value = batch.loss(outputs, labels) if batch.loss else batch.loss_sum(outputs)
        if not isinstance(value, Tensor) or value.numel() != 1 or not bool(value.isfinite()):
            raise ConfigError(f"the loss of the first batch is {value}; expected is one finite number in a tensor")
        if not value.requires_grad:
            raise ConfigError(
                "the loss of the first batch has no gradient; compute it from the outputs, and leave .detach(), "
                ".item(), .numpy() and torch.no_grad() out of it and of the module"
            )
        if in_training:
            value.backward()
    function = last_function(outputs) if batch.loss is None and outputs.dim() == 2 else ""
    if function:
        raise ConfigError(
            f"the network ends in a {function}, and cross-entropy takes a softmax itself; leave the {function} out, or "
            "give loss, such as lambda outputs, labels: torch.nn.functional.nll_loss(outputs.log(), labels)"
        )


def _kind_of(value: Any) -> str:
    """Return what a value is, for a message.

    >>> _kind_of([1]), _kind_of(torch.zeros(2, 1))
    ('a list', 'a tensor (2, 1) of torch.float32')
    """
    return (
        f"a tensor {tuple(value.shape)} of {value.dtype}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
    )
