"""What a user gives to a call (a module, an example of its input, batches), checked and made usable by stages."""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, IterableDataset

from tailor.common.errors import ConfigError, TrainingError, explain_errors
from tailor.common.torch_private import tree_leaves
from tailor.data.objective import Loss, are_shares, last_function
from tailor.data.task_data import Batch, Samples
from tailor.execution.network_check import refuse_unfit_module
from tailor.facts.networks import NETWORKS, NetworkInfo
from tailor.model.state import ModelState, weights
from tailor.networks.building import copied, refuse_no_module

TABLE = re.compile(r"(?<![\w.])(?:pruning|method|optimisation)\.(?=\w)")  # of a setting, which has none in a call
IGNORED = -100  # the label that cross-entropy leaves out
IF_YES_OR_NO = (
    "if they answer yes or no, give loss = lambda outputs, targets: "
    "torch.nn.functional.binary_cross_entropy_with_logits(outputs.flatten(), targets.flatten().float())"
)
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
        shape = tuple(example.shape[1:])
        return ModelState(
            network=self.name, classes=classes_of(outputs), input_shape=shape, tensors=weights(self.template)
        )

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
        with (
            NETWORKS.borrow(own.name, replace(stub, **facts)),
            torch.random.fork_rng(devices=drawn_on),
        ):
            yield
    except (ConfigError, TrainingError) as error:
        message = str(error).replace(own.name, own.kind)
        in_python = re.sub(r"= (true|false)\b", lambda found: found[0].title(), TABLE.sub("", message))
        raise type(error)(in_python) from error.__cause__
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
    kind = own.kind
    what = _kind_of(example_input)
    if not isinstance(example_input, Tensor) or example_input.dim() < 2 or not example_input.is_floating_point():
        raise ConfigError(
            f"example_input is {what}; expected a batch of inputs as {kind} reads them: a tensor of floats (B, ...), "
            "such as torch.zeros(1, 3, 224, 224), or of an array torch.as_tensor(array).float()"
        )
    example = example_input.detach().cpu().clone()  # a clone is no tensor of inference mode
    with explain_errors(f"{kind} does not run on example_input, {what}", "give a batch of inputs as it reads them"):
        outputs = run_copy(own.template, example)
    with explain_errors(f"{kind} does not run on one input alone, for which the cost is counted", "mend its code"):
        run_copy(own.template, example[:1])
    leaves = tree_leaves(outputs)
    others = [type(leaf).__name__ for leaf in leaves if not isinstance(leaf, PLAIN)]
    if others or not any(isinstance(leaf, Tensor) for leaf in leaves):
        what = f"a {(others or [type(outputs).__name__])[0]}"
        raise ConfigError(f"{kind} returns {what}; expected are tensors, in tuples, lists and dictionaries too")
    return example, outputs


@torch.no_grad()
def run_copy(model: nn.Module, inputs: Tensor) -> Any:
    """The outputs of a copy of the module in evaluation mode."""
    return copied(model).eval()(inputs)


