"""The units of a network: what goes as one, from the labels that one forward pass joined.

A class of joined labels is a unit. Units that have equally many indices of the same tensors make a group.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from tailor.pruning.dependency_trace import PINNED, Trace
from tailor.pruning.group_records import Kind, Slice

Numbers = np.ndarray[tuple[int], np.dtype[np.int64]]


class Units:
    """All units of a trace, by the number of their class."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.classes = _classes_of(trace)
        self.pinned = _pinned_classes(trace, self.classes)  # class -> why it has to stay
        self._pin_what_is_no_rectangle()
        self._use_parameters()

    def units_by_group(self) -> Iterator[tuple[Numbers, tuple[Slice, ...]]]:
        """The units of each group, which have equally many indices of the same tensors, and what belongs to them."""
        signature = np.zeros(int(self.classes.max()) + 1, dtype=np.uint64)  # of each unit; 0: no tensor has it
        for (tensor, dim), labels in self.trace.uses.items():
            used, times = np.unique(self.classes[labels.numpy()], return_counts=True)
            drawn = hashlib.sha256(f"{dim} {tensor}".encode()).digest()
            signature[used] += np.frombuffer(drawn[:8], dtype=np.uint64) * times.astype(np.uint64)
        group_of = np.unique(signature, return_inverse=True)[1]
        uses: dict[int, list[tuple[str, int]]] = defaultdict(list)
        for use, labels in self.trace.uses.items():
            for number in np.unique(group_of[self.classes[labels.numpy()]]).tolist():
                uses[number].append(use)
        for number, of_group in uses.items():
            units = np.flatnonzero(group_of == number)
            yield units, tuple(self._slice(units, use) for use in of_group)

    def _slice(self, units: Numbers, use: tuple[str, int]) -> Slice:
        """What belongs to these units of one dim of a tensor, in their order."""
        tensor, dim = use
        row_of = np.full(int(self.classes.max()) + 1, -1)
        row_of[units] = np.arange(len(units))
        rows = row_of[self.classes[self.trace.uses[use].numpy()]]
        indices = np.flatnonzero(rows >= 0)
        table = indices[np.argsort(rows[indices], kind="stable")].reshape(len(units), -1)
        return Slice(tensor=tensor, dim=dim, indices=torch.from_numpy(table), loose=tensor in self.trace.loose)

    def kind(self, units: Numbers) -> Kind:
        """What such units are."""
        if any(self._has(units, product.each) for product in self.trace.products if product.has_heads):
            return "heads"
        tokens = (labels for labels in self.trace.loose.values() if labels.numel() > max(labels.shape))
        streams = (*self.trace.normed, *tokens)
        if any(self._has(units, labels) for labels in streams):
            return "stream"
        is_grouped = any(self._has(units, labels) for labels in self.trace.grouped.values())
        return "conv_groups" if is_grouped else "filters"

    def product_macs(self, units: Numbers) -> int:
        """Those of products of activations that go with each of these units."""
        products = self.trace.products
        return sum(p.macs * self.count_of(units, p.each) for p in products)

    def count_of(self, units: Numbers, labels: Tensor) -> int:
        """How many of these labels belong to each of these units."""
        return int((self.classes[labels.numpy()] == units[0]).sum())

    def reasons(self, units: Numbers) -> list[str]:
        """Why some of these units have to stay."""
        return sorted({self.pinned[unit] for unit in units.tolist() if unit in self.pinned})

    def _has(self, units: Numbers, labels: Tensor) -> bool:
        return bool(np.isin(self.classes[labels.numpy()], units).any())

    def _pin_what_is_no_rectangle(self) -> None:
        for labels, fixed in self.trace.grids:
            dims = self._dims_that_differ(labels)
            if len(dims) > 1 or fixed & set(dims):
                self._pin(labels, "the code reads its outputs by their places")

    def _use_parameters(self) -> None:
        """Note for each parameter of its own the dim that loses indices."""
        used = {tensor for tensor, _ in self.trace.uses}
        for name, labels in self.trace.loose.items():
            dims = self._dims_that_differ(labels)
            if len(dims) > 1 or name in used or name in self.trace.fixed:
                self._pin(labels, f"the parameter {name} is used in a way that is not understood")
            elif dims:
                self.trace.uses[name, dims[0]] = (
                    labels.movedim(dims[0], 0).flatten(1)[:, 0] if labels.dim() > 1 else labels
                )

    def _pin(self, labels: Tensor, why: str) -> None:
        for number in np.unique(self.classes[labels.numpy()]).tolist():
            self.pinned.setdefault(number, why)

    def _dims_that_differ(self, labels: Tensor) -> list[int]:
        classes = self.classes[labels.numpy()]
        return [d for d in range(classes.ndim) if (classes != classes.take([0], axis=d)).any()]


def _classes_of(trace: Trace) -> Numbers:
    """Class of each label: labels that were joined, directly or through others, are removed together."""
    pairs = torch.cat([torch.zeros(1, 2, dtype=torch.int64), *trace.joins]).numpy()
    graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(trace.labels, trace.labels))
    return connected_components(graph, directed=False)[1].astype(np.int64)  # type: ignore[no-any-return]


def _pinned_classes(trace: Trace, classes: Numbers) -> dict[int, str]:
    """Classes whose filters have to stay -> the first reason."""
    reasons = {int(classes[PINNED]): "values of no filter"}
    for labels, why in trace.pins:
        for number in np.unique(classes[labels.numpy()]).tolist():
            reasons.setdefault(number, why)
    return reasons
