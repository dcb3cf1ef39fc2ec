"""The embedded data set: the handwritten digits that scikit-learn ships, cut into a source and a target task."""

from importlib.metadata import distribution

import numpy as np
import torch

from tailor.data.task_data import Samples

TARGET_DIGITS = (5, 6, 7, 8, 9)


def load() -> dict[str, Samples]:
    """Return source task (digits 0-4) and target task (digits 5-9 as classes 0-4); images uint8 (N, 1, 8, 8), 0-255."""
    # As `load_digits` reads it, without importing scikit-learn, which takes most of a second in each new rank.
    file = distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")
    scans = torch.from_numpy(np.loadtxt(str(file), delimiter=","))  # 8 x 8 grey levels and the digit
    # The scans have 17 grey levels, 0-16; white is 255 rather than 256.
    images = scans[:, :-1].reshape(-1, 1, 8, 8).mul(16).clamp(max=255).to(torch.uint8)
    digits = scans[:, -1].to(torch.int64)
    ids = torch.arange(len(digits))
    first_target_digit = min(TARGET_DIGITS)
    is_target = digits >= first_target_digit
    is_source = ~is_target
    return {
        "source": Samples(images=images[is_source], labels=digits[is_source], ids=ids[is_source]),
        "target": Samples(images=images[is_target], labels=digits[is_target] - first_target_digit, ids=ids[is_target]),
    }
