"""The properties of a simulated cluster, and the result of a simulation."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class SimulatedCluster:
    """How a cluster behaves. Random times are exponential and drawn from `seed`; 0 and infinity are not random."""

    start_s: float = 0.0
    """From the start of a worker's job until the worker joins."""
    mean_queue_wait_s: float = 0.0
    """From a job's submission to its start."""
    mean_time_to_failure_s: float = math.inf
    """Of a node."""
    noticed_after_s: float = 0.0
    """From a node's failure to the moment when its trials wait again."""
    checkpoint_every_s: float | None = None
    """Inside a stage, and at once when a worker drains; None: an interrupted stage starts again."""
    trial_start_s: float = 0.0
    """What each attempt takes in addition to its stages."""
    decide_every_s: float = 1.0
    """The minimum time between two decisions on the number of workers."""
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class SimulationResult:
    """The result of a simulation. A slot runs one trial at a time; slot-seconds are its seconds."""

    makespan_s: float
    trials: int
    unfinished: int
    """Trials for which no worker was available any more."""
    slots: int
    """The maximum at a time."""
    work_s: float
    """Seconds of all stages, each once."""
    critical_path_s: float
    """Seconds of the longest chain of stages that can only be computed one after the other."""
    in_stages_s: float
    """Slot-seconds in which a stage was computed, lost ones included."""
    lost_s: float
    """Of these, lost: computed again after a failure or the end of a walltime."""
    held_s: float
    """Slot-seconds of workers from the start to the end of their jobs."""
    worker_s: float
    """The same in seconds of workers."""
    without_worker_s: float
    """Slot-seconds that trials could have used if their workers had been available."""
    without_work_s: float
    """Slot-seconds that no trial could have used: each waiting trial needed a stage of a running one."""
    workers: int
    """Submitted jobs of workers."""
    failures: int
    """Workers that failed while they computed."""

    @property
    def utilisation(self) -> float:
        """Slot-seconds in stages over those held, in [0, 1]; 1 if none were held."""
        return self.in_stages_s / self.held_s if self.held_s else 1.0

    @property
    def limited_by(self) -> str:
        """What limited the speed of the sweep: the largest part of its slot-seconds."""
        where = {
            "slots": self.makespan_s * self.slots - self.without_worker_s - self.without_work_s,
            "queue": self.without_worker_s,
            "critical path": self.without_work_s,
        }
        return max(where, key=lambda name: where[name])
