"""What the driver, the slots and the ranks of trials send each other: records, as JSON where they leave a process.

The driver gives a slot a `TrialTask`, and the slot passes it on to its ranks. They answer with a `TrialReport` for each
stage, or for several short ones, which the slot passes back. The slot itself reports how far a long stage is, and that
a rank has died or failed. A report has a `StageReport` for each stage.

On Ray the task is in a `SlotOrder` to the slot's process. An order may hold a `StageWait` instead, which is answered by
`StagesSeen`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sweeps.spec.json_settings import JsonSettings
from tailor.execution.dry_run import Rung
from transtailor.documents import Record


@dataclass(frozen=True, kw_only=True)
class TrialTask(Record):
    """To the ranks: the trial that they run next."""

    trial_id: str
    settings: JsonSettings
    run: Path
    cache: Path
    private_cache: bool
    device: Literal["cpu", "cuda"]
    imports: tuple[Path, ...]  # the run's copies of the user's modules
    run_id: str  # see `LaunchRecord.run_id`
    rung: Rung | None = None  # where it rests for now; None: it runs to its end


@dataclass(frozen=True, kw_only=True)
class StageReport(Record):
    """A finished stage of a trial."""

    stage_key: str
    order: int  # of execution in the trial, from 0
    cached: bool
    seconds: float
    point: int | None = None  # the number of the operating point that it ends at
    validation_score: float | None = None  # of a stage that measures, also between operating points


@dataclass(frozen=True, kw_only=True)
class TrialReport(Record):
    """From a slot to the driver: what happened to its trial."""

    kind: Literal["placed", "progress", "stage", "finished", "failed", "died", "suspended", "moved"]
    """After the last five the slot has no trial: it is finished; a rank raised an error; a rank died; a rank was
    stopped from outside; the trial has paused because its ranks have to leave their node. After the last three other
    ranks may resume it."""
    done_fraction: float = 0.0  # of kind "progress": share of the running stage
    words: str = ""  # of kind "progress": how far the stage is, for people
    stages: tuple[StageReport, ...] = ()  # of kinds "stage", "moved" and "finished"
    cause: str | None = None  # of kinds "died", "failed", "suspended" and "moved"
    log_tail: str | None = None  # of kinds "died", "failed" and "suspended"
    nodes: tuple[str, ...] = ()  # of kind "placed": Ray's ids of the nodes of its ranks, by rank
    hosts: tuple[str, ...] = ()  # of kind "placed": the names of these machines

    @property
    def ends_attempt(self) -> bool:
        """Whether the slot has no trial after this report."""
        return self.kind in ("finished", "failed", "died", "suspended", "moved")


@dataclass(frozen=True, kw_only=True)
class StageWait(Record):
    """To a slot's process: no trial may start before one of these stages is in the cache."""

    keys: tuple[str, ...]
    cache: Path
    limit_s: float


@dataclass(frozen=True, kw_only=True)
class StagesSeen(Record):
    """From a slot's process: which of these stages are in the cache."""

    keys: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class RankStart(Record):
    """How the ranks of a slot are started."""

    target: str  # what lives in each rank, "module:Class"
    ranks: int
    threads_per_rank: int
    gpus_per_rank: float
    hang_limit_s: float | None


@dataclass(frozen=True, kw_only=True)
class SlotOrder(Record):
    """To a slot's process: what it does next."""

    work: TrialTask | StageWait
    start: RankStart
    report_every_s: float
