"""Tries whether a network without filters computes what the whole one computes with zeros in their place.

A trace of shapes does not show code that computes with the number of filters, nor code under `if self.training`.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from tailor.common.errors import ConfigError
from tailor.common.torch_private import tree_leaves
from tailor.data.task_data import generator
from tailor.model.state import ModelState
from tailor.pruning import surgery
from tailor.pruning.group_records import Group, Kept

ADVICE = "pruning.exclude = [...] names modules that keep all their filters"
WITHOUT = "without the filters that were chosen"
# By how much outputs of the same network may differ, relative to the largest: norms of a few inputs enlarge roundings.
TOLERANCE = {torch.float64: 1e-6}
TOLERANCE_OF_OTHERS = 1e-3
SPREAD = 0.1  # most that is added to tensors of equal numbers

Pass = Callable[[nn.Module, Tensor, int], Any]


def random_batches(like: Tensor) -> list[Tensor]:
    """Batches of two to four inputs (B, ...) such as `like`: normal numbers, numbers in [0, 1], zeros and ones."""
    numbers = generator(0, "tried inputs")
    shape = (max(2, min(4, len(like))), *like.shape[1:])
    uniform = torch.rand(shape, generator=numbers, dtype=like.dtype)
    normal = torch.randn(shape, generator=numbers, dtype=like.dtype)
    return [normal, uniform, uniform.round()]


def refuse_other_function(whole: ModelState, kept: Kept, groups: Sequence[Group], batches: Sequence[Tensor]) -> None:
    """Raise ConfigError unless the network without filters computes what the masked one does; it names the layers.

    Both are run in evaluation mode, and in training mode forward and backward, without dropout; where the masked one
    does not run, the other need not either. Tensors of equal numbers, such as those of a new norm or a last layer of
    zeros, would hide a difference and get unequal ones. Without channels under a norm over channels, whose statistics
    are others then, only the runs are tried.

    Args:
        whole: the network with all filters.
        groups: its groups.
        batches: inputs (B, ...).
    """
    whole = replace(whole, tensors=uneven(whole.tensors))
    smaller = tuple(group for group in groups if len(kept.get(group.name, range(group.filters))) < group.filters)
    fault = _fault_of(whole, kept, smaller, batches)
    if fault is None:
        return
    alone = [group for group in smaller if _fault_of(whole, kept, (group,), batches) is not None]
    modules = sorted({_maker(group) for group in alone or smaller})
    raise ConfigError(f"{fault}; mend it, or set pruning.exclude = {json.dumps(modules)}") from fault.__cause__


def _maker(group: Group) -> str:
    """The module to exclude so that a group keeps all its filters."""
    if group.kind == "heads":  # the member reads them
        return next(part.tensor.rpartition(".")[0] for part in group.slices if part.dim == 0 and not part.loose)
    return group.name.partition(":")[0]


class _OtherFunction(ConfigError):
    """What the network computes without filters, or that it does not run; without advice."""


def _fault_of(
    whole: ModelState, kept: Kept, smaller: tuple[Group, ...], batches: Sequence[Tensor]
) -> _OtherFunction | None:
    try:
        _compare(whole, kept, smaller, batches)
    except _OtherFunction as fault:
        return fault
    return None


def _compare(whole: ModelState, kept: Kept, smaller: tuple[Group, ...], batches: Sequence[Tensor]) -> None:
    """Raise _OtherFunction unless the network without filters of these groups computes what the masked one does."""
    comparison = _Comparison(
        network=whole.network,
        slimmed=surgery.slim(whole, kept, smaller).build(),
        masked=surgery.mask(whole, kept, smaller).build(),
        compares_outputs=all(group.kind != "stream" for group in smaller),
    )
    batches = _in_double(comparison.slimmed, comparison.masked, batches)
    for module in (*comparison.slimmed.modules(), *comparison.masked.modules()):
        if "Dropout" in type(module).__name__ and hasattr(module, "p"):
            module.p = 0.0  # type: ignore[assignment]  # for fewer channels other numbers would be drawn

    evaluated = [batch for batch in batches if comparison.check(evaluate, "", batch)]
    shows_nothing = all(_is_constant(batch) for batch in evaluated)
    if comparison.compares_outputs and shows_nothing:
        raise ConfigError(
            f"{whole.network} does not run on random inputs, and the numbers of example_input are all equal, so the "
            "pruned network cannot be compared with it; give example_input typical numbers"
        )
    for batch in batches:
        if comparison.check(train_once, "in training mode, ", batch):
            break  # a step is costly, so one batch has to do


@dataclass(frozen=True, kw_only=True, eq=False)
class _Comparison:
    """The network without filters beside the one with zeros in their place."""

    network: str
    slimmed: nn.Module
    masked: nn.Module
    compares_outputs: bool  # False: the slimmed one only has to run

    def check(self, run: Pass, mode: str, batch: Tensor) -> bool:
        """Whether the masked network runs on a batch. If it does, the slimmed one has to run and to compute the same.

        Args:
            mode: for messages; empty in evaluation mode. In training mode, a network that draws random numbers may
                compute something else each time.

        Raises:
            _OtherFunction: the slimmed network does not run, or computes something else.
        """
        expected = _attempt(run, self.masked, batch)
        if expected is None:
            return False
        try:
            outputs = run(self.slimmed, batch, 0)
        except Exception as error:  # a user's code may raise anything
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise _OtherFunction(f"{mode}the network's code does not run {WITHOUT} ({reason})") from error
        difference = difference_of(outputs, expected) if self.compares_outputs else ""
        if not difference:
            return True
        draws = bool(difference_of(run(self.masked, batch, 1), expected))
        if draws and mode:
            return True
        cause = "draws random numbers" if draws else "computes with the number of filters"
        raise _OtherFunction(
            f"{mode}{WITHOUT}, {self.network} computes something else than with zeros in their place "
            f"({difference}): its code {cause}"
        )


def _in_double(slimmed: nn.Module, masked: nn.Module, batches: Sequence[Tensor]) -> list[Tensor]:
    """The batches and both models in float64, in which a difference is no rounding; as they were if they do not run."""
    doubled = [batch.double() for batch in batches]
    masked.double()
    if any(_attempt(evaluate, masked, batch) is not None for batch in doubled):
        slimmed.double()
        return doubled
    masked.to(batches[0].dtype)
    return list(batches)


def uneven(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, of which those of equal numbers get up to 0.1 added to each, so that variances stay positive."""
    numbers = generator(0, "uneven tensors")
    changed = dict(tensors)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and _is_constant(tensor):
            changed[name] = tensor + SPREAD * torch.rand(tensor.shape, generator=numbers).to(tensor)
    return changed


