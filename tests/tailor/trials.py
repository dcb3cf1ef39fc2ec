"""Short trials on the real digits for the tests of `tailor`."""

from typing import Any

import torch

from tailor.config import TrialConfig, parse_trial

NETWORKS = ("digits_vgg", "digits_resnet")
SHORT = {"source": {"epochs": 3}, "optimisation": {"epochs": 2, "head_epochs": 2}}


def short_trial(method: dict[str, Any], **settings: Any) -> TrialConfig:
    """A trial of a few epochs; `settings` replace whole tables of it."""
    return parse_trial(SHORT | {"method": method} | settings, "test")


def assert_equal_tensors(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    """Equal names and equal bits."""
    assert left.keys() == right.keys()
    different = [name for name in left if not torch.equal(left[name], right[name])]
    assert different == []