def samples_of(
    own: OwnNetwork, example: Tensor, loader: Iterable[Any] | None, loss: Loss | None
) -> tuple[Samples | None, int]:
    """All samples of a loader, read once into memory, and the size of its first batch.

    Raises:
        ConfigError: the loader gives something else than batches of (inputs, targets) for this network and loss.
    """
    _refuse_no_loss(loss)
    if loader is None:
        if loss is not None:
            raise ConfigError("loss is given, and no data; give loader = ..., batches of (inputs, targets)")
        return None, 2
    if isinstance(loader, Dataset) and not isinstance(loader, IterableDataset):
        raise ConfigError(
            f"loader is a {type(loader).__name__}, which gives single samples; give batches: loader = "
            "torch.utils.data.DataLoader(dataset, batch_size=32)"
        )
    with explain_errors("loader cannot be read", "give batches, as in loader = [(inputs, targets)]"):
        read = [_check_batch(batch, number, example) for number, batch in enumerate(loader)]
    batches = [batch for batch in read if len(batch[0])]
    if not batches:
        raise ConfigError("loader gives no input; an iterator that was read to its end gives none")
    with explain_errors("the targets of all batches do not fit together", "give them the same shape but for the first"):
        inputs = torch.cat([batch_inputs for batch_inputs, _ in batches])
        targets = torch.cat([batch_targets for _, batch_targets in batches])
    first_inputs, _ = batches[0]
    size = len(first_inputs)
    _refuse_lost_axis(own, inputs[:2])
    if loss is None:
        outputs = run_copy(own.template, first_inputs)
        if not targets.is_floating_point() or _are_class_numbers(targets, outputs):
            targets = _as_labels(targets, outputs)
            _refuse_probabilities(own, first_inputs)
        elif isinstance(outputs, Tensor):
            _refuse_other_values(outputs, targets)
    try_loss(own, Batch(images=inputs[:size], labels=targets[:size], global_count=size, loss=loss))
    samples = Samples(images=inputs, labels=targets, ids=torch.arange(len(inputs)), device=own.device, loss=loss)
    return samples, max(2, size)


def task_of(samples: Samples, outputs: Any) -> str:
    """The samples and their loss in words, of a network with such outputs."""
    count = f"{len(samples):,} inputs"
    if samples.loss is not None:
        return f"{count}, the loss that was given"
    if samples.labels.is_floating_point():
        return f"{count}, squared errors"
    occurring = len(samples.labels[samples.labels != IGNORED].unique())
    return f"{count}, cross-entropy over {outputs.shape[1]:,} outputs, {occurring:,} of which are labels"


def _refuse_no_loss(loss: Any) -> None:
    if loss is not None and (isinstance(loss, type) or not callable(loss)):
        example = loss.__name__ if isinstance(loss, type) else "torch.nn.MSELoss"
        raise ConfigError(f"loss is {loss!r}; give a function of outputs and targets, as {example}() is one")
    if getattr(loss, "reduction", "") == "sum":
        raise ConfigError("loss is a sum over the batch; give its mean: reduction = 'mean'")


def _refuse_lost_axis(own: OwnNetwork, pair: Tensor) -> None:
    """Raise ConfigError if the outputs of one input alone lack the axis of the batch, which two inputs have."""
    alone, of_pair = run_copy(own.template, pair[:1]), run_copy(own.template, pair)
    is_tensor = isinstance(alone, Tensor) and isinstance(of_pair, Tensor)
    if is_tensor and 0 < alone.dim() < of_pair.dim():
        raise ConfigError(
            f"{own.kind} returns {_kind_of(alone)} for one input, and {_kind_of(of_pair)} for two; keep the axis of "
            "the batch in its code, as flatten(1) and squeeze(-1) do, and squeeze() does not"
        )


def _check_batch(batch: Any, number: int, example: Tensor) -> tuple[Tensor, Tensor]:
    """Return the inputs and targets of a batch on the CPU; raise ConfigError if they do not fit the example."""
    if isinstance(batch, list | tuple) and len(batch) == 2 and isinstance(batch[1], list | tuple):
        with explain_errors(f"the targets in batch {number} of loader are no numbers", "give a tensor of them"):
            batch = (batch[0], torch.as_tensor(batch[1]))
    is_pair = isinstance(batch, list | tuple) and len(batch) == 2 and all(isinstance(part, Tensor) for part in batch)
    if not is_pair:
        raise ConfigError(
            f"batch {number} of loader is {_kind_of(batch)}; expected two tensors, as in loader = [(inputs, targets)], "
            "of arrays with torch.as_tensor(...), or of other batches in loader = ((b[...], b[...]) for b in batches)"
        )
    inputs = batch[0].detach().cpu()
    targets = batch[1].detach().cpu()
    has_shape = inputs.shape[1:] == example.shape[1:] and inputs.shape[:1] == targets.shape[:1]
    if not has_shape or inputs.dtype != example.dtype:
        shape = ", ".join(map(str, example.shape[1:]))
        raise ConfigError(
            f"batch {number} of loader has inputs {tuple(inputs.shape)} of {inputs.dtype} and targets "
            f"{tuple(targets.shape)}; expected inputs (B, {shape}) of {example.dtype}, as in example_input, and "
            "targets (B, ...)"
        )
    if not bool(inputs.isfinite().all()):
        raise ConfigError(
            f"the inputs in batch {number} of loader have numbers that are NaN or infinite; leave them out"
        )
    return inputs, targets


