"""Which images an epoch shows, in which order, and how much each counts, also where classes differ in size.

Shapes: N samples, K classes.
"""

from typing import Literal

import torch
from torch import Tensor

AGAIN = 0x9E3779B1  # an odd number, so that an image that is shown again has other draws


def balanced_order(labels: Tensor, numbers: torch.Generator) -> Tensor:
    """Draw N samples by their labels (N,), with repetition and each class equally often on average: indices (N,).

    As torch's `WeightedRandomSampler` with the weight 1 / (samples of the class).

    >>> labels = torch.tensor([0] * 900 + [1] * 100)
    >>> counts = labels[balanced_order(labels, torch.Generator().manual_seed(0))].bincount()
    >>> counts.sum().item(), counts.min().item() > 400
    (1000, True)
    """
    counts = labels.bincount()
    return torch.multinomial(1.0 / counts[labels].double(), len(labels), replacement=True, generator=numbers)


def times_before(order: Tensor) -> Tensor:
    """Return how often each entry of an order (N,) has come before.

    >>> times_before(torch.tensor([4, 2, 4, 4, 2])).tolist()
    [0, 0, 1, 2, 1]
    """
    by_value = order.argsort(stable=True)
    ordered = order[by_value]
    before = torch.empty_like(order)
    before[by_value] = torch.arange(len(order), device=order.device) - torch.searchsorted(ordered, ordered)
    return before


def image_weights(labels: Tensor, class_weights: Literal["balanced"] | tuple[float, ...]) -> Tensor:
    """Return the weight of each image's loss (N,), float32, by its label; `balanced` ones have the mean 1.

    `balanced` is scikit-learn's: N / (K x images of the class), K the classes that have images.

    >>> image_weights(torch.tensor([0, 0, 0, 2]), "balanced").tolist()
    [0.6666666865348816, 0.6666666865348816, 0.6666666865348816, 2.0]
    """
    if class_weights == "balanced":
        counts = labels.bincount()
        of_classes = len(labels) / ((counts > 0).sum() * counts.clamp_min(1).double())
    else:
        of_classes = torch.tensor(class_weights, dtype=torch.float64, device=labels.device)
    return of_classes[labels].float()
