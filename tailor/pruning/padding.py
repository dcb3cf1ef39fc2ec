"""Pads a pruned network with zero filters, up to widths that hardware likes; it computes the same.

A runtime that computes on blocks of channels is slow with odd widths. Padding is the inverse of surgery: in each slice
of a group, zeros are put behind the filters that are left. They put out zero, and what reads them reads zero.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tailor.facts.widths import WidthRule
from tailor.model import cost
from tailor.model.state import ModelState
from tailor.pruning.group_records import Group, Slice
from tailor.pruning.groups import candidates
from tailor.pruning.removal_check import difference_of, evaluate, random_batches, uneven
from tailor.stages import GroupRule

PADDED = GroupRule(residual="coupled", linear=True)  # filters, also those that are added to others; no heads, no stream
NOT_IN_ORDER = "its filters are not side by side where they are read"
COMPUTES_ELSE = "with more of them, the network's code computes something else"

Places = list[tuple[int, int]]
"""Each place of a group's filters in a dim of a tensor: the index behind its last filter, and indices per filter."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Padding:
    """A padded network, and what was not padded of it."""

    state: ModelState
    widths: dict[str, int]  # name of each group that was padded -> its filters now
    refused: dict[str, str]  # name of each group with an odd width that was not -> why


def pad(state: ModelState, multiple: int) -> Padding:
    """Pad each group that lost filters to a multiple, at most to its width in the unpruned network.

    What is padded is tried on random inputs: a group with which the network computes something else stays as it is.

    Args:
        state: a pruned network, as it is saved.
        multiple: of filters, such as 8.

    Raises:
        ConfigError: the network's code cannot be followed.
    """
    original_shapes = cost.original_shapes(state.network, state.classes)
    rule = WidthRule(multiple=multiple)
    wider: dict[str, int] = {}  # name of a group -> its filters
    paddable: list[Group] = []
    refused: dict[str, str] = {}
    for candidate in candidates(replace(state, factors={}).build(), state.input_shape, PADDED):
        group = candidate.group
        if not group.slices:
            continue
        width = rule.rounded_up(group.filters, group.filters_in(original_shapes), filters_each=1)
        if width <= group.filters:
            continue
        reason = candidate.reason
        if reason is None and any(places(part) is None for part in group.slices):
            reason = NOT_IN_ORDER
        if reason is None:
            wider[group.name] = width
            paddable.append(group)
        else:
            refused[group.name] = reason
    same = _those_that_compute_the_same(state, paddable, wider)
    for group in paddable:
        if group not in same:
            refused[group.name] = COMPUTES_ELSE
    widths = {group.name: wider[group.name] for group in same}
    return Padding(state=widen(state, same, widths), widths=widths, refused=refused)


def widen(state: ModelState, groups: Iterable[Group], widths: Mapping[str, int]) -> ModelState:
    """The state with zero filters added to these groups: the inverse of `surgery.slim`.

    Args:
        state: of the model that the groups are from.
        widths: name of each group -> how many filters it gets.
    """
    groups = list(groups)
    added_at: defaultdict[tuple[str, int], list[tuple[int, int]]] = defaultdict(list)  # (tensor, dim) -> index, count
    factors = dict(state.factors)
    sizes = {module: dict(attributes) for module, attributes in state.sizes.items()}
    for group in groups:
        added = widths[group.name] - group.filters
        for part in group.slices:
            for end, length in places(part) or []:
                added_at[part.tensor, part.dim].append((end, length * added))
        for member in group.members:
            for site in (member.layer, member.norm, member.activation):
                if site is not None and site in factors:
                    factors[site] = torch.cat([factors[site], factors[site].new_zeros(added)])
        for size in group.sizes:
            of_module = sizes.setdefault(size.module, {})
            present = of_module.get(size.attribute, size.each * group.filters + size.other)
            of_module[size.attribute] = present + size.each * added
    tensors = dict(state.tensors)
    for (name, dim), additions in added_at.items():
        value = 1.0 if name.endswith("running_var") else 0.0  # a norm divides by its root
        tensors[name] = _inserted(tensors[name], dim, additions, value)
    return replace(state, tensors=tensors, factors=factors, sizes=sizes)


def places(part: Slice) -> Places | None:
    """The places where a group's filters are side by side, in their order; None if they are not.

    A filter of a convolution whose outputs are flattened is several indices in a row (one place); one that is
    concatenated twice is an index in each of two places.

    >>> flattened = torch.tensor([[4, 5], [6, 7], [8, 9]])
    >>> places(Slice(tensor="", dim=1, indices=flattened)), places(Slice(tensor="", dim=1, indices=flattened % 7))
    ([(10, 2)], None)
    """
    first = part.indices[0].tolist()
    last = part.indices[-1].tolist()
    if len(part.indices) == 1 and len(first) > 1:
        return None  # of one filter, several indices in a row are one place or as many as they are
    found = []
    start = 0
    for end in range(1, len(last) + 1):
        if end < len(last) and last[end] == last[end - 1] + 1:
            continue
        length = end - start
        filters = torch.arange(len(part.indices))[:, None]
        expected = torch.tensor(first[start:end]) + length * filters
        if not torch.equal(part.indices[:, start:end], expected):
            return None
        found.append((last[end - 1] + 1, length))
        start = end
    return found


def _inserted(tensor: Tensor, dim: int, additions: Iterable[tuple[int, int]], value: float) -> Tensor:
    """A tensor with so many equal values before these indices of a dim."""
    pieces = []
    start = 0
    for index, count in sorted(additions):
        shape = list(tensor.shape)
        shape[dim] = count
        pieces += [tensor.narrow(dim, start, index - start), tensor.new_full(shape, value)]
        start = index
    pieces.append(tensor.narrow(dim, start, tensor.shape[dim] - start))
    return torch.cat(pieces, dim)


def _those_that_compute_the_same(state: ModelState, groups: list[Group], widths: Mapping[str, int]) -> list[Group]:
    """The groups with which the padded network computes what the given one does: all, or those that do so alone."""
    if not groups:
        return []
    state = replace(state, tensors=uneven(state.tensors))  # equal numbers would hide a difference
    batch = random_batches(torch.zeros(1, *state.input_shape))[0]
    expected = _outputs(state, batch)

    def computes_the_same(padded: list[Group]) -> bool:
        try:
            outputs = _outputs(widen(state, padded, widths), batch)
        except Exception:  # noqa: BLE001  # a network's code may raise anything
            return False
        return not difference_of(outputs, expected)

    if computes_the_same(groups):
        return groups
    alone = [group for group in groups if computes_the_same([group])]
    return alone if alone and computes_the_same(alone) else []


def _outputs(state: ModelState, batch: Tensor) -> Any:
    """What a network computes in evaluation mode, in float64, in which a difference is no rounding."""
    return evaluate(state.build().double(), batch.double())
