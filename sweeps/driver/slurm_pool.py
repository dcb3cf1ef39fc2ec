"""A Ray cluster of SLURM jobs as the pool of slots; `hpc/cluster/autoscaler.py` decides how many workers there are."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray

from hpc.cluster.cluster import Cluster
from hpc.cluster.cluster_folder import ClusterFolder, HeadReader
from hpc.cluster.head import GENERATION_VARIABLE
from hpc.cluster.needs import gpus_of_worker
from hpc.cluster.nodes import connect
from hpc.errors import ClusterError
from hpc.ray.node import NODE_DEATH_S
from results.store.reader import load
from results.store.writer import TakenOverError
from sweeps.driver.events import EventLog
from sweeps.driver.tune_site import RayPool
from sweeps.planning.this_machine import rank_need
from sweeps.run.run_folder import RunFolder
from sweeps.slurm.cluster_run import worker_command
from sweeps.spec.resources import Resources

MOST_SLOTS = 10_000  # trials that Tune may keep waiting for their placement

WORKER_HOURS = """
WITH drivers AS (SELECT driver, max(happened_at) AS last FROM events GROUP BY driver),
workers AS (
    SELECT driver, job, min(happened_at) FILTER (kind = 'worker_joined') AS joined,
        max(happened_at) FILTER (kind IN ('worker_lost', 'worker_ended')) AS ended
    FROM events WHERE job IS NOT NULL GROUP BY driver, job
)
SELECT sum(epoch(coalesce(ended, last)) - epoch(joined)) / 3600 AS hours
FROM workers JOIN drivers USING (driver) WHERE joined IS NOT NULL
"""


class _SlurmPool(RayPool):
    comes_and_goes = True
    most_slots = MOST_SLOTS
    node_death_s = 2 * NODE_DEATH_S

    def __init__(self, storage: Path, cluster: Cluster, folder: ClusterFolder) -> None:
        self.storage = storage
        self._cluster = cluster
        self._folder = folder
        self._read_head = HeadReader(folder)

    @property
    def slots(self) -> int:
        """The slots of the workers that have joined."""
        return self._cluster.slots

    def want(self, slots: int) -> None:
        self._cluster.wanted_slots = slots

    def check(self) -> None:
        self._cluster.check()
        head = self._read_head()
        if head is None or head.generation != self._cluster.generation:
            raise TakenOverError(f"another controller serves {self._folder.path} now; this one ends")

    def has_lost(self, nodes: tuple[str, ...]) -> bool | None:
        if nodes:
            return bool(self._cluster.lost_nodes(nodes))
        return True if self._cluster.lost_one_since(self._cluster.now_s - self.node_death_s) else None

    def waits_for(self) -> str | None:
        return self._cluster.waits_for

    def last_errors(self) -> str:
        return f"the output of Ray on the nodes is in the workers' logs in {self._folder.logs}"


@contextmanager
def slurm_pool(run: RunFolder, resources: Resources, digest: str, events: EventLog) -> Iterator[RayPool]:
    """Yield the cluster whose head runs beside this process; its workers end with the head, soon after the context.

    Raises:
        ClusterError: no head runs, or it does not answer.
        SiteError: a trial does not fit on the site's nodes.
    """
    folder = ClusterFolder(run.cluster)
    head = folder.head()
    generation = os.environ.get(GENERATION_VARIABLE)
    if head is None or head.generation != generation:
        raise ClusterError(f"{folder.path}: no Ray head of this job (generation {generation}) listens; see its log")
    site = folder.site()
    need = rank_need(resources)
    code = run.code_of(digest).resolve()
    cluster = Cluster(
        folder, site, head.generation, need, worker_command(code, digest), events,
        gpu_hours_before=gpus_of_worker(site, need) * _worker_hours(run),
    )  # fmt: skip
    connect(head.address)
    storage = folder.path / f"tune-{head.generation[:8]}"
    for old_storage in folder.path.glob("tune-*"):  # of drivers that were killed: this one has the run's lock
        shutil.rmtree(old_storage, ignore_errors=True)
    try:
        events("controller_started", job=head.job, detail=f"Ray head at {head.address}, code {code}")
        cluster.start()
        yield _SlurmPool(storage, cluster, folder)
    finally:
        cluster.close()
        ray.shutdown()
        shutil.rmtree(storage, ignore_errors=True)


def _worker_hours(run: RunFolder) -> float:
    """Return the hours of earlier drivers' workers; one whose end is not known counts until its driver's last event."""
    with load(run.path) as tables:
        return float(tables.rows(WORKER_HOURS)[0]["hours"] or 0.0)
