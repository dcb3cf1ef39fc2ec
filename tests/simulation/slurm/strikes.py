"""What each kind of disturbance does to SLURM, its machines and its jobs."""

from __future__ import annotations

import math
from random import Random
from typing import TYPE_CHECKING

from hpc.errors import ClusterError, SlurmError
from sweeps.errors import RunFolderError
from sweeps.operations import control
from sweeps.run.run_folder import RunFolder
from tests.simulation.slurm.commands import any_fault
from tests.simulation.slurm.scheduler import BatchJob, JobRun

if TYPE_CHECKING:
    from tests.simulation.slurm.surroundings import SlurmDay

CONTROLLER_FRACTION = 0.4  # of the disturbances of a job
GRACE_S = 10.0  # of a job that has to leave its machine
FAULT_S = (5.0, 60.0, 400.0)  # how long SLURM's commands fail
STOP_S = 200.0  # 60 s each for a clean end and for cancelled jobs, and for calls of SLURM's commands that hang
STILL_S = (30.0, 900.0)  # how long no job starts


def strike(own: SlurmDay, how: str, chance: Random) -> bool:
    """Let it happen, if it can; whether it is a disturbance of SLURM."""
    match how:
        case "stop":
            own.day.is_disturbed = True  # ranks are killed at the end, perhaps in the middle of a write
            own.stops.append(own.world.task(own.world.process("stop"), "stop", lambda: _stop(own)))
        case "commands":
            own.commands.fault = any_fault(chance)
            own.world.later(chance.choice(FAULT_S), lambda: setattr(own.commands, "fault", None))
        case "queue stands":
            own.slurm.stands_still_until_s = own.world.now_s + chance.choice(STILL_S)
        case "kill job" | "kill ray" | "host off" | "host cut" | "preempt" | "leave" | "walltime":
            running = [job for job in own.slurm.jobs if job.now is not None]
            chosen = [job for job in running if job.is_controller == (chance.random() < CONTROLLER_FRACTION)] or running
            if chosen:
                _job(own, how, chance, chosen[chance.randrange(len(chosen))])
        case _:
            return False
    return True


def _job(own: SlurmDay, how: str, chance: Random, job: BatchJob) -> None:
    run, slurm = job.runs[-1], own.slurm
    own.day.is_disturbed = True
    own.world.tell(f"{how} strikes job {job.id}")
    match how:
        case "kill job":
            own.world.kill(run.process)
        case "kill ray":
            for process in run.children[:1]:
                own.world.kill(process)
        case "host off":
            slurm.switch_off(run.host, chance)
        case "host cut":
            slurm.cut(run.host, chance)
        case "walltime":  # SLURM's warning comes now, or a moment before the end
            run.ends_s = min(run.ends_s, own.world.now_s + chance.choice((5.0, job.warning_s)))
        case "preempt":  # without a warning
            slurm.end(job, "PENDING" if job.requeues else "PREEMPTED", wait_s=0.0)
        case "leave":  # a drained or pre-empted machine, with a warning
            run.is_near = True
            own.world.later(GRACE_S, lambda: _take_away(own, job, run))


def _take_away(own: SlurmDay, job: BatchJob, run: JobRun) -> None:
    if job.now is run:
        own.slurm.end(job, "PENDING" if job.requeues else "PREEMPTED", wait_s=GRACE_S)


def _stop(own: SlurmDay) -> None:
    """As `transtailor stop`; that it does what it says is judged."""
    world, jobs, said = own.world, own.slurm.live, ""
    began_s = world.now_s
    try:
        for said in control.stop(RunFolder(own.day.run_folder)):
            world.tell(said.replace(str(own.day.root), ""))  # equal in each process that replays the day
            if said.startswith("asked job "):
                own.asked.setdefault(said.split()[2], world.now_s)
            if said.startswith("cancelled "):
                unaware = [job.id for job in jobs if job.state in ("PENDING", "RUNNING") and job.id in said]
                own.day.broken += [f"7: job {job_id} was not cancelled" for job_id in unaware]
    except (RunFolderError, SlurmError, ClusterError, OSError) as error:
        world.tell(f"stop: {error}".replace(str(own.day.root), ""))
        return
    if world.now_s - began_s > STOP_S:
        own.day.broken.append(f"7: a stop took {world.now_s - began_s:.0f} s")
    if "was launched again" not in said:
        own.day.broken += [f"7: job {job.id} is {job.state} after a stop" for job in jobs if not job.is_over]


def end_all(own: SlurmDay, chance: Random) -> None:
    """All machines of the cluster lose their power at once."""
    for host in own.slurm.hosts:
        if host.lost_s == math.inf:
            own.slurm.switch_off(host, chance)
