"""A SLURM that is played: its queue, its machines, and what it does to jobs. What runs in the jobs is the product's."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.simulation.world import Process, Task, World

HOSTS = 4
TURN_S = 1.0  # of the scheduler
QUEUE_S = 8.0  # until a job starts on a free machine, at most
KILL_WAIT_S = 30.0  # between SIGTERM and SIGKILL
REQUEUE_S = 6.0  # until a job that was queued again may start
NOTICES_S = (15.0, 30.0)  # until a machine that does not answer counts as lost
AWAY_S = (30.0, 120.0)  # a machine, from then on
FIRST_JOB = 100


@dataclass(eq=False)
class Host:
    """A machine."""

    name: str
    address: str
    is_off: bool = False  # without power
    is_cut: bool = False  # without network: its processes run on
    lost_s: float = math.inf  # when SLURM notices

    @property
    def answers(self) -> bool:
        """Whether others reach it."""
        return not self.is_off and not self.is_cut


@dataclass(eq=False)
class JobRun:
    """One start of a job: its processes and what SLURM has told them."""

    process: Process
    host: Host
    ends_s: float  # its walltime
    task: Task | None = None
    code: int | None = None  # of its program
    is_near: bool = False  # it was warned of its end
    is_now: bool = False  # it was told to end
    kill_s: float = math.inf
    children: list[Process] = field(default_factory=list)  # end with it


@dataclass(eq=False)
class BatchJob:
    """A job: what was asked for, and what has become of it."""

    id: str
    name: str
    file: Path
    words: list[str]  # of its program, from the name of the module
    walltime_s: float
    warning_s: float
    requeues: bool  # after its machine was lost
    again_if_killed: bool
    begins_s: float  # not before
    state: str = "PENDING"
    after: str | None = None  # its state once its processes have ended, if they have to; PENDING: it is queued again
    runs: list[JobRun] = field(default_factory=list)  # the last one is SLURM's, while the job has not ended

    @property
    def is_controller(self) -> bool:
        """Whether it drives the sweep."""
        return self.words[0] == "hpc.cluster.head"

    @property
    def is_over(self) -> bool:
        """Whether it has ended for good."""
        return self.state not in ("PENDING", "RUNNING", "COMPLETING")

    @property
    def now(self) -> JobRun | None:
        """Its present run, as SLURM knows it."""
        return self.runs[-1] if self.state in ("RUNNING", "COMPLETING") else None


class Slurm:
    """The queue and the machines.

    Attributes:
        program: what a job does; returns its exit code.
        jobs: all of them, in the order of their ids.
        on_turn: called at each turn of the scheduler.
        on_end: called when a job is told to end.
        stands_still_until_s: no job starts before.
    """

    def __init__(self, world: World, program: Callable[[BatchJob], int]) -> None:
        self.world, self.program = world, program
        self.hosts = [Host(f"host{number}", f"10.0.0.{number + 1}") for number in range(HOSTS)]
        self.jobs: list[BatchJob] = []
        self.stands_still_until_s = 0.0
        self.on_turn: list[Callable[[], object]] = []
        self.on_end: Callable[[JobRun], object] = lambda _: None
        self.is_over = False

    def play(self) -> None:
        """Let it work until the day is over."""

        def turns() -> None:
            while not self.is_over:
                self._turn()
                self.world.sleep(TURN_S)

        self.world.task(self.world.process("kernel"), "slurm", turns)

    @property
    def live(self) -> list[BatchJob]:
        """The jobs that have not ended."""
        return [job for job in self.jobs if not job.is_over]

    def run_of(self, process: Process) -> JobRun | None:
        """The start of a job to which a process belongs."""
        runs = (run for job in reversed(self.jobs) for run in reversed(job.runs))
        return next((run for run in runs if process is run.process or process in run.children), None)

    # What its commands do.

    def submit(self, file: Path) -> BatchJob:
        """Queue the job of a file."""
        text = file.read_text()
        said = dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(.*))?$", text, re.MULTILINE))
        (line,) = re.findall(r"^srun (.*)$", text, re.MULTILINE)
        words = shlex.split(line)
        job = BatchJob(
            id=str(FIRST_JOB + len(self.jobs)), name=said["job-name"], file=file,
            words=words[words.index("-m") + 1 :], walltime_s=60.0 * int(said["time"]),
            warning_s=float(said["signal"].rpartition("@")[2]), requeues="requeue" in said,
            again_if_killed="scontrol requeue" in text, begins_s=self._soon(),
        )  # fmt: skip
        self.jobs.append(job)
        self.world.tell(f"job {job.id} is submitted: {job.words[0]}")
        return job

    def cancel(self, job: BatchJob) -> None:
        """As scancel."""
        if job.state == "PENDING":
            job.state = "CANCELLED"
        elif job.state == "COMPLETING":
            job.after = "CANCELLED"
        else:
            self.end(job, "CANCELLED")

    def requeue(self, job: BatchJob) -> None:
        """As `scontrol requeue`, of a job that has not ended."""
        self.end(job, "PENDING")

    def end(self, job: BatchJob, after: str, wait_s: float = KILL_WAIT_S) -> None:
        """Send SIGTERM, and SIGKILL later."""
        if job.state == "RUNNING":
            self.world.tell(f"job {job.id} has to end: {after}")
            job.state, job.after = "COMPLETING", after
            job.runs[-1].is_now, job.runs[-1].kill_s = True, self.world.now_s + wait_s
            self.on_end(job.runs[-1])

    # What happens to machines.

    def switch_off(self, host: Host, chance: Random) -> None:
        """A machine loses its power; it comes back."""
        self._go_away(host, chance)
        host.is_off = True
        for job in self.jobs:
            for run in job.runs:
                if run.host is host:
                    self.kill(run)

    def cut(self, host: Host, chance: Random) -> None:
        """A machine loses its network: what runs there runs on, until the network is back."""
        self._go_away(host, chance)
        host.is_cut = True

    def _go_away(self, host: Host, chance: Random) -> None:
        self.world.tell(f"{host.name} goes away")
        host.lost_s = self.world.now_s + chance.uniform(*NOTICES_S)
        back_s = host.lost_s + chance.uniform(*AWAY_S)

        def come_back() -> None:
            self.world.sleep(back_s - self.world.now_s)
            host.is_off = host.is_cut = False
            host.lost_s = math.inf
            for run in [run for job in self.jobs for run in job.runs if run.host is host and run is not job.now]:
                self.kill(run)  # slurmd ends what SLURM has given up

        self.world.task(self.world.process("kernel"), "host", come_back)

    def kill(self, run: JobRun) -> None:
        """End all processes of a job."""
        for process in (run.process, *run.children):
            self.world.kill(process)

    # Its turns.

    def _turn(self) -> None:
        for job in self.jobs:
            if (run := job.now) is not None:
                self._look(job, run)
        for act in self.on_turn:
            act()
        for job in self.jobs:
            if job.state == "PENDING" and self.world.now_s >= max(job.begins_s, self.stands_still_until_s):
                self._start(job)

    def _look(self, job: BatchJob, run: JobRun) -> None:
        """See what a running job has come to."""
        now_s = self.world.now_s
        if run.host.lost_s <= now_s:
            self._put(job, job.after or ("PENDING" if job.requeues else "NODE_FAIL"))
        elif not run.host.answers:
            return
        elif run.task is not None and (run.task.done or run.process.dead):
            is_killed = run.code is None and job.after is None
            self.kill(run)
            again = "PENDING" if is_killed and job.again_if_killed else None
            self._put(job, job.after or again or ("COMPLETED" if run.code == 0 else "FAILED"))
        elif now_s >= run.kill_s:
            self.kill(run)
        elif now_s >= run.ends_s:
            self.end(job, "TIMEOUT")
        elif now_s >= run.ends_s - job.warning_s and not run.is_near:
            self.world.tell(f"job {job.id} is warned")
            run.is_near = True

    def _start(self, job: BatchJob) -> None:
        taken = {id(run.host) for other in self.jobs if (run := other.now) is not None}
        free = [host for host in self.hosts if id(host) not in taken and host.answers]
        if not free:
            return
        world = self.world
        process = world.process(f"job{job.id}{'r' * len(job.runs)}")
        process.environment |= {
            "SLURM_JOB_ID": job.id, "SLURM_CPUS_ON_NODE": "1", "SLURM_RESTART_COUNT": str(len(job.runs)),
        }  # fmt: skip
        run = JobRun(process, free[0], world.now_s + job.walltime_s)
        job.state, job.after = "RUNNING", None
        job.runs.append(run)
        world.tell(f"job {job.id} starts on {run.host.name}")

        def act() -> None:
            run.code = self.program(job)

        run.task = world.task(process, process.name, act)

    def _put(self, job: BatchJob, state: str) -> None:
        self.world.tell(f"job {job.id} is {state} now, with code {job.runs[-1].code}")
        job.state, job.after = state, None
        if state == "PENDING":
            job.begins_s = self._soon() + REQUEUE_S

    def _soon(self) -> float:
        return self.world.now_s + self.world.chance.random() * QUEUE_S
