"""What the ranks of a trial need of a node, and what the jobs of a sweep ask for. Without Ray."""

import math
import sys
from dataclasses import dataclass
from pathlib import Path

from hpc.cluster.autoscaler import ScalingLimits
from hpc.errors import SiteError
from hpc.sites.site import Need, Site

START_LIMIT_S = 300.0  # a worker that SLURM has started and that has not joined Ray after that time is given up


@dataclass(frozen=True, kw_only=True)
class RankNeed:
    """What one rank needs of a node, and how many ranks a trial has."""

    ranks: int
    cpus_per_rank: int
    gpus_per_rank: float = 0.0

    def places(self, cpus: float, gpus: float) -> int:
        """Return how many ranks fit on a node.

        >>> RankNeed(ranks=4, cpus_per_rank=4, gpus_per_rank=0.5).places(cpus=64, gpus=2)
        4
        >>> RankNeed(ranks=1, cpus_per_rank=4, gpus_per_rank=0.4).places(cpus=64, gpus=2)
        4
        """
        by_cpus = int(cpus // self.cpus_per_rank)
        if self.gpus_per_rank == 0:
            return by_cpus
        ranks_on_a_gpu = int(1.0 / self.gpus_per_rank + 1e-9)
        if ranks_on_a_gpu == 0:  # a rank has more than one GPU
            return min(by_cpus, int(gpus / self.gpus_per_rank + 1e-9))
        return min(by_cpus, int(gpus) * ranks_on_a_gpu)  # what a rank has of a GPU is all on the same one


def limits_of(site: Site, need: RankNeed) -> ScalingLimits:
    """Return the limits for `autoscaler.decide`. Raises SiteError if no trial fits, or if it has no time to drain."""
    places = need.places(site.cpus_per_node, site.gpus_per_node)
    max_jobs = site.limits.max_jobs
    max_workers = sys.maxsize // 2 if max_jobs is None else max_jobs - 1  # the controller is a job too
    workers_per_slot = math.ceil(need.ranks / max(places, 1))
    if places == 0 or workers_per_slot > max_workers:
        raise SiteError(
            f"a trial of {need.ranks} ranks, each on {need.cpus_per_rank} CPUs and {need.gpus_per_rank:g} GPUs, does "
            f"not fit: a node has {site.cpus_per_node} CPUs and {site.gpus_per_node} GPUs, and limits.max_jobs = "
            f"{site.limits.max_jobs} leaves {max(0, max_workers)} workers; change [resources] of the spec, or the site"
        )
    if 2 * site.drain_before_s >= site.walltime_min * 60:
        raise SiteError(
            f"the site's drain_before_s = {site.drain_before_s} is half of its walltime or more (walltime_min = "
            f"{site.walltime_min}), so a worker would be replaced as soon as it starts; make it shorter, or that longer"
        )
    return ScalingLimits(
        max_workers=max_workers,
        walltime_s=site.walltime_min * 60.0,
        drain_before_s=site.drain_before_s,
        successor_lead_s=site.drain_before_s,  # the queue's wait is not known
        idle_s=site.idle_s,
        start_limit_s=START_LIMIT_S,
        slots_per_worker=max(1, places // need.ranks),
        workers_per_slot=workers_per_slot,
        gpu_hours_left=site.limits.gpu_hours_per_sweep,
        gpu_hours_per_worker=gpus_of_worker(site, need) * site.walltime_min / 60,
    )


def gpus_of_worker(site: Site, need: RankNeed) -> int:
    """Return the GPUs of a worker: all of its node, or none if trials need none."""
    return site.gpus_per_node if need.gpus_per_rank else 0


def worker_need(site: Site, need: RankNeed, logs: Path, name: str) -> Need:
    """Return what a worker's job asks for: a whole node of the site, without its GPUs if trials need none."""
    return Need(
        log_folder=logs,
        job_name=name,
        gpus=gpus_of_worker(site, need),
        signal_before_s=site.drain_before_s,
        requeue=False,  # a lost one is replaced by a new job: at once, on any free node
    )


def controller_need(site: Site, logs: Path, name: str) -> Need:
    """Return what the controller's job asks for at `site.controller_site()`."""
    controller = site.controller
    return Need(
        log_folder=logs,
        job_name=name,
        gpus=controller.gpus_per_node,
        walltime_min=controller.walltime_min or site.walltime_min,
        signal_before_s=site.drain_before_s,
        requeue=True,
        again_if_killed=True,
    )
