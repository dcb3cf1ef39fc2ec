"""One trial after the other on this machine, without Ray: the simple reference for all other sites."""

import socket

from hpc.ranks.process_ranks import ProcessRanks
from sweeps.driver.signals import StopSignals
from sweeps.driver.sweep_state import SweepState
from sweeps.scheduling.trial_queue import Blocked
from sweeps.spec.resources import Resources
from sweeps.worker.messages import TrialReport, TrialTask
from sweeps.worker.slot import Slot
from transtailor.waiting import Unlimited, wait_for

LOOK_S = 1.0  # while the disk is full


class SerialSite:
    """A backend of one slot."""

    def __init__(self, target: str, resources: Resources) -> None:
        self._target = target
        self._resources = resources

    def run(self, sweep_state: SweepState, stop: StopSignals) -> None:
        """Run all trials; raises Interrupted if `stop` was asked for."""
        slot = Slot(self._start_ranks)
        try:
            while (task := self._next(sweep_state, stop)) is not None:
                assert not isinstance(task, Blocked), "no other trial runs, so none can block this one"
                slot.take(task)
                report = TrialReport(kind="placed", hosts=(socket.gethostname(),))
                sweep_state.report(task.trial_id, report)
                while not report.ends_attempt:
                    with stop.interruptible():
                        report = slot.step()
                    sweep_state.report(task.trial_id, report)
            slot.close()
        finally:
            slot.kill()

    def _start_ranks(self) -> ProcessRanks:
        return ProcessRanks(
            self._target,
            self._resources.ranks,
            threads_per_rank=self._resources.threads_per_rank,
            hang_limit_s=self._resources.hang_limit_s,
        )

    def _next(self, sweep_state: SweepState, stop: StopSignals) -> TrialTask | Blocked | None:
        """Return the next trial as soon as the disk has room; None: no trial waits."""

        def may_start() -> bool:
            return not sweep_state.waiting or sweep_state.pause_or_resume()

        with stop.interruptible():
            wait_for(may_start, "room on the disk", Unlimited("a user has to make room"), poll_s=LOOK_S, tell=None)
        return sweep_state.next()
