"""One trial after the other on this machine, without Ray: the obvious reference for all other sites."""

from hpc.process_ranks import ProcessRanks
from sweeps.board import Board
from sweeps.order import Wait
from sweeps.slot import Slot
from sweeps.spec import Resources
from sweeps.stop import StopSignals


class SerialSite:
    """One slot."""

    def __init__(self, target: str, resources: Resources) -> None:
        self._target, self._resources = target, resources

    def run(self, board: Board, stop: StopSignals) -> None:
        """Runs all trials; raises Interrupted when `stop` was asked for."""
        slot = Slot(self._make_ranks)
        try:
            while (job := board.next(self._resources.ranks)) is not None:
                assert not isinstance(job, Wait), "nothing else runs, so there is nothing to wait for"
                slot.take(job.task, job.attempts)
                over = False
                while not over:
                    with stop.interruptible():
                        report = slot.step()
                    board.report(job.trial_id, report)
                    over = report.over
            slot.close()
        finally:
            slot.kill()

    def _make_ranks(self) -> ProcessRanks:
        return ProcessRanks(self._target, self._resources.ranks, threads_per_rank=self._resources.threads_per_rank)
