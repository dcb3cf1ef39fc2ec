"""Short trials on the real digits for the tests of `tailor`."""

import contextlib
from typing import Any

import torch

from tailor.config.parsing import parse_trial
from tailor.config.trial import TrialConfig
from tailor.execution.dry_run import PlannedOutcome, stages_of
from tailor.execution.runner import StageEvent
from tailor.facts.datasets import DataInfo
from tailor.stages import Stage

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


def planned_stages(config: TrialConfig) -> list[Stage]:
    """The stages of a trial as its plan walks them."""
    steps = stages_of(config)
    stages = [next(steps)]
    with contextlib.suppress(StopIteration):
        while True:
            stages.append(steps.send(PlannedOutcome(stages[-1].key())))
    return stages


def by_kind(events: list[StageEvent], kind: str) -> list[StageEvent]:
    """The events of the stages of this kind."""
    return [event for event in events if event.result.stage.kind == kind]


def assert_equal_tensors(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    """Equal names and equal bits."""
    assert left.keys() == right.keys()
    different = [name for name in left if not torch.equal(left[name], right[name])]
    assert different == []
