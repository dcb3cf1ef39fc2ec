"""One process of those that share a device: whole trials, one after the other, each from an empty cache."""

import tempfile
from pathlib import Path
from typing import Any

import torch

from tailor.config.trial import TrialConfig
from tailor.execution.cache import Cache
from tailor.execution.runner import run_trial
from tailor.parallel.process_group import ProcessGroup, join, leave

Found = list[tuple[float, float, int]]  # of each operating point: validation score, validation loss, MACs


class PackedRank:
    """Runs the trials that it is given."""

    def __init__(self) -> None:
        self._ranks: ProcessGroup | None = None

    def run(self, settings: dict[str, Any], device: str) -> Found:
        """The results of the trial's operating points."""
        self._ranks = self._ranks or join(device)
        with tempfile.TemporaryDirectory() as cache:
            events = run_trial(TrialConfig.model_validate(settings), cache=Cache(Path(cache)), ranks=self._ranks)
            facts = [event.result.info for event in events if event.point is not None]
        return [(info["validation_score"], info["validation_loss"], info["macs"]) for info in facts]

    def used_gb(self) -> float | None:
        """Memory of the GPU that any process uses; None on a CPU."""
        if self._ranks is None or self._ranks.device.type != "cuda":
            return None
        free, total = torch.cuda.mem_get_info(self._ranks.device)
        return float(total - free) / 1e9

    def close(self) -> None:
        """Leave the process group."""
        leave()
