"""A run on SLURM, as the login node and the controller see it: its files in the cluster's folder, and its jobs.

The jobs use the run's copy of the code, so the checkout may change.
"""

import os
import shlex
import site
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TypeVar

from hpc.cluster.cluster_folder import ClusterFolder
from hpc.cluster.needs import controller_need, limits_of, worker_need
from hpc.sites.site import Site
from hpc.slurm.calls import call_of
from hpc.slurm.jobs import JobState, QueuedJob, cancel, end_of, queue, submit
from hpc.slurm.script import script
from sweeps.errors import RunFolderError, SpecError
from sweeps.planning.hours import Capacity
from sweeps.planning.this_machine import rank_need
from sweeps.run.run_folder import RunFolder, open_run
from sweeps.spec.resources import Resources
from tailor.common.neighbours import imported
from tailor.common.plugin_digests import PluginRecord
from transtailor.documents import DocumentError, Record
from transtailor.files import is_there, read_there, remove_there, stat_there, write_file, write_new_file
from transtailor.sources import DIGEST_VARIABLE, ROOT, is_installed

# SLURM's warning may come before Python handles it, and would end the process.
_IGNORE_EARLY_SIGNALS = 'trap "" USR1 USR2; exec "$@"'
START_S = 30.0  # from the start of a worker's job to its first trial, as the forecast assumes


@dataclass(frozen=True, kw_only=True)
class RunOutcome(Record):
    """How a sweep ended: the exit code of `launch.py`, and an explanation."""

    code: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Submission(Record):
    """What a launch submits."""

    cache: Path  # as the jobs find it
    max_disk_gb: float | None = None  # most that the cache may hold, in units of 10^9 bytes; None: what the disk holds
    chosen: tuple[str, ...] = ()  # ids of the only trials to run; none: all
    job: str | None = None  # the controller's; None before it is submitted


R = TypeVar("R", bound=Record)


class ClusterRun:
    """The files of one run on SLURM, and its jobs."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.folder = ClusterFolder(run.cluster.resolve())

    @property
    def stop_file(self) -> Path:
        """The file that asks the controller to stop."""
        return self.folder.stop

    def is_stop_asked(self) -> bool:
        """Whether the controller was asked to stop; False also while the folder does not answer."""
        with suppress(OSError):
            return is_there(self.stop_file)
        return False

    @property
    def exists(self) -> bool:
        """Whether the run was ever launched on SLURM."""
        return is_there(self.run.submission)

    @property
    def is_last_launch(self) -> bool:
        """Whether the run was launched on SLURM, and not on one machine since then: such a launch submits nothing."""
        submission, provenance = stat_there(self.run.submission), stat_there(self.run.provenance)
        if submission is None or provenance is None:
            return False
        return submission.st_mtime_ns >= provenance.st_mtime_ns

    @property
    def submission(self) -> Submission:
        """What the last launch has submitted.

        Raises:
            RunFolderError: the run was never launched on SLURM, or the file is damaged.
        """
        submission = _read(Submission, self.run.submission)
        if submission is None:
            raise RunFolderError(f"{self.run.path} was not launched on SLURM: it has no {self.run.submission}")
        return submission

    @property
    def outcome(self) -> RunOutcome | None:
        """How the sweep ended; None while it has not."""
        return _read(RunOutcome, self.run.outcome)

    def set_outcome(self, outcome: RunOutcome) -> None:
        """Write how the sweep ended, unless another process has said so: the first one counts."""
        with suppress(FileExistsError):
            write_new_file(self.run.outcome, outcome.to_json())

    def jobs(self) -> list[QueuedJob]:
        """Return the jobs of this run that have not ended, the controller's first.

        Raises:
            SlurmError: the queue cannot be read.
        """
        jobs = queue(self.folder.job_names(), self.folder.site().cluster)
        return sorted(jobs, key=lambda job: (not self.is_controller(job), job.id))

    def cancel(self, ids: Iterable[str]) -> None:
        """End jobs of this run at once; raises SlurmError if scancel fails."""
        cancel(ids, self.folder.site().cluster)

    @property
    def squeue(self) -> str:
        """The command that lists all jobs of this user on the run's cluster, to paste."""
        return shlex.join(call_of(self.folder.site().cluster, "squeue", "--me"))

    def is_controller(self, job: QueuedJob) -> bool:
        """Whether a job of this run is its controller's."""
        return job.name == self.folder.controller_name

    def controller(self) -> QueuedJob | None:
        """Return the job of the controller; None if it has ended."""
        return next((job for job in self.jobs() if self.is_controller(job)), None)

    def controller_end(self) -> JobState:
        """Return the state of the job that the last launch submitted, with its exit code if it has ended.

        Raises:
            SlurmError: SLURM does not answer.
            RunFolderError: SLURM has accepted no job.
        """
        job = self.submission.job
        if job is None:
            raise RunFolderError(f"{self.run.path} was not submitted to SLURM")
        return end_of(job, self.folder.site().cluster)

    def submit(self, site: Site, submission: Submission) -> str:
        """Submit the controller; returns its job's id. The caller has made sure that there is none.

        Raises:
            SiteError: the site cannot give what is needed.
            SlurmError: sbatch refused or did not answer.
        """
        self.folder.make(site, self.run.name)
        write_file(self.run.submission, submission.to_json())
        for stale in (self.stop_file, self.run.outcome, self.run.progress):
            remove_there(stale)
        digest = open_run(self.run).code_digest
        code = self.run.code_of(digest).resolve()
        need = controller_need(site, self.folder.logs, self.folder.controller_name)
        command = controller_command(code, digest, self.folder.path, self.run.path.resolve())
        job_id = submit(site.controller_site(), need, command)
        write_file(self.run.submission, replace(submission, job=job_id).to_json())
        return job_id


