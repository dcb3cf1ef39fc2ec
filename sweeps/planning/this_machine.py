"""What this machine has for trials: cores, GPUs, and how many trials fit on them at once."""

import os
import shutil
import subprocess
from functools import cache

from hpc.cluster.needs import RankNeed
from hpc.sites.site import ONE_MACHINE_SITES
from sweeps.errors import SpecError
from sweeps.spec.resources import Resources
from sweeps.spec.spec import Spec
from transtailor.lines import lines_of
from transtailor.machine import usable_cores, visible_gpus

DRIVER_LIMIT_S = 60.0  # for a list of GPUs; a driver that is loaded for it takes seconds


def check_resources(spec: Spec, site: str) -> None:
    """Raise SpecError if a trial needs more than this process may use, on a site that is this machine."""
    if site not in ONE_MACHINE_SITES:
        return
    ranks = spec.resources.ranks
    threads = spec.resources.threads_per_rank
    gpus_per_rank = spec.resources.gpus_per_rank
    cores = usable_cores()
    needed_cores = ranks * threads
    if needed_cores > cores:
        advice = f"type --set resources.ranks={max(1, cores // threads)}"
        if threads > cores:
            advice = "type --set resources.ranks=1 --set resources.threads_per_rank=1"
        raise SpecError(
            f"{spec.where} [resources] ranks = {ranks} with threads_per_rank = {threads}: a trial needs "
            f"{needed_cores} cores, this machine has {cores}; {advice}, or choose a site with more"
        )
    if not gpus_per_rank:
        return
    gpus = usable_gpus()
    needed_gpus = ranks * gpus_per_rank
    if needed_gpus > gpus:
        advice = f"type --set resources.ranks={gpus}" if gpus else "type --set resources.gpus_per_rank=0"
        raise SpecError(
            f"{spec.where} [resources] ranks = {ranks} with gpus_per_rank = {gpus_per_rank:g}: a trial needs "
            f"{needed_gpus:g} of this machine's GPUs, and this process may use {gpus} (nvidia-smi -L, "
            f"CUDA_VISIBLE_DEVICES); {advice}, or choose a site with more"
        )


def rank_need(resources: Resources) -> RankNeed:
    """Return what this machine, or a cluster, has to give to each trial."""
    return RankNeed(
        ranks=resources.ranks, cpus_per_rank=resources.threads_per_rank, gpus_per_rank=resources.gpus_per_rank
    )


def most_at_once(resources: Resources) -> int:
    """Return how many trials fit on this machine at once, by its cores and, if they need them, its GPUs."""
    return rank_need(resources).places(cpus=usable_cores(), gpus=gpus_of(resources)) // resources.ranks


def gpus_of(resources: Resources) -> int:
    """Return the GPUs of this machine for such trials: all that this process may use, or 0 if the trials need none."""
    return usable_gpus() if resources.gpus_per_rank else 0


def usable_gpus() -> int:
    """Return the number of NVIDIA GPUs that this process may use: of CUDA_VISIBLE_DEVICES, or all of the driver."""
    program = shutil.which("nvidia-smi")
    present_gpus = None if program is None else _gpus_of_the_driver(program)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return visible_gpus(visible, present_gpus)
    return present_gpus or 0


@cache  # a launch asks three times, and the driver may take seconds
def _gpus_of_the_driver(program: str) -> int:
    """Return the number of all GPUs of this machine."""
    try:
        listing = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=DRIVER_LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return sum(line.startswith("GPU ") for line in lines_of(listing.stdout))
