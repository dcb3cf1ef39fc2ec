"""A pruned module of a user: what was removed of it, and how it is saved and loaded."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from tailor.common.errors import ConfigError, explain_errors
from tailor.model.state import ModelState, load_state, save_model, saved_in
from tailor.networks.building import copied, fill
from tailor.pruning.criteria import CRITERIA
from tailor.pruning.group_records import Kind
from tailor.pruning.removal_check import difference_of_models, random_batches
from tailor.user_module.given import OwnNetwork, copy_module, plain_torch, registration, run_copy
from transtailor.files import refuse_unwritable


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
    The filters were chosen without your task: the criterion 'l2' reads no data; one that reads the loader keeps what
    the task needs.
    >>> [group.kept == tuple(range(3)) for group in pruned.groups if group.reason]
    [True]
    """

    model: nn.Module
    criterion: str  # what scored the filters
    groups: tuple[PrunedGroup, ...]  # in the order of the network's modules, also those that cannot lose any
    macs: int  # of one input
    original_macs: int
    params: int
    original_params: int
    state: ModelState  # the model as data
    whole: OwnNetwork  # the module that was given
    head: str  # its last layer; "": it has none
    example: Tensor  # (B, ...), the inputs that were given
    uncounted: tuple[str, ...] = ()  # operations that multiply by weights and are in no MACs

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
        if self.uncounted:
            lines.append(f"Not counted in the MACs: {', '.join(self.uncounted)}")
        if not CRITERIA[self.criterion].reads_data:
            lines.append(
                f"The filters were chosen without your task: the criterion {self.criterion!r} reads no data; one that "
                "reads the loader keeps what the task needs."
            )
        return "\n".join(lines)

    __repr__ = __str__  # what a notebook and the prompt show; a dataclass's has every weight

    def save(self, folder: str | Path) -> None:
        """Write the weights as safetensors and a description, both in `folder`; `tailor.load` reads them. No pickle.

        A sub-model of this class that was saved there before is replaced, and programs that were exported from it go.

        Raises:
            ConfigError: `folder` cannot be written to, or has a sub-model of a trial or of another class of modules,
                or files of these names that were not saved here; or `load` would not give this model again, since it
                was changed in more than its weights. Nothing is written then.
        """
        if Path(folder).is_file():
            raise ConfigError(f"{folder} is a file; give a folder, in which model.safetensors is written")
        refuse_unwritable(Path(folder), "folder", ConfigError)
        saved = saved_in(Path(folder)).get("network")
        if saved is not None and not saved.startswith(f"{type(self.model).__name__}#"):
            saved_class = saved.partition("#")[0]
            raise ConfigError(f"{folder} has a sub-model of {saved_class}; give another folder, or remove this one")
        try:
            with explain_errors("pruned.model does not run", "mend it"):
                state = self.state.with_weights_of(self.model)
                self._refuse_other(state)
        except ConfigError as error:
            raise ConfigError(
                f"{folder} is not written: tailor.load would not give this pruned.model again ({error}); give "
                "tailor.prune the network with this change, or keep its weights: "
                "torch.save(pruned.model.state_dict(), FILE)"
            ) from error
        save_model(state, Path(folder))

    @plain_torch()
    def _refuse_other(self, state: ModelState) -> None:
        """Raise ConfigError unless `load` gives a model that computes what the present one does."""
        whole = copied(self.whole.template)
        for name, part in whole.state_dict().items():
            present = state.tensors.get(name, part)
            is_of_head = name.rpartition(".")[0] == self.head
            if is_of_head and part.dim() and part.dim() == present.dim() and len(part) != len(present):
                # It was replaced by one with other outputs, and is loaded into a network that has such a head.
                fill(whole, {name: part.new_zeros(len(present), *part.shape[1:])})
        with TemporaryDirectory() as folder:
            save_model(state, Path(folder))
            loaded = load(folder, model=whole)
        modules = dict(loaded.named_modules())
        for name, module in self.model.named_modules():
            other = modules.get(name, module)
            if type(module).__module__.startswith("torch.nn.") and module.extra_repr() != other.extra_repr():
                raise ConfigError(f"{name} has {module.extra_repr()}, loaded {other.extra_repr()}")
        model, loaded = (copied(network).to("cpu", self.example.dtype) for network in (self.model, loaded))
        difference = difference_of_models(loaded, model, [self.example, *random_batches(self.example)])
        if difference:
            raise ConfigError(f"of its outputs and those of the loaded one, {difference}")


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
        with explain_errors(f"{own.kind} does not run with what {folder} holds", "give the network that was pruned"):
            weight = next(own.template.parameters())
            run_copy(own.build(state).to(weight), torch.zeros(1, *state.input_shape, dtype=weight.dtype))
        yield own, state
