"""Ranks of real trials that note when a trial begins, when it first steps and when it is over."""

import os
import signal
from pathlib import Path

from torch.optim.optimizer import register_optimizer_step_pre_hook

from benchmarks.idle_rank import add_moment, read_moments
from sweeps.worker.messages import TrialReport, TrialTask
from sweeps.worker.trial import TrialRank


class WarmRank(TrialRank):
    """A rank as every sweep has it; rank 0 notes the moments of its trials in the run's folder.

    `first_step` is the moment before the optimiser changes weights for the first time in a trial: the ranks have met
    for the gradients by then.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rank, self.ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        self.run, self.trial_id = Path(), ""
        self._steps = 0
        register_optimizer_step_pre_hook(self._count_step)

    def begin(self, task_json: str) -> None:
        """Take up a trial."""
        task = TrialTask.from_json(task_json)
        self.run, self.trial_id, self._steps = task.run, task.trial_id, 0
        self._add_moment("begin")
        super().begin(task_json)

    def advance(self) -> str:
        """Run to the end of the next stage."""
        answer = super().advance()
        if TrialReport.from_json(answer).ends_attempt:
            self._add_moment("end")
        return answer

    def on_step(self, step: int) -> None:
        """Called before each step of the optimiser; the first of a trial is 1."""
        if step == 1:
            self._add_moment("first_step")

    def _count_step(self, *_: object) -> None:
        self._steps += 1
        self.on_step(self._steps)

    def _add_moment(self, what: str) -> None:
        if self.rank == 0:
            add_moment(self.run, what, self.trial_id)


class DyingRank(WarmRank):
    """The last rank of each trial is killed at the trial's second step; the second attempt is let alone."""

    def on_step(self, step: int) -> None:
        """Called before each step of the optimiser; before the second one rank 0 has noted the first."""
        super().on_step(step)
        if step == 2 and self.rank == self.ranks - 1 and not self._has_died():
            add_moment(self.run, "death", self.trial_id)
            os.kill(os.getpid(), signal.SIGKILL)

    def _has_died(self) -> bool:
        return any((what, of) == ("death", self.trial_id) for _, what, of in read_moments(self.run))
