"""A slot: runs one trial after the other on ranks that stay warm in between."""

import contextlib
import time
from collections.abc import Callable, Generator
from typing import Any, Literal

from hpc.ranks.ranks import LOG_TAIL_LINES, Heartbeat, RankDied, RankFailed, RankGroup, RankHung
from sweeps.worker.messages import TrialReport, TrialTask
from transtailor.lines import lines_of

REPORT_EVERY_S = 2.0  # of the progress of a stage


class Slot:
    """Runs trials stage by stage, and reports how far a long stage is.

    If a rank dies, hangs or raises, the attempt ends and all ranks are killed; the next attempt, of this trial or of
    another, gets new ones. The driver decides whether the trial is tried again.
    """

    def __init__(self, make_ranks: Callable[[], RankGroup]) -> None:
        self._make_ranks = make_ranks
        self._ranks: RankGroup | None = None
        self._task_json = ""
        self._has_begun = False  # on these ranks
        self._running_stage: Generator[Heartbeat, None, list[Any]] | None = None  # the call that all ranks are in
        self._report_every_s = REPORT_EVERY_S
        self._reported_s = 0.0

    def take(self, task: TrialTask, report_every_s: float = REPORT_EVERY_S) -> None:
        """Take a trial; starts nothing yet."""
        self._task_json = task.to_json()
        self._has_begun = False
        self._report_every_s = report_every_s

    def step(self) -> TrialReport:
        """Run the trial to the end of its next stages, or for `report_every_s`; in between, the ranks continue."""
        try:
            report = self._advance()
        except RankDied as death:
            self.kill()
            is_suspended = isinstance(death, RankHung) and death.is_suspended
            kind: Literal["suspended", "died"] = "suspended" if is_suspended else "died"
            return TrialReport(kind=kind, cause=str(death), log_tail=death.log_tail)
        except RankFailed as failure:
            self.kill()
            return failed_report(failure)
        if report.kind == "moved":
            self.kill()
        return report

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

    def _advance(self) -> TrialReport:
        """Return the ranks' report at the end of the next stages, or their progress when a report is due."""
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
                    return TrialReport(kind="progress", done_fraction=heartbeat.done_fraction, words=heartbeat.words)
        except StopIteration as end:
            self._running_stage = None
            return TrialReport.from_json(end.value[0])

    def kill(self) -> None:
        """End the ranks at once; the next step starts new ones."""
        if self._ranks is not None:
            self._ranks.kill()
        self._ranks = None
        self._has_begun = False
        self._running_stage = None


def failed_report(failure: RankFailed) -> TrialReport:
    """Return the report that a rank has raised an error."""
    tail = "\n".join(lines_of(failure.traceback)[-LOG_TAIL_LINES:])
    return TrialReport(kind="failed", cause=str(failure), log_tail=tail)
