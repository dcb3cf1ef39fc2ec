"""Export each trial that has ended as a Weights & Biases run: to a folder, or online with WANDB_MODE=online.

An offline run cannot be resumed, so a trial is exported as a whole when it has ended. A trial that failed or was
stopped, and ends again later, is another run.
"""

import itertools
import os
import shutil
from pathlib import Path
from typing import Any

from results.export.series import Trial, Value
from results.export.target import library
from transtailor.files import make_folder, name_folder


class WeightsAndBiases:
    """A folder with one folder for each trial, each written atomically."""

    def __init__(self, folder: Path) -> None:
        """Take the folder; raise ResultsError if wandb is not installed."""
        self._mode = os.environ.get("WANDB_MODE", "offline")
        if self._mode == "offline":
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # else it reports errors to its makers
        self._wandb = library("wandb", "wandb")
        self._folder = folder

    def add(self, trial: Trial, values: list[Value]) -> int:
        """Export the trial if it has ended and is not there yet; return its number of values."""
        final = self._folder / f"{trial.name}-{trial.attempts}"
        if trial.status is None or final.exists():
            return 0
        temporary = final.with_name(f".{final.name}")
        shutil.rmtree(temporary, ignore_errors=True)  # of an export that was killed
        make_folder(temporary)
        self._send(trial, values, temporary)
        name_folder(temporary, final)
        return len(values)

    def _send(self, trial: Trial, values: list[Value], folder: Path) -> None:
        run = self._begin(trial, folder)
        try:
            defined = set()
            for value in values:
                if value.tag not in defined:
                    run.define_metric(value.tag, step_metric=_step_metric(value.tag))
                    defined.add(value.tag)
            groups = itertools.groupby(values, key=lambda value: (_step_metric(value.tag), value.step))
            # With their numbers, rows that arrived before an interruption are not added twice.
            for number, ((metric, step), row) in enumerate(groups):
                run.log({metric: step} | {value.tag: value.number for value in row}, step=number)
            run.summary["status"] = trial.status
            if trial.error is not None:
                run.summary["error"] = trial.error
        finally:
            run.finish(exit_code=1 if trial.status == "failed" else 0)  # a stopped trial has not crashed

    def _begin(self, trial: Trial, folder: Path) -> Any:
        settings = self._wandb.Settings(
            mode=self._mode, silent=True, console="off", disable_git=True, disable_job_creation=True, save_code=False,
            x_disable_stats=True, x_disable_meta=True,
        )  # fmt: skip
        return self._wandb.init(
            project=trial.sweep, id=f"{trial.trial_id}-{trial.attempts}", name=trial.name, dir=folder,
            config=dict(trial.settings), group=str(trial.settings["arm"]), settings=settings, reinit="create_new",
            resume="allow" if self._mode == "online" else None,
        )  # fmt: skip


def _step_metric(tag: str) -> str:
    """Return the x axis of a tag's values: the epoch of their stage, or the number of the operating point."""
    part = tag.partition("/")[0]
    return f"{part}/number" if part == "point" else f"{part}/epoch"
