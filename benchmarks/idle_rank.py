"""A trial that does nothing, for any scheduler, and a rank of ours that runs such trials. Without torch.

Trials note moments in a file, by the clock that all processes of a machine share.
"""

import os
import time
from functools import cache
from pathlib import Path
from typing import Any

FILE = "moments.txt"
Moment = tuple[float, str, str]  # second, what happened, to what


def add_moment(folder: Path, what: str, of: str) -> None:
    """Notes that this happens now; both are single words."""
    with (folder / FILE).open("a") as file:
        file.write(f"{time.monotonic()} {what} {of}\n")


def read_moments(folder: Path) -> list[Moment]:
    """What was noted in a folder, in the order of its happening."""
    lines = (line.split() for line in (folder / FILE).read_text().splitlines())
    return sorted((float(moment_s), what, of) for moment_s, what, of in lines)


def idle(folder: Path) -> None:
    """Do nothing, and note the begin and the end of it in a folder."""
    process = str(os.getpid())
    add_moment(folder, "begin", process)
    add_moment(folder, "end", process)


class IdleRank:
    """begin / advance / close, as sweeps.worker.trial.TrialRank; all about the trial is in its settings of the data.

    Its stages compute nothing, but are stored: the driver makes rows of them. With `predictions`, the last one is an
    operating point of so many test images.
    """

    def __init__(self) -> None:
        import torch  # noqa: F401  # as the ranks of trials do: meanwhile the other slots start

        self._keys: list[str] = []
        self._order = 0

    def begin(self, task_json: str) -> None:
        """Take up a trial."""
        from sweeps.worker.messages import TrialTask  # imports pydantic: not for the other schedulers

        self._task = TrialTask.from_json(task_json)
        self._data = self._task.settings.values["data"]
        self._keys = list(self._data["stage_keys"])
        self._order = 0

    def advance(self) -> str:
        """Do the next stage, which is nothing."""
        from sweeps.worker.messages import StageReport, TrialReport

        if self._order == len(self._keys):
            return TrialReport(kind="finished").to_json()
        order, self._order = self._order, self._order + 1
        if self._order == len(self._keys):
            idle(Path(self._data["moments"]))
        self._store(order)
        stage = StageReport(stage_key=self._keys[order], order=order, cached=False, seconds=0.0, **self._point())
        return TrialReport(kind="stage", stages=(stage,)).to_json()

    def close(self) -> None:
        """Release nothing."""

    def _point(self) -> dict[str, Any]:
        is_last = self._order == len(self._keys)
        return {"point": 0, "validation_score": 0.5} if is_last and self._data["predictions"] else {}

    def _store(self, order: int) -> None:
        from tailor.execution.cache import Cache, MadeBy, StageDescription

        made_by = MadeBy(
            compute_s=0.0, device="cpu", ranks=1, threads=1, torch_version="none", trial_id=self._task.trial_id,
            run=self._task.run_id,
        )  # fmt: skip
        measures = self._point() is not None
        description = StageDescription(
            kind="operating_point" if measures else "idle", version=1, parents=tuple(self._keys[:order][-1:]),
            settings={"asked_removed_macs_fraction": None}, info=POINT if measures else {}, made_by=made_by,
        )  # fmt: skip
        content = predicted(self._data["predictions"]) if measures else b""
        Cache(self._task.cache).write(self._keys[order], description, content)


MACS = 1_000_000
POINT = {
    "macs": MACS, "original_macs": MACS, "params": 1, "layers": [], "metric": "accuracy", "deciding_score": 0.5,
    "validation_score": 0.5, "validation_loss": 1.0, "validation_images": 0,
}  # fmt: skip


@cache
def predicted(images: int) -> bytes:
    """The tensors of an operating point that names so many test images, half of them rightly."""
    import numpy as np
    import safetensors.numpy

    of_split = {"validation": np.arange(0), "test": np.arange(images)}
    tensors = {}
    for split, ids in of_split.items():
        columns = {"image_id": ids, "label": ids % 2, "prediction": 0 * ids, "probability": 1.0 / (1 + ids)}
        tensors |= {f"{split}/{name}": values for name, values in columns.items()}
    return safetensors.numpy.save(tensors)
