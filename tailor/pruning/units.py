"""The units of a transformer: what goes as one, from the labels that one forward pass joined.

A class of joined labels is a unit. Units that have equally many indices of the same tensors make a group.
"""

import hashlib
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from tailor.pruning.groups import Classes, Kind, Slice, classes_of, pinned_classes
from tailor.pruning.whole_trace import WholeTrace

Numbers = np.ndarray[tuple[int], np.dtype[np.int64]]


class Units:
    """All units of a trace, by the number of their class."""

    def __init__(self, trace: WholeTrace) -> None:
        self.trace = trace
        self.classes: Classes = classes_of(trace)
        self.pinned = pinned_classes(trace, self.classes)  # class -> why it has to stay
        self._pin_what_is_no_rectangle()
        self._use_parameters()

    def of_each_group(self) -> Iterator[Numbers]:
        """The units of each group: those that have equally many indices of the same tensors."""
        count = int(self.classes.max()) + 1
        signature, is_used = np.zeros(count, dtype=np.uint64), np.zeros(count, dtype=bool)
        for (tensor, dim), labels in self.trace.uses.items():
            used, times = np.unique(self.classes[labels.numpy()], return_counts=True)
            drawn = hashlib.sha256(f"{dim} {tensor}".encode()).digest()
            signature[used] += np.frombuffer(drawn[:8], dtype=np.uint64) * times.astype(np.uint64)
            is_used[used] = True
        for number in np.unique(signature[is_used]):
            yield np.flatnonzero(is_used & (signature == number))

    def slices(self, units: Numbers) -> tuple[Slice, ...]:
        """What belongs to these units, in their order."""
        row_of = np.full(int(self.classes.max()) + 1, -1)
        row_of[units] = np.arange(len(units))
        slices = []
        for (tensor, dim), labels in self.trace.uses.items():
            rows = row_of[self.classes[labels.numpy()]]
            indices = np.flatnonzero(rows >= 0)
            if len(indices):
                indices = indices[np.argsort(rows[indices], kind="stable")]
                table = torch.from_numpy(indices.reshape(len(units), -1))
                slices.append(Slice(tensor=tensor, dim=dim, indices=table, loose=tensor in self.trace.loose))
        return tuple(slices)

    def kind(self, units: Numbers) -> Kind:
        """What such units are."""
        if any(self._has(units, product.heads) for product in self.trace.products):
            return "heads"
        streams = (*self.trace.normed, *self.trace.loose.values())
        if any(self._has(units, labels) for labels in streams):
            return "stream"
        is_grouped = any(self._has(units, labels) for labels in self.trace.grouped.values())
        return "conv_groups" if is_grouped else "filters"

    def product_macs(self, units: Numbers) -> int:
        """Those of products of activations that go with each of these units."""
        products = self.trace.products
        return sum(p.macs_per_head * int((self.classes[p.heads.numpy()] == units[0]).sum()) for p in products)

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
