"""What a simulated cluster is like, and what comes of a schedule there."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class SimulatedCluster:
    """How a cluster behaves. Random times are exponential and drawn from `seed`; one of 0 or infinity is not drawn."""

    start_s: float = 0.0
    """From the start of a worker's job to the worker's joining."""
    mean_queue_wait_s: float = 0.0
    """From a job's submission to its start."""
    mean_time_to_failure_s: float = math.inf
    """Of a node."""
    noticed_after_s: float = 0.0
    """From a node's failure to the moment when its trials wait again."""
    checkpoint_every_s: float | None = None
    """Inside a stage, and at once when a worker drains; None: an interrupted stage begins anew."""
    trial_start_s: float = 0.0
    """What each attempt takes beside its stages."""
    decide_every_s: float = 1.0
    """The least time between two looks at the number of workers."""
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class SimulationResult:
    """What came of a simulation. A slot runs one trial at a time; slot-seconds are its seconds."""

    makespan_s: float
    trials: int
    unfinished: int
    """Trials that no worker could be had for any more."""
    slots: int
    """The most at a time."""
    work_s: float
    """All stages once."""
    critical_path_s: float
    """The longest chain of stages that can only be computed one after the other."""
    in_stages_s: float
    """Slot-seconds in which a stage was computed, those thrown away included."""
    lost_s: float
    """Of these, thrown away: computed again after a failure or the end of a walltime."""
    held_s: float
    """Slot-seconds of workers from the start to the end of their jobs."""
    worker_s: float
    """The same in seconds of workers."""
    without_worker_s: float
    """Slot-seconds that trials could have used, had their workers been there."""
    without_work_s: float
    """Slot-seconds that no trial could have used: each that waited needed a stage of one that ran."""
    workers: int
    """Jobs of workers that were asked for."""
    failures: int
    """Workers that failed while they computed."""

    @property
    def utilisation(self) -> float:
        """Slot-seconds in stages over those held, in [0, 1]; 1 where nothing was held."""
        return self.in_stages_s / self.held_s if self.held_s else 1.0

    @property
    def limited_by(self) -> str:
        """What kept the sweep from ending sooner: where most of the slot-seconds until its end went."""
        where = {
            "slots": self.makespan_s * self.slots - self.without_worker_s - self.without_work_s,
            "queue": self.without_worker_s,
            "critical path": self.without_work_s,
        }
        return max(where, key=lambda name: where[name])