def _read(kind: type[R], path: Path) -> R | None:
    """Read the record in a file of the cluster's folder; None where there is no such file.

    Raises:
        RunFolderError: it is not what was written.
    """
    try:
        return kind.from_json(read_there(path))
    except FileNotFoundError:
        return None
    except DocumentError as error:
        raise RunFolderError(f"{path} {error}; remove it and launch again") from error


def job_texts(run: RunFolder, site: Site, resources: Resources, digest: str) -> list[tuple[str, str]]:
    """Return title and text of the jobs that a run would submit; nothing is submitted or written.

    Raises:
        SiteError: a trial or a job does not fit on the site.
    """
    need = rank_need(resources)
    limits_of(site, need)
    code = run.code_of(digest).resolve()
    folder = ClusterFolder(run.cluster.resolve())
    name = f"{run.name}-RUN"
    of_controller = controller_need(site, folder.logs, f"{name}-controller")
    of_worker = worker_need(site, need, folder.logs, f"{name}-worker-HEAD")
    controller_words = controller_command(code, digest, folder.path, run.path.resolve())
    worker_words = [*worker_command(code, digest), str(folder.path), "HEAD"]
    return [
        ("the controller", script(site.controller_site(), of_controller, controller_words)),
        ("each worker", script(site, of_worker, worker_words)),
    ]


def worker_command(code: Path, digest: str) -> tuple[str, ...]:
    """Return the command of a worker, from that copy of the code; the caller appends folder and generation."""
    return ("bash", "-c", _IGNORE_EARLY_SIGNALS, "worker", *_python(code, digest), "-m", "hpc.cluster.worker")


def controller_command(code: Path, digest: str, cluster: Path, run: Path) -> tuple[str, ...]:
    """Return the command of a controller: the head, which starts the driver of the run."""
    driver = [*_python(code, digest), "-m", "sweeps.operations.controller", str(run)]
    head = [*_python(code, digest), "-m", "hpc.cluster.head", str(cluster), "--", *driver]
    return ("bash", "-c", _IGNORE_EARLY_SIGNALS, "controller", *head)


def _python(code: Path, digest: str) -> tuple[str, ...]:
    # Folders of PYTHONPATH come before installed packages, editable ones included; -P leaves the working folder out.
    return ("env", f"PYTHONPATH={code}", f"{DIGEST_VARIABLE}={digest}", sys.executable, "-P", "-u")


def refuse_what_jobs_lack(modules: Iterable[PluginRecord]) -> None:
    """Raise SpecError if a user's file imports what only this process finds, by PYTHONPATH or in its working folder."""
    files = [module.user_file for module in modules]
    folders = {Path(folder).resolve() for folder in ("", *os.environ.get("PYTHONPATH", "").split(os.pathsep))}
    folders -= {ROOT, *(Path(folder).resolve() for folder in site.getsitepackages()), *(file.root for file in files)}
    path_of_jobs = [folder for folder in sys.path if Path(folder).resolve() not in folders]
    loaded = [
        name for name, module in sys.modules.items() if not is_installed(getattr(module, "__file__", None) or "<")
    ]
    for file in files:
        contents = (file.content, *file.neighbours.values())
        names = [name for content in contents for level, name in imported(content) if level == 0]
        for name in [*names, *loaded]:
            origin = _origin(name, sys.path)
            if origin not in (None, _origin(name, path_of_jobs)):
                raise SpecError(
                    f"{file.origin} imports {name!r}, which is {origin} here and not in jobs: they have no "
                    f"PYTHONPATH and no working folder of yours; put it into {file.origin.parent}, or install it"
                )


def _origin(name: str, path: Sequence[str]) -> str | None:
    """Return where Python finds a module, or what its name begins with; None: nowhere."""
    origin = None
    for end in (index for index, sign in enumerate(f"{name}.") if sign == "."):
        spec = PathFinder.find_spec(name[:end], path)
        if spec is None:
            break
        origin, path = spec.origin or origin or "a folder", spec.submodule_search_locations or ()
    return origin


def capacity_of(site: Site, resources: Resources, trials: int) -> Capacity:
    """Return what a site gives to a sweep of this many trials, for the forecast of its end.

    Raises:
        SiteError: a trial does not fit.
    """
    limits = limits_of(site, rank_need(resources))
    uses_gpus = bool(resources.gpus_per_rank)
    return Capacity(
        max_workers=max(limits.workers_per_slot, limits.workers_for(trials)),
        slots_per_worker=limits.slots_per_worker,
        workers_per_slot=limits.workers_per_slot,
        units_per_worker=site.gpus_per_node if uses_gpus else site.cpus_per_node,
        unit="GPU" if uses_gpus else "core",
        start_s=START_S,
    )
