"""A slot: runs one trial after the other on ranks that stay warm in between."""

import contextlib
import time
from collections.abc import Callable, Generator
from typing import Any

from hpc.ranks.ranks import LOG_TAIL_LINES, Heartbeat, RankDied, RankFailed, RankGroup, RankHung
from sweeps.worker.messages import RankAnswer, TrialAssignment, TrialReport
from transtailor.lines import lines_of

REPORT_EVERY_S = 2.0  # of the progress of a stage


class Slot:
    """Runs trials stage by stage, and reports how far a long stage is.

    If a rank dies or hangs, all are replaced by new ones, on which the trial resumes from what is stored. That costs
    an attempt, unless the rank was stopped from outside (SIGSTOP). If a rank raises, the trial fails: the same call
    would raise again.
    """

    def __init__(self, make_ranks: Callable[[], RankGroup]) -> None:
        self._make_ranks = make_ranks
        self._ranks: RankGroup | None = None
        self._task_json = ""
        self._attempts_left = 0
        self._has_begun = False  # on these ranks
        self._running_stage: Generator[Heartbeat, None, list[Any]] | None = None  # the call that all ranks are in
        self._report_every_s = REPORT_EVERY_S
        self._reported_s = 0.0

    def take(self, assignment: TrialAssignment, report_every_s: float = REPORT_EVERY_S) -> None:
        """Take a trial; starts nothing yet."""
        self._task_json = assignment.task.to_json()
        self._attempts_left = assignment.attempts
        self._has_begun = False
        self._report_every_s = report_every_s

    def step(self) -> TrialReport:
        """Run the trial to the end of its next stages, or for `report_every_s`; in between, the ranks continue."""
        try:
            answer = self._advance()
        except RankDied as death:
            self.kill()
            if isinstance(death, RankHung) and death.is_suspended:
                return TrialReport(kind="suspended", cause=str(death), log_tail=death.log_tail, over=False)
            self._attempts_left -= 1
            return TrialReport(kind="died", cause=str(death), log_tail=death.log_tail, over=self._attempts_left == 0)
        except RankFailed as failure:
            self.kill()
            return failed_report(failure)
        if isinstance(answer, Heartbeat):
            return TrialReport(kind="progress", done_fraction=answer.done_fraction, words=answer.words, over=False)
        if answer.is_paused:
            self.kill()
            return TrialReport(kind="moved", stages=answer.stages, cause="a node of its ranks will end", over=False)
        return TrialReport(kind="finished" if answer.is_over else "stage", stages=answer.stages, over=answer.is_over)

    def start(self) -> RankGroup:
        """Start the ranks if there are none, and return them. Raises RankDied, RankFailed: they did not start."""
        if self._ranks is None:
            self._ranks = self._make_ranks()
        return self._ranks

    def close(self) -> None:
        """End the ranks; how they end does not matter, because what the trials stored is durable already."""
        if self._running_stage is not None:
            self.kill()  # they would answer at its end
        if self._ranks is not None:
            with contextlib.suppress(RankDied, RankFailed):
                self._ranks.close()

    def _advance(self) -> Heartbeat | RankAnswer:
        """Return the ranks' answer at the end of the next stages, or a heartbeat when a report is due."""
        ranks = self.start()
        if not self._has_begun:
            ranks.call("begin", self._task_json)
            self._has_begun = True
        if self._running_stage is None:
            self._running_stage = ranks.call_in_steps("advance")
        try:
            while True:
                heartbeat = next(self._running_stage)
                if time.monotonic() - self._reported_s >= self._report_every_s:
                    self._reported_s = time.monotonic()
                    return heartbeat
        except StopIteration as end:
            self._running_stage = None
            return RankAnswer.from_json(end.value[0])

    def kill(self) -> None:
        """End the ranks at once; the next step starts new ones."""
        if self._ranks is not None:
            self._ranks.kill()
        self._ranks = None
        self._has_begun = False
        self._running_stage = None


def failed_report(failure: RankFailed) -> TrialReport:
    """Return the report that a rank has raised; the trial is over, because the same call would raise again."""
    tail = "\n".join(lines_of(failure.traceback)[-LOG_TAIL_LINES:])
    return TrialReport(kind="failed", cause=str(failure), log_tail=tail, over=True)
