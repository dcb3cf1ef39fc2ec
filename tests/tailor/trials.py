"""Short trials on the real digits for the tests of `tailor`."""

from typing import Any

import torch

from tailor.catalogue.datasets import DataInfo
from tailor.config.parsing import parse_trial
from tailor.config.trial import TrialConfig

NETWORKS = ("digits_vgg", "digits_resnet")
SHORT = {"source": {"epochs": 3}, "optimisation": {"epochs": 2, "head_epochs": 2}}

PHOTOGRAPHS = DataInfo(
    description="Planned and never loaded.",
    loader="nowhere:load",
    sha256="0" * 64,
    input_shape=(3, 64, 64),
    source_classes=0,
    target_classes=5,
    source_images=0,
    target_images=1000,
    test_images=300,
)


def short_trial(method: dict[str, Any], **settings: Any) -> TrialConfig:
    """A trial of a few epochs; `settings` replace whole tables of it."""
    return parse_trial(SHORT | {"method": method} | settings, "test")


def assert_equal_tensors(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    """Equal names and equal bits."""
    assert left.keys() == right.keys()
    different = [name for name in left if not torch.equal(left[name], right[name])]
    assert different == []
