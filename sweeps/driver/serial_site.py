"""One trial after the other on this machine, without Ray: the obvious reference for all other sites."""

import socket

from hpc.ranks.process_ranks import ProcessRanks
from sweeps.driver.board import SweepState, TrialAssignment
from sweeps.driver.signals import StopSignals
from sweeps.driver.slot import Report, Slot
from sweeps.scheduling.order import Blocked
from sweeps.spec.resources import Resources
from transtailor.waiting import Unlimited, wait_for

LOOK_S = 1.0  # while the disk is full


class SerialSite:
    """One slot."""

    def __init__(self, target: str, resources: Resources) -> None:
        self._target, self._resources = target, resources

    def run(self, board: SweepState, stop: StopSignals) -> None:
        """Runs all trials; raises Interrupted when `stop` was asked for."""
        slot = Slot(self._make_ranks)
        try:
            while (job := self._next(board, stop)) is not None:
                assert not isinstance(job, Blocked), "nothing else runs, so there is nothing to wait for"
                slot.take(job.task, job.attempts)
                board.report(job.trial_id, Report(kind="begun", hosts=(socket.gethostname(),), over=False))
                over = False
                while not over:
                    with stop.interruptible():
                        report = slot.step()
                    board.report(job.trial_id, report)
                    over = report.over
            slot.close()
        finally:
            slot.kill()

    def _next(self, board: SweepState, stop: StopSignals) -> TrialAssignment | Blocked | None:
        def may_start() -> bool:
            return not board.waiting or not board.is_paused  # which says so itself

        with stop.interruptible():
            wait_for(may_start, "room on the disk", Unlimited("somebody has to make room"), poll_s=LOOK_S, tell=None)
        return board.next(self._resources.ranks)

    def _make_ranks(self) -> ProcessRanks:
        resources = self._resources
        return ProcessRanks(
            self._target,
            resources.ranks,
            threads_per_rank=resources.threads_per_rank,
            hang_limit_s=resources.hang_limit_s,
        )
