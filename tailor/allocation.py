"""How much from which layer: the filters that a budget leaves, from one score per filter."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from tailor import cost
from tailor.errors import ConfigError
from tailor.state import ModelState
from tailor.surgery import Group, Kept


def lowest_of_all(
    state: ModelState, found: tuple[Group, ...], removed_macs_fraction: float, minimum_filters_fraction: float
) -> Kept:
    """The filters that stay when the lowest-scored of the whole network go, one after the other, until the budget.

    The removal that reaches the budget is the last one: MACs are counted anew after each.

    Args:
        state: a scored model.
        found: its prunable groups.
        removed_macs_fraction: of the original network with this head; what earlier steps removed counts.
        minimum_filters_fraction: of each layer's ORIGINAL filters that stay, rounded up, at least one.

    Raises:
        ConfigError: the layers cannot lose so much; the text says how much they can.
    """
    original = cost.original_shapes(state.network, state.classes)
    original_macs = cost.macs(state.network, state.classes, original)
    allowed = original_macs * (1.0 - removed_macs_fraction)
    minimum = {g.site: max(1, math.ceil(minimum_filters_fraction * original[f"{g.layer}.weight"][0])) for g in found}
    order = removal_order(state.scores, minimum)
    weight_shapes = {name: tensor.shape for name, tensor in state.tensors.items()}

    def macs_after(removals: int) -> int:
        counts = {g.site: 0 for g in found}
        for site, _ in order[:removals]:
            counts[site] += 1
        return cost.macs(state.network, state.classes, shapes_after(weight_shapes, found, counts))

    if macs_after(len(order)) > allowed:
        possible = 1.0 - macs_after(len(order)) / original_macs
        raise ConfigError(
            f"removed_macs_fraction = {removed_macs_fraction:g} is more than {state.network} can lose: its prunable "
            f"layers ({', '.join(g.layer for g in found)}) hold {possible:.3f} of the MACs above their minimum of "
            f"{minimum_filters_fraction:g} of the filters; choose a smaller budget or a smaller minimum"
        )
    removals = _smallest(len(order), lambda n: macs_after(n) <= allowed)
    gone: dict[str, list[int]] = {g.site: [] for g in found}
    for site, index in order[:removals]:
        gone[site].append(index)
    return {g.site: _all_but(gone[g.site], g.filters) for g in found}


def removal_order(scores: dict[str, Tensor], minimum: dict[str, int]) -> list[tuple[str, int]]:
    """(site, filter) from the lowest score to the highest; a layer at its minimum keeps what it has.

    Equal scores go in the order of layers and filters, so that the order never depends on the sort.
    """
    ranked = sorted(
        (value, layer, index, site)
        for layer, (site, values) in enumerate(scores.items())
        for index, value in enumerate(values.tolist())
    )
    left = {site: len(values) for site, values in scores.items()}
    order = []
    for _, _, index, site in ranked:
        if left[site] > minimum[site]:
            left[site] -= 1
            order.append((site, index))
    return order


def shapes_after(
    shapes: dict[str, torch.Size], found: tuple[Group, ...], removed: dict[str, int]
) -> dict[str, torch.Size]:
    """Shapes of all tensors when each group lost `removed[site]` filters, whichever they are."""
    after = {name: list(shape) for name, shape in shapes.items()}
    for group in found:
        for part in group.slices:
            after[part.tensor][part.dim] -= removed[group.site] * part.indices.shape[1]
    return {name: torch.Size(shape) for name, shape in after.items()}


def _smallest(upper: int, holds: Callable[[int], bool]) -> int:
    """The smallest n in [0, upper] for which `holds(n)`, which is false up to some n and true from there on."""
    low, high = 0, upper
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


def _all_but(gone: list[int], filters: int) -> Tensor:
    stays = torch.ones(filters, dtype=torch.bool)
    stays[gone] = False
    return stays.nonzero().flatten()
