"""Seconds of stages on a GPU before any was measured there: from a few measured training steps, as a wide range.

Stages are scaled by planned work, so by MACs, images and pixels. Three things widen the range (C):

- For equal MACs the measured networks differ, and others are taken to be among them.
- A network with fewer MACs than all measured ones is bound by memory, and may take as long for an image as the one with
  the fewest.
- float32, without TF32, takes at least twice as long as bf16, as it moves twice the bytes, and at most 15 times, which
  is the ratio of the peaks on the card (989 and 67 TFLOP/s in NVIDIA's data sheet of the H200).
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sweeps.planning.plan import Plan
from tailor.execution.dry_run import PlannedStage
from tailor.facts.networks import NETWORKS
from tailor.stages import BACKWARD_WORK

TABLE_FILE = Path(__file__).parent / "measured_steps.json"  # compared with its evidence by a test
FLOAT32_LEAST, FLOAT32_MOST = 2.0, 15.0


@dataclass(frozen=True, kw_only=True)
class MeasuredSteps:
    """Training steps that were measured on one GPU."""

    device: str
    page: str  # where the measurement is
    settings: str  # of the measured steps
    images_per_s: Mapping[str, float]  # of training, by network, at the size for which its MACs are known
    precisions: frozenset[str] = frozenset({"bf16"})  # of the planned trials
    ranks: int = 1  # of each trial, which share its images

    def seconds(self, stage: PlannedStage, network: str) -> float:
        """Return the middle of the range, as a factor from both ends."""
        return math.sqrt(self.least_s(stage, network) * self.most_s(stage, network))

    def least_s(self, stage: PlannedStage, network: str) -> float:  # noqa: ARG002
        """Return the least seconds that a stage may take."""
        slower = FLOAT32_LEAST if self.precisions.isdisjoint({"bf16"}) else 1.0
        return stage.work * min(self._s_per_work()) * slower / self.ranks

    def most_s(self, stage: PlannedStage, network: str) -> float:
        """Return the most seconds that a stage may take."""
        slower = 1.0 if self.precisions == {"bf16"} else FLOAT32_MOST
        fewest_macs = min(NETWORKS[name].macs for name in self.images_per_s)
        bound_by_memory = max(1.0, fewest_macs / NETWORKS[network].macs)
        return stage.work * max(self._s_per_work()) * slower * bound_by_memory / self.ranks

    def is_scaled(self, stage: PlannedStage, network: str) -> bool:  # noqa: ARG002
        """Whether the seconds are a range: of every stage with planned work."""
        return bool(stage.work)

    def _s_per_work(self) -> Iterable[float]:
        return [
            1.0 / (speed * NETWORKS[name].macs * (1.0 + BACKWARD_WORK)) for name, speed in self.images_per_s.items()
        ]


def measured_steps(plan: Plan) -> MeasuredSteps:
    """Return the committed table, for the trials of a plan."""
    precisions = {str(trial.settings.values["optimisation"]["precision"]) for trial in plan.trials}
    facts = json.loads(TABLE_FILE.read_bytes())
    return MeasuredSteps(**facts, precisions=frozenset(precisions), ranks=plan.resources.ranks)
