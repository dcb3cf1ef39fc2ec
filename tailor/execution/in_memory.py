"""Runs stages in memory, without a cache, on a model that is given: for networks that no trial describes."""

import math
from dataclasses import dataclass

from tailor.common.errors import ConfigError
from tailor.data.task_data import Samples, Splits
from tailor.model.state import ModelState
from tailor.stage_execution import StageContext, apply, compute
from tailor.stages import FitHead, LoadWeights, OperatingPoint, StageGenerator, Task, TrainSource

REPLACED_STAGES = (TrainSource, LoadWeights, FitHead)  # the user's model takes the place of what they make


@dataclass(frozen=True, kw_only=True)
class SamplesContext(StageContext):
    """What stages need, with samples that are in memory as the training split."""

    samples: Samples | None

    def splits(self, task: Task) -> Splits:  # noqa: ARG002
        """Return the samples as each of the three splits. Raises ConfigError: there are none."""
        if self.samples is None:
            raise ConfigError("these settings read data; give loader = ..., batches of (inputs, targets)")
        return Splits(train=self.samples, validation=self.samples, test=self.samples)


@dataclass(frozen=True, kw_only=True, eq=False)
class StageInMemory:
    """A finished stage; no operating point is measured."""

    key: str
    state: ModelState
    deciding_score: float = math.nan
    removed_macs_fraction: float = math.nan

    def model_state(self) -> ModelState:
        """Return the model's state after this stage."""
        return self.state


def run_in_memory(stages: StageGenerator, first_state: ModelState, context: StageContext) -> ModelState:
    """Run the stages from a model's state on; return its state after the last of them.

    Raises:
        ConfigError: a stage is impossible on this model.
        TrainingError: training diverged.
    """
    state = first_state
    outcome = None
    while True:
        try:
            stage = stages.send(outcome)  # type: ignore[arg-type]  # None starts a generator
        except StopIteration:
            return state
        parent = stage.of.state if isinstance(stage.of, StageInMemory) else first_state
        changes_nothing = isinstance(stage, (*REPLACED_STAGES, OperatingPoint))
        state = parent if changes_nothing else apply(stage, parent, compute(stage, parent, context).tensors)
        outcome = StageInMemory(key=stage.key(), state=state)
