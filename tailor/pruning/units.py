"""The units of a network: what goes as one, from the labels that one forward pass joined.

A class of joined labels is a unit. Units that have equally many indices of the same tensors make a group.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from tailor.pruning.dependency_trace import PINNED, Trace
from tailor.pruning.group_records import Kind, Slice

UnitNumbers = np.ndarray[tuple[int], np.dtype[np.int64]]
"""The numbers of units, which are classes of labels."""


class Units:
    """All units of a trace, by the number of their class."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.classes = _classes_of(trace)
        self.pinned = _pinned_classes(trace, self.classes)  # class -> why it has to stay
        self._pin_what_is_no_rectangle()
        self._use_parameters()

    def units_by_group(self) -> Iterator[tuple[UnitNumbers, tuple[Slice, ...]]]:
        """Yield the units of each group, which have equally many indices of the same tensors, with these indices."""
        # Units with equal signatures have equally many indices of the same tensors; 0: no tensor has the unit.
        signatures = np.zeros(int(self.classes.max()) + 1, dtype=np.uint64)
        for (tensor, dim), labels in self.trace.uses.items():
            units, times = np.unique(self.classes[labels.numpy()], return_counts=True)
            digest = hashlib.sha256(f"{dim} {tensor}".encode()).digest()
            signatures[units] += np.frombuffer(digest[:8], dtype=np.uint64) * times.astype(np.uint64)
        group_of = np.unique(signatures, return_inverse=True)[1]  # number of each unit's group
        uses_of: dict[int, list[tuple[str, int]]] = defaultdict(list)  # number of a group -> (tensor, dim)
        for use, labels in self.trace.uses.items():
            for group in np.unique(group_of[self.classes[labels.numpy()]]).tolist():
                uses_of[group].append(use)
        for group, uses in uses_of.items():
            units = np.flatnonzero(group_of == group)
            yield units, tuple(self._slice(units, tensor, dim) for tensor, dim in uses)

    def _slice(self, units: UnitNumbers, tensor: str, dim: int) -> Slice:
        """The indices of one dim of a tensor that belong to these units: a row for each unit, in their order."""
        row_of_class = np.full(int(self.classes.max()) + 1, -1)
        row_of_class[units] = np.arange(len(units))
        rows = row_of_class[self.classes[self.trace.uses[tensor, dim].numpy()]]  # of each index; -1: of no such unit
        indices = np.flatnonzero(rows >= 0)
        table = indices[np.argsort(rows[indices], kind="stable")].reshape(len(units), -1)
        return Slice(tensor=tensor, dim=dim, indices=torch.from_numpy(table), loose=tensor in self.trace.loose)

    def kind(self, units: UnitNumbers) -> Kind:
        """What these units are, as a group."""
        heads = [product.each for product in self.trace.products if product.has_heads]
        if self._have_any(units, heads):
            return "heads"
        of_tokens = [labels for labels in self.trace.loose.values() if labels.numel() > max(labels.shape)]
        if self._have_any(units, [*self.trace.normed, *of_tokens]):
            return "stream"
        if self._have_any(units, self.trace.grouped.values()):
            return "conv_groups"
        return "filters"

    def product_macs(self, units: UnitNumbers) -> int:
        """MACs of products of activations with each other that go with each of these units."""
        return sum(product.macs * self.count_of(units, product.each) for product in self.trace.products)

    def count_of(self, units: UnitNumbers, labels: Tensor) -> int:
        """How many of these labels belong to each of these units, all of which have equally many."""
        return int((self.classes[labels.numpy()] == units[0]).sum())

    def reasons(self, units: UnitNumbers) -> list[str]:
        """Why some of these units have to stay."""
        return sorted({self.pinned[unit] for unit in units.tolist() if unit in self.pinned})

    def _have_any(self, units: UnitNumbers, tensors: Iterable[Tensor]) -> bool:
        """Whether a label in any of these tensors belongs to one of the units."""
        return any(bool(np.isin(self.classes[labels.numpy()], units).any()) for labels in tensors)

    def _pin_what_is_no_rectangle(self) -> None:
        """Pin the labels of grids that do not leave a rectangle, or lose indices of a dim that is read by number."""
        for labels, fixed_dims in self.trace.grids:
            dims = self._dims_that_differ(labels)
            if len(dims) > 1 or fixed_dims & set(dims):
                self._pin(labels, "the code reads its outputs by their places")

    def _use_parameters(self) -> None:
        """Note for each parameter that is no layer's weight the dim that loses indices."""
        used = {tensor for tensor, _ in self.trace.uses}
        for name, labels in self.trace.loose.items():
            dims = self._dims_that_differ(labels)
            if len(dims) > 1 or name in used or name in self.trace.fixed:
                self._pin(labels, f"the parameter {name} is used in a way that is not understood")
            elif dims:
                dim = dims[0]
                along_dim = tuple(slice(None) if d == dim else 0 for d in range(labels.dim()))
                self.trace.uses[name, dim] = labels[along_dim]

    def _pin(self, labels: Tensor, why: str) -> None:
        for number in np.unique(self.classes[labels.numpy()]).tolist():
            self.pinned.setdefault(number, why)

    def _dims_that_differ(self, labels: Tensor) -> list[int]:
        """The dims along which these labels belong to different classes."""
        classes = self.classes[labels.numpy()]
        return [dim for dim in range(classes.ndim) if (classes != classes.take([0], axis=dim)).any()]


def _classes_of(trace: Trace) -> UnitNumbers:
    """The class of each label. Labels of one class were joined, directly or through others: they go together."""
    pairs = torch.cat([torch.zeros(1, 2, dtype=torch.int64), *trace.joins]).numpy()
    graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(trace.labels, trace.labels))
    return connected_components(graph, directed=False)[1].astype(np.int64)  # type: ignore[no-any-return]


def _pinned_classes(trace: Trace, classes: UnitNumbers) -> dict[int, str]:
    """Class whose filters have to stay -> the first reason."""
    reasons = {int(classes[PINNED]): "values of no filter"}
    for labels, why in trace.pins:
        for pinned in np.unique(classes[labels.numpy()]).tolist():
            reasons.setdefault(pinned, why)
    return reasons
