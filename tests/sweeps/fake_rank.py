"""A stand-in for the trial that runs in a rank's process: made-up stages in a real cache, no torch.

What a stage does is written in its trial's configuration: {"fake": {"stages": [{"key", "seconds", ...}]}}.
Each computation leaves a line in <cache>/computed.log, so that a test sees what was computed, by whom and when.
"""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from hpc.ranks.ranks import Heartbeat
from sweeps.run.run_folder import RunFolder
from sweeps.worker.messages import StageReport, TrialReport, TrialTask
from tailor.execution.cache import Cache, MadeBy, StageDescription


class FakeRank:
    """begin / advance / close, as sweeps.worker.trial.TrialRank."""

    def __init__(self) -> None:
        self._rank = int(os.environ["RANK"])
        self._task: TrialTask
        self._stages: list[dict[str, Any]] = []
        self._done = 0
        self._words = ""

    def begin(self, task_json: str) -> None:
        self._task = TrialTask.from_json(task_json)
        own = RunFolder(self._task.run).private_cache(self._task.trial_id)
        self._cache = Cache(own if self._task.private_cache else self._task.cache)
        self._done = 0
        self._stages = list(self._task.settings.values["fake"]["stages"])

    def advance(self) -> str:
        if not self._stages:
            return TrialReport(kind="finished").to_json()
        stage = self._stages.pop(0)
        self._words = stage.get("words", "")
        begin = time.time()
        cached = self._cache.has(stage["key"])
        if not cached and self._rank == 0:
            self._compute(stage)
        report = StageReport(
            stage_key=stage["key"],
            order=self._done,
            cached=cached,
            seconds=time.time() - begin,
            point=stage.get("point"),
            validation_score=None if stage.get("point") is None else stage["accuracy"],
        )
        self._done += 1
        return TrialReport(kind="stage", stages=(report,)).to_json()

    def heartbeat(self) -> Heartbeat:
        return Heartbeat(done_fraction=0.25 if self._words else 0.0, words=self._words)

    def close(self) -> None:
        """Nothing to let go of."""

    def _compute(self, stage: dict[str, Any]) -> None:
        begin = time.time()
        if stage.get("tells"):
            Path(stage["tells"]).write_text(str(os.getpid()))
        if stage.get("raises"):
            raise ValueError(stage["raises"])
        deaths = stage.get("deaths", 0)
        if deaths:
            seen = self._task.cache / f"deaths-{stage['key']}"
            seen.parent.mkdir(parents=True, exist_ok=True)
            count = int(seen.read_text()) if seen.exists() else 0
            if count < deaths:
                seen.write_text(str(count + 1))
                os.kill(os.getpid(), signal.SIGKILL)
        self._work(stage.get("seconds", 0.0), stage.get("until"))
        end = time.time()  # before anybody sees the stage, and begins one after it
        made_by = MadeBy(
            compute_s=end - begin, device="cpu", ranks=1, threads=1, torch_version="none",
            trial_id=self._task.trial_id, run=self._task.run_id,
        )  # fmt: skip
        description = StageDescription(kind="fake", version=1, settings={}, parents=(), info={}, made_by=made_by)
        self._cache.write(stage["key"], description, b"")
        self._task.cache.mkdir(parents=True, exist_ok=True)
        record = {"key": stage["key"], "trial": self._task.trial_id, "begin": begin, "end": end}
        with (self._task.cache / "computed.log").open("a") as log:
            log.write(json.dumps(record | {"process": os.getpid()}) + "\n")

    def _work(self, seconds: float, until: str | None) -> None:
        """Takes so long; or, where another stage's key is given, until that stage is there, and so long at most."""
        if until is None:
            time.sleep(seconds)
            return
        limit_s = time.monotonic() + seconds
        while not self._cache.has(until) and time.monotonic() < limit_s:
            time.sleep(0.01)
