"""A run on SLURM, as the login node and the controller see it: what stands in its cluster folder beside hpc's files.

cluster/launch.json      where the cache is, and which trials are to run if not all
        progress.json    how the sweep stands
        outcome.json     how it ended; absent while it has not
        stop             asks it to stop
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hpc.cluster.needs import RankNeed, controller_need, limits_of, worker_need
from hpc.folders.cluster_folder import ClusterFolder
from hpc.sites.site import Site
from hpc.slurm.jobs import QueuedJob, queue, submit
from hpc.slurm.script import script
from sweeps.errors import RunFolderError
from sweeps.planning.forecast import Capacity
from sweeps.run.run_folder import RunFolder, open_run
from sweeps.scheduling.simulated_cluster import SimulatedCluster
from sweeps.slurm.job_commands import controller_command, worker_command
from sweeps.spec.resources import Resources
from transtailor.documents import DocumentError, read_json
from transtailor.files import write_file

# What the forecast takes for granted of a cluster.
START_S = 30.0  # from the start of a worker's job to its first trial
NOTICED_AFTER_S = 15.0  # the loss of a node
CHECKPOINT_EVERY_S = 30.0  # tailor.execution.runner writes them so often at least


@dataclass(frozen=True, kw_only=True)
class RunOutcome:
    """How a sweep ended: an exit code as of `launch.py`, and a line or more about it."""

    code: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Caching:
    """Where finished stages are kept, and how much that may be."""

    cache: Path
    max_disk_gb: float | None = None  # in units of 10^9 bytes; None: as much as there is room for


class ClusterRun:
    """The files of one run on SLURM, and its jobs."""

    def __init__(self, run: RunFolder) -> None:
        self.run, self.folder = run, ClusterFolder(run.cluster.resolve())

    @property
    def progress_file(self) -> Path:
        """How the sweep stands."""
        return self.folder.path / "progress.json"

    @property
    def stop_file(self) -> Path:
        """Asks the controller to stop."""
        return self.folder.stop

    @property
    def _outcome_file(self) -> Path:
        return self.folder.path / "outcome.json"

    @property
    def _launch_file(self) -> Path:
        return self.folder.path / "launch.json"

    @property
    def exists(self) -> bool:
        """Whether the run was ever launched on SLURM."""
        return self._launch_file.exists()

    @property
    def caching(self) -> Caching:
        """The folder of finished stages, as the jobs find it."""
        said = _said(self._launch_file)
        if said is None:
            raise RunFolderError(f"{self.run.path} was not launched on SLURM: it has no {self._launch_file}")
        return Caching(cache=Path(said["cache"]), max_disk_gb=said["max_disk_gb"])

    @property
    def outcome(self) -> RunOutcome | None:
        """How the sweep ended; None while it has not."""
        said = _said(self._outcome_file)
        return None if said is None else RunOutcome(code=int(said["code"]), text=str(said["text"]))

    def set_outcome(self, outcome: RunOutcome) -> None:
        """Tells everybody how it ended."""
        write_file(self._outcome_file, json.dumps(asdict(outcome)))

    def jobs(self) -> list[QueuedJob]:
        """The jobs of this run that have not ended, the controller's first.

        Raises:
            SlurmError: the queue cannot be read.
        """
        controller, prefix = self.folder.controller_name, self.folder.worker_prefix
        mine = [job for job in queue() if job.name == controller or job.name.startswith(prefix)]
        return sorted(mine, key=lambda job: (job.name != controller, job.id))

    def is_controller(self, job: QueuedJob) -> bool:
        """Whether a job of this run is its controller's, and no worker's."""
        return job.name == self.folder.controller_name

    def controller(self) -> QueuedJob | None:
        """The job of the controller, unless it has ended."""
        return next((job for job in self.jobs() if self.is_controller(job)), None)

    @property
    def chosen(self) -> list[str]:
        """Ids of the trials that the last launch is to run; none: all."""
        return list(read_json(self._launch_file).get("chosen", []))

    def submit(self, site: Site, caching: Caching, chosen: Sequence[str] = ()) -> str:
        """Submits the controller; returns its job's id. The caller has made sure that none is there.

        Args:
            site: of the jobs.
            caching: for the controller.
            chosen: ids of the trials to run; none: all.

        Raises:
            SiteError: the site cannot give what is needed.
            SlurmError: sbatch refused or did not answer.
        """
        self.folder.make(site, self.run.name)
        launch = asdict(caching) | {"cache": str(caching.cache), "chosen": list(chosen)}
        write_file(self._launch_file, json.dumps(launch))
        for stale in (self.stop_file, self._outcome_file, self.progress_file):
            stale.unlink(missing_ok=True)
        digest = open_run(self.run).code_digest
        code = self.run.code_of(digest).resolve()
        need = controller_need(site, self.folder, self.folder.controller_name)
        words = controller_command(code, digest, self.folder.path, self.run.path.resolve())
        return submit(site.for_controller(), need, words).ids[0]


def _said(path: Path) -> Mapping[str, Any] | None:
    """What a file of the cluster's folder says; None where it is not there.

    Raises:
        RunFolderError: it is not what was written.
    """
    try:
        said = read_json(path)
    except FileNotFoundError:
        return None
    except DocumentError as error:
        raise RunFolderError(f"{path} {error}; remove it and launch again") from error
    if not isinstance(said, dict) or not {*said} & {"cache", "code"}:
        raise RunFolderError(f"{path} is not what was written; remove it and launch again")
    return said


def job_texts(run: RunFolder, site: Site, resources: Resources, digest: str) -> list[tuple[str, str]]:
    """Title and text of the jobs that a run would submit; nothing is submitted or written.

    Raises:
        SiteError: a trial or a job does not fit on the site.
    """
    need = rank_need(resources)
    limits_of(site, need)
    code = run.code_of(digest).resolve()
    folder, name = ClusterFolder(run.cluster.resolve()), f"{run.name}-RUN"
    controller = controller_need(site, folder, f"{name}-controller")
    worker = worker_need(site, need, folder, f"{name}-worker-HEAD")
    words = controller_command(code, digest, folder.path, run.path.resolve())
    return [
        ("the controller", script(site.for_controller(), controller, words)),
        ("each worker", script(site, worker, [*worker_command(code, digest), str(folder.path), "HEAD"])),
    ]


def capacity_of(site: Site, resources: Resources, trials: int) -> Capacity:
    """What a site lends to a sweep of so many trials, for the forecast of its end.

    Raises:
        SiteError: a trial does not fit.
    """
    limits = limits_of(site, rank_need(resources))
    useful = limits.workers_for(trials)
    cluster = SimulatedCluster(start_s=START_S, noticed_after_s=NOTICED_AFTER_S, checkpoint_every_s=CHECKPOINT_EVERY_S)
    units, unit = (site.gpus_per_node, "GPU") if resources.gpus_per_rank else (site.cpus_per_node, "core")
    return Capacity(
        limits=replace(limits, max_workers=max(1, useful)), units_per_worker=units, unit=unit, cluster=cluster
    )


def rank_need(resources: Resources) -> RankNeed:
    """What a trial takes, in the words of the cluster."""
    return RankNeed(
        ranks=resources.ranks, cpus_per_rank=resources.threads_per_rank, gpus_per_rank=resources.gpus_per_rank
    )
