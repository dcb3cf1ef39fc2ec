"""A pruned module of a user: what was removed of it, and how it is saved and loaded."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from tailor.common.errors import ConfigError, explain_errors
from tailor.common.torch_private import tree_leaves
from tailor.model.state import ModelState, load_state, save_model, saved_in
from tailor.pruning.criteria import CRITERIA
from tailor.pruning.group_records import Kind
from tailor.user_module.given import OwnNetwork, copy_module, plain_torch, registration, run_copy
from transtailor.files import refuse_unwritable

SUFFIXES = (".pt", ".pth", ".safetensors", ".onnx")  # of files of weights, as torch.save and others write them


@dataclass(frozen=True, kw_only=True)
class PrunedGroup:
    """Filters that can only be removed together, and what became of them."""

    layers: tuple[str, ...]  # whose outputs they are; of heads, the layer that reads them; then those that go with them
    kind: Kind
    filters: int
    kept: tuple[int, ...]  # indices of those that stay, ascending
    reason: str | None  # why none can be removed; None: they can

    def __str__(self) -> str:
        layers = self.layers[0]
        if len(self.layers) > 1:
            layers += f" and {len(self.layers) - 1} more"
        if self.reason:
            return f"{layers} ({self.kind}): {self.filters} stay: {self.reason}"
        return f"{layers} ({self.kind}): {len(self.kept)} of {self.filters} stay"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class PrunedNetwork:
    """A new module with fewer filters, and what was removed.

    >>> import tailor
    >>> network = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    >>> pruned = tailor.prune(network, torch.zeros(1, 8), criterion="l2", asked_removed_macs_fraction=0.5)
    >>> print(pruned)
    Sequential: 176 -> 88 MACs (50.0% removed), 195 -> 99 parameters
      0 (filters): 8 of 16 stay
      2 (filters): 3 stay: all of its outputs are needed behind it: the network's output
    The filters were chosen without your task: the criterion 'l2' reads no data. To keep what the task needs, pass
    loader = ..., batches of (inputs, targets), and no criterion.
    >>> [group.kept == tuple(range(3)) for group in pruned.groups if group.reason]
    [True]
    """

    model: nn.Module
    criterion: str  # what scored the filters
    task: str  # the samples that were given, and their loss, in words; "": none
    groups: tuple[PrunedGroup, ...]  # in the order of the network's modules, also those that cannot lose any
    macs: int  # of one input
    original_macs: int
    params: int
    original_params: int
    state: ModelState  # the model as data

    @property
    def removed_macs_fraction(self) -> float:
        """Share of the multiply-accumulates that were removed, in [0, 1]."""
        return 1.0 - self.macs / self.original_macs

    def __str__(self) -> str:
        summary = (
            f"{type(self.model).__name__}: {self.original_macs:,} -> {self.macs:,} MACs "
            f"({self.removed_macs_fraction:.1%} removed), {self.original_params:,} -> {self.params:,} parameters"
        )
        lines = ["\n  ".join([summary, *map(str, self.groups)])]
        if self.task:
            lines.append(f"Task: {self.task}")
        if not CRITERIA[self.criterion].reads_data:
            instead = "no criterion" if self.task else "loader = ..., batches of (inputs, targets), and no criterion"
            lines.append(
                f"The filters were chosen without your task: the criterion {self.criterion!r} reads no data. To keep "
                f"what the task needs, pass {instead}."
            )
        return "\n".join(lines)

    __repr__ = __str__  # what a notebook and the prompt show; a dataclass's has every weight

    def save(self, folder: str | Path) -> None:
        """Write the weights as safetensors and a description, both in `folder`; `tailor.load` reads them. No pickle.

        A sub-model of this class that was saved there before is replaced, and programs that were exported from it go.

        Raises:
            ConfigError: `folder` cannot be written to, or has a sub-model of a trial or of another class of modules,
                or files of these names that were not saved here.
        """
        if Path(folder).is_file() or Path(folder).suffix in SUFFIXES:
            raise ConfigError(f"{folder} is the name of a file; give a folder, in which model.safetensors is written")
        refuse_unwritable(Path(folder), "folder", ConfigError)
        saved = saved_in(Path(folder)).get("network")
        if saved is not None and not saved.startswith(f"{type(self.model).__name__}#"):
            saved_class = saved.partition("#")[0]
            raise ConfigError(f"{folder} has a sub-model of {saved_class}; give another folder, or remove this one")
        save_model(self.state.with_weights_of(self.model), Path(folder))


@plain_torch()
def load(folder: str | Path, *, model: nn.Module) -> nn.Module:
    """The pruned module that `PrunedNetwork.save` wrote: a new one, on the device and in the mode of `model`.

    >>> from tempfile import TemporaryDirectory
    >>> import tailor
    >>> network = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    >>> with TemporaryDirectory() as folder:
    ...     tailor.prune(network, torch.zeros(1, 8), criterion="l2", asked_removed_macs_fraction=0.5).save(folder)
    ...     tailor.load(folder, model=network)[0]
    Linear(in_features=8, out_features=8, bias=True)

    Args:
        folder: which was saved to.
        model: the unpruned module, with any weights; it is not changed.

    Raises:
        ConfigError: the folder has no complete model, its bytes changed, or it is of another network.
    """
    with opened(Path(folder), model=model) as (own, state):
        return own.build(state)


@contextmanager
def opened(folder: Path, *, model: nn.Module) -> Iterator[tuple[OwnNetwork, ModelState]]:
    """Yield the network, and the state that `PrunedNetwork.save` wrote; it can be built until the context ends.

    The arguments and errors are those of `load`.
    """
    own = copy_module(model)
    with registration(own):
        state = load_state(folder, network=own.name)
        for name, whole in own.template.state_dict().items():
            tensor = state.tensors.get(name, whole)
            sizes = zip(tensor.shape, whole.shape, strict=False)
            if tensor.dim() != whole.dim() or any(size > most for size, most in sizes):
                raise ConfigError(
                    f"{folder} is of another network than this {own.kind}: {name} is {tuple(tensor.shape)} there and "
                    f"{tuple(whole.shape)} here; give the network that was pruned"
                )
        built = own.build(state)
        with explain_errors(f"{own.kind} does not run with what {folder} holds", "give the network that was pruned"):
            shapes = _shapes(built, state)
        expected = _shapes(own.template, state)
        if shapes != expected:
            raise ConfigError(
                f"{folder} is of another network than this {own.kind}: its outputs are {shapes} of one input there and "
                f"{expected} here; give the network that was pruned (of a command, --module FILE:FUNCTION "
                "with a function that returns it)"
            )
        yield own, state


def _shapes(model: nn.Module, state: ModelState) -> str:
    """The shapes of all tensors among a network's outputs of one input, in the precision of its weights."""
    weight = next(model.parameters())
    outputs = run_copy(model, torch.zeros(1, *state.input_shape, dtype=weight.dtype, device=weight.device))
    return ", ".join(str(tuple(leaf.shape)) for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor))