def _kind_of(batch: Any) -> str:
    """Return what a batch is, with what is in it.

    >>> _kind_of(([1], {})), _kind_of(torch.zeros(2, 1))
    ('a tuple of list, dict', 'a tensor (2, 1) of torch.float32')
    """
    if isinstance(batch, Tensor):
        return f"a tensor {tuple(batch.shape)} of {batch.dtype}"
    kind = f"a {type(batch).__name__}"
    if isinstance(batch, dict):
        return f"{kind} of {', '.join(map(repr, batch))}"
    if isinstance(batch, list | tuple):
        return f"{kind} of {', '.join(type(part).__name__ for part in batch)}"
    return kind


def classes_of(outputs: Any) -> int:
    """How many classes outputs (B, K) tell apart: K; 1 for outputs of another kind, such as values or a dict."""
    return outputs.shape[1] if isinstance(outputs, Tensor) and outputs.dim() == 2 else 1


def _are_class_numbers(targets: Tensor, outputs: Any) -> bool:
    """Whether floats are labels: a whole number in place of each K of outputs (B, K, ...), or one-hot rows of K.

    Raises:
        ConfigError: they may be probabilities of the classes, for cross-entropy, or values, for squared errors.
    """
    if not isinstance(outputs, Tensor) or outputs.dim() < 2 or outputs.shape[1] == 1:
        return False
    are_whole = bool((targets == targets.round()).all())
    if targets.shape[1:] in (outputs.shape[2:], (1, *outputs.shape[2:])):
        return are_whole
    are_rows = outputs.dim() == 2 and targets.shape[1:] == outputs.shape[1:] and are_shares(targets)
    if are_rows and not are_whole:
        raise ConfigError(
            f"the targets are rows of {targets.shape[1]} shares that sum to 1; give loss = torch.nn.CrossEntropyLoss() "
            "if they are probabilities of classes, or loss = torch.nn.MSELoss() if they are values"
        )
    return are_rows


def _refuse_probabilities(own: OwnNetwork, inputs: Tensor) -> None:
    """Raise ConfigError if outputs for cross-entropy are those of a softmax or of a sigmoid."""
    outputs = copied(own.template).eval().requires_grad_(True)(inputs)
    if classes_of(outputs) == 1:
        return
    function = last_function(outputs)
    if function == "softmax":
        raise ConfigError(
            f"{own.kind} returns probabilities, and cross-entropy takes a softmax itself; leave the softmax out of the "
            "module, or give loss = lambda outputs, labels: torch.nn.functional.nll_loss(outputs.log(), labels)"
        )
    if function == "sigmoid":
        raise ConfigError(
            f"{own.kind} ends in a sigmoid, and cross-entropy takes the softmax of its outputs; leave the sigmoid out "
            "of the module, or, if that is meant, give loss = torch.nn.CrossEntropyLoss()"
        )


