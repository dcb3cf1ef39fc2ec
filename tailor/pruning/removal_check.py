"""Tries whether a network without filters computes what the whole one computes with zeros in their place.

A trace of shapes does not show code that computes with the number of filters, nor code under `if self.training`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from tailor.core.errors import ConfigError, explain_errors
from tailor.core.torch_private import tree_leaves
from tailor.data.task_data import generator
from tailor.model.state import ModelState
from tailor.pruning import surgery
from tailor.pruning.group_records import Group, Kept

ADVICE = "exclude = [...] names modules that keep all their filters"
WITHOUT = "without the filters that were chosen"
# By which outputs of the same network may differ, relative to the largest: norms of a few inputs enlarge roundings.
TOLERANCE = {torch.float64: 1e-6}
TOLERANCE_OF_OTHERS = 1e-3
SPREAD = 0.1  # most that is added to tensors of equal numbers

Pass = Callable[[nn.Module, Tensor, int], Any]


def random_batches(like: Tensor) -> list[Tensor]:
    """Batches of two to four inputs (B, ...) such as `like`: normal numbers, numbers in [0, 1], zeros and ones."""
    draw = generator(0, "tried inputs")
    shape = (max(2, min(4, len(like))), *like.shape[1:])
    uniform = torch.rand(shape, generator=draw, dtype=like.dtype)
    return [torch.randn(shape, generator=draw, dtype=like.dtype), uniform, uniform.round()]


def refuse_other_function(whole: ModelState, kept: Kept, found: Sequence[Group], batches: Sequence[Tensor]) -> None:
    """Raise ConfigError unless the network without filters computes what the masked one does.

    Both are run in evaluation mode, and in training mode forward and backward, without dropout; where the masked one
    does not run, the other need not either. Tensors of equal numbers, such as those of a new norm or a last layer of
    zeros, would hide a difference and get unequal ones. Without channels under a norm over channels, whose statistics
    are others then, only the runs are tried.

    Args:
        whole: the network with all filters.
        found: its groups.
        batches: inputs (B, ...).
    """
    whole = replace(whole, tensors=uneven(whole.tensors))
    lost = tuple(group for group in found if len(kept.get(group.name, range(group.filters))) < group.filters)
    slimmed, masked = surgery.slim(whole, kept, lost).build(), surgery.mask(whole, kept, lost).build()
    batches = _in_double(slimmed, masked, batches)
    is_compared = all(group.kind != "stream" for group in lost)
    for module in (*slimmed.modules(), *masked.modules()):
        if "Dropout" in type(module).__name__ and hasattr(module, "p"):
            module.p = 0.0  # type: ignore[assignment]  # for fewer channels other numbers would be drawn

    def compare(run: Pass, mode: str, most: int) -> bool:
        """Compare on so many batches; whether the whole network runs on one that shows something."""
        shows = False
        for batch in batches:
            expected = _attempt(run, masked, batch) if most else None
            if expected is None:
                continue
            shows |= not _is_constant(batch)
            most -= 1
            with explain_errors(f"{mode}the network does not run {WITHOUT}", ADVICE):
                outputs = run(slimmed, batch, 0)
            if is_compared and (difference := difference_of(outputs, expected)):
                draws = bool(difference_of(run(masked, batch, 1), expected))
                if draws and mode:
                    continue
                cause = "draws random numbers" if draws else "computes with the number of filters"
                raise ConfigError(
                    f"{mode}{WITHOUT}, {whole.network} computes something else than with zeros in their place "
                    f"({difference}): its code {cause}; {ADVICE}"
                )
        return shows

    if not compare(evaluate, "", len(batches)) and is_compared:
        raise ConfigError(
            f"{whole.network} does not run on random inputs, and the numbers of example_input are all equal, so the "
            "pruned network cannot be compared with it; give example_input typical numbers"
        )
    compare(train_once, "in training mode, ", 1)  # a step is costly


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
    """The tensors; those of equal numbers are raised by up to 0.1 each, so that variances stay positive."""
    draw = generator(0, "uneven tensors")
    changed = dict(tensors)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and _is_constant(tensor):
            changed[name] = tensor + SPREAD * torch.rand(tensor.shape, generator=draw).to(tensor)
    return changed


def _is_constant(tensor: Tensor) -> bool:
    return not tensor.numel() or bool((tensor == tensor.flatten()[0]).all())


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


def difference_of(outputs: Any, others: Any) -> str:
    """The difference of the outputs of two networks, for a message; empty if it is rounding."""
    outputs, others = tree_leaves(outputs), tree_leaves(others)
    if len(outputs) != len(others):
        return f"they have {len(outputs)} and {len(others)} outputs"
    pairs = zip(outputs, others, strict=True)
    found = (_difference(one, other) for one, other in pairs if isinstance(one, Tensor) and isinstance(other, Tensor))
    return next(filter(None, found), "")


@torch.no_grad()
def _difference(one: Tensor, other: Tensor) -> str:
    tolerance = TOLERANCE.get(one.dtype, TOLERANCE_OF_OTHERS) if one.is_floating_point() or one.is_complex() else 0.0
    one, other = (torch.view_as_real(t.resolve_conj()) if t.is_complex() else t for t in (one, other))
    one, other = one.double(), other.double()
    if one.shape != other.shape:
        return f"their shapes are {tuple(one.shape)} and {tuple(other.shape)}"
    if not one.numel():
        return ""
    rounding = tolerance * float(other.nan_to_num(0.0, 0.0, 0.0).abs().max())
    if torch.allclose(one, other, rtol=0.0, atol=rounding, equal_nan=True):
        return ""
    largest = float((one - other).nan_to_num(0.0, 0.0, 0.0).abs().max())
    return f"they differ by {largest:.3g}" if largest > rounding else "in one of the two some numbers are not finite"
