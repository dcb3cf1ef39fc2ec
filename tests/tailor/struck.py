"""A trial that is killed at its third checkpoint of a stage, or of none."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from tailor.config.trial import TrialConfig
from tailor.execution.cache import Cache
from tailor.execution.runner import run_trial
from tailor.parallel.process_group import join


def run_until_struck(text: str, cache: Path, checkpoints: Path, name: str) -> None:
    """In a process of its own: SIGKILL as soon as the third checkpoint of this name stands in its place."""
    written = []

    def strike(event: str, given: tuple[Any, ...]) -> None:
        if event == "os.rename" and Path(given[1]).name == name:
            written.append(event)
            if len(written) == 3:
                Path(given[0]).replace(given[1])
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(strike)
    torch.set_num_threads(1)
    where: dict[str, Any] = {"cache": Cache(cache), "ranks": join("cpu"), "checkpoint_folder": checkpoints}
    for _ in run_trial(TrialConfig.model_validate_json(text), **where, checkpoint_every_s=0.0):
        pass