def _is_constant(tensor: Tensor) -> bool:
    return tensor.numel() == 0 or bool((tensor == tensor.flatten()[0]).all())


def evaluate(model: nn.Module, batch: Tensor, seed: int = 0) -> Any:
    """The outputs in evaluation mode; what is drawn is drawn from the seed."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        return model.eval()(batch)


def train_once(model: nn.Module, batch: Tensor, seed: int = 0) -> Any:
    """The outputs in training mode, and a backward pass from them; running statistics change."""
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        outputs = model.train()(batch)
        leaves = [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor) and leaf.requires_grad]
        if leaves:
            torch.stack([leaf.abs().mean() for leaf in leaves]).sum().backward()
    return outputs


def _attempt(run: Pass, model: nn.Module, batch: Tensor) -> Any:
    """The outputs; None if the model does not run on these inputs."""
    try:
        return run(model, batch, 0)
    except Exception:  # noqa: BLE001  # a user's code may raise anything
        return None


def difference_of_models(other: nn.Module, model: nn.Module, batches: Sequence[Tensor]) -> str:
    """The first difference of what two networks compute of inputs (B, ...), for a message; empty if it is rounding."""
    batches = _in_double(other, model, batches)
    evaluate(model, batches[0])  # on the others it may fail
    for batch in batches:
        expected = _attempt(evaluate, model, batch)
        difference = "" if expected is None else difference_of(evaluate(other, batch), expected)
        if difference:
            return difference
    return ""


def difference_of(outputs: Any, others: Any) -> str:
    """The first difference of the outputs of two networks, for a message; empty if it is rounding."""
    leaves = tree_leaves(outputs)
    other_leaves = tree_leaves(others)
    if len(leaves) != len(other_leaves):
        return f"they have {len(leaves)} and {len(other_leaves)} outputs"
    for leaf, other in zip(leaves, other_leaves, strict=True):
        if isinstance(leaf, Tensor) and isinstance(other, Tensor):
            difference = _difference(leaf, other)
            if difference:
                return difference
    return ""


@torch.no_grad()
def _difference(left: Tensor, right: Tensor) -> str:
    tolerance = 0.0  # of integers
    if left.is_floating_point() or left.is_complex():
        tolerance = TOLERANCE.get(left.dtype, TOLERANCE_OF_OTHERS)
    left = _as_double(left)
    right = _as_double(right)
    if left.shape != right.shape:
        return f"their shapes are {tuple(left.shape)} and {tuple(right.shape)}"
    if left.numel() == 0:
        return ""
    rounding = tolerance * float(right.nan_to_num(0.0, 0.0, 0.0).abs().max())
    if torch.allclose(left, right, rtol=0.0, atol=rounding, equal_nan=True):
        return ""
    largest = float((left - right).nan_to_num(0.0, 0.0, 0.0).abs().max())
    return f"they differ by {largest:.3g}" if largest > rounding else "in one of the two some numbers are not finite"


def _as_double(tensor: Tensor) -> Tensor:
    """The tensor in float64; of complex numbers both parts, in a last dim."""
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    return tensor.double()
