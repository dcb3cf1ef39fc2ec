"""What the driver of a cluster knows of the job of one worker."""

from dataclasses import dataclass
from typing import Literal

from hpc.cluster.autoscaler import Worker
from hpc.slurm.jobs import WAITS, QueuedJob


@dataclass(kw_only=True)
class WorkerJob:
    """A worker's job; times are those of `Cluster.now_s`."""

    id: str
    submitted_s: float
    started_s: float | None = None
    joined_s: float | None = None
    ends_at_s: float | None = None
    idle_since_s: float | None = None
    node: str | None = None  # Ray's id
    host: str | None = None
    reason: str = ""  # why it waits in the queue
    leaves: bool = False  # drained, released or cancelled

    def take_from_queue(self, queued: QueuedJob, now_s: float, clock_was_set_by_s: float) -> None:
        """Take over what SLURM says of the job.

        Args:
            queued: the job as a line of the queue.
            now_s: the present time.
            clock_was_set_by_s: how far SLURM's clock is ahead of `now_s`.
        """
        if queued.state.state in WAITS:
            self.reason = queued.state.explanation
            return
        self.started_s = self.started_s or now_s
        if queued.ends_at is not None:
            self.ends_at_s = queued.ends_at.timestamp() - clock_was_set_by_s

    def as_worker(self) -> Worker:
        """Return the job as the autoscaler sees it."""
        state: Literal["waiting", "starting", "ready", "draining"] = "waiting"
        if self.leaves:
            state = "draining"
        elif self.joined_s is not None:
            state = "ready"
        elif self.started_s is not None:
            state = "starting"
        return Worker(
            job=self.id,
            state=state,
            ends_at_s=self.ends_at_s,
            idle_since_s=self.idle_since_s if state == "ready" else None,
            starting_since_s=self.started_s if state == "starting" else None,
        )