def _as_labels(targets: Tensor, outputs: Any) -> Tensor:
    """Integers as cross-entropy reads them: int64, a label in place of each K of outputs (B, K, ...).

    Raises:
        ConfigError: they are no classes of the network, which count from 0.
    """
    targets = targets.long()
    if not isinstance(outputs, Tensor):
        return targets
    classes = outputs.shape[1] if outputs.dim() > 1 else 1
    if classes == 1:
        raise ConfigError(
            "the targets are integers, and the network has one output, which tells no classes apart; give floats, "
            f"targets.float(), if they are values; {IF_YES_OR_NO}"
        )
    if outputs.dim() == 2 and targets.shape[1:] == outputs.shape[1:]:
        if not bool(((targets == 0) | (targets == 1)).all() and (targets.sum(dim=1) == 1).all()):
            raise ConfigError(
                f"the targets are rows of {classes} integers that are not one-hot, so a sample has several classes; "
                "give loss = ..., such as torch.nn.BCEWithLogitsLoss(), and targets of floats"
            )
        return targets.argmax(dim=1)
    if targets.shape[1:] == (1, *outputs.shape[2:]):
        targets = targets[:, 0]
    labels = targets[targets != IGNORED]
    if labels.numel() == 0:
        raise ConfigError(f"every label is {IGNORED}, which cross-entropy leaves out; give the labels of some inputs")
    if targets.shape[1:] != outputs.shape[2:]:
        return targets
    least, most = int(labels.min()), int(labels.max())
    if least < 0 or most >= classes:
        is_from_1 = (least, most) == (1, classes)
        advice = ": subtract 1 from the labels" if is_from_1 else f", or {IGNORED} for what does not count"
        raise ConfigError(
            f"the labels are {least} to {most}, and the network has {classes} outputs; expected 0 to "
            f"{classes - 1}{advice}"
        )
    return targets


def try_loss(own: OwnNetwork, batch: Batch, *, in_training: bool = False) -> None:
    """Raise ConfigError unless the loss of a batch is a number that depends on the weights, also backward in training.

    What the module itself raises is passed on.
    """
    outputs = copied(own.template).train(in_training).requires_grad_(True)(batch.images)
    mode = ", in training mode," if in_training else ""
    with explain_errors(
        f"the loss of the first batch cannot be computed from outputs that{mode} are {_kind_of(outputs)} and targets "
        f"that are {_kind_of(batch.labels)}",
        _how_to_give_loss(outputs),
    ):
        value = batch.loss(outputs, batch.labels) if batch.loss else batch.loss_sum(outputs)
        is_number = isinstance(value, Tensor) and value.numel() == 1
        if not is_number or not bool(value.isfinite()):
            is_what = value.item() if is_number else _kind_of(value)
            raise ConfigError(f"the loss of the first batch is {is_what}; expected is one finite number in a tensor")
        if not value.requires_grad:
            raise ConfigError(
                "the loss of the first batch has no gradient; compute it from the outputs, and leave .detach(), "
                f".item(), .numpy() and torch.no_grad() out of it and of {own.kind}"
            )
        if in_training:
            value.backward()


def _how_to_give_loss(outputs: Any) -> str:
    """Return what to type if the loss cannot be computed from such outputs."""
    if isinstance(outputs, Tensor):
        return "give loss = FUNCTION, of such outputs and targets"
    parts = outputs.items() if isinstance(outputs, Mapping) else enumerate(outputs)
    part = next((f"outputs[{key!r}]" for key, value in parts if isinstance(value, Tensor)), "...")
    return (
        f"choose one of the outputs: loss = lambda outputs, targets: torch.nn.functional.cross_entropy({part}, targets)"
    )


def _refuse_other_values(outputs: Tensor, targets: Tensor) -> None:
    """Raise ConfigError unless each float has its output, and they are values; axes of length 1 count for nothing."""
    if not bool(targets.isfinite().all()):
        raise ConfigError("the targets of loader have numbers that are NaN or infinite; leave their samples out")
    sizes_of_outputs = [size for size in outputs.shape[1:] if size != 1]
    sizes_of_targets = [size for size in targets.shape[1:] if size != 1]
    if sizes_of_outputs != sizes_of_targets:
        raise ConfigError(
            f"the network has outputs {tuple(outputs.shape)} and the loader targets "
            f"{tuple(targets[: len(outputs)].shape)} of {targets.dtype}, which are no numbers of its classes; squared "
            "errors need one target for each output: give targets of that shape, or loss = ..."
        )
    if bool(((targets == 0.0) | (targets == 1.0)).all()):
        raise ConfigError(
            f"the targets are floats of 0 and 1; {IF_YES_OR_NO}; in its place binary_cross_entropy if the network ends "
            "in a sigmoid, or mse_loss if they are values"
        )
