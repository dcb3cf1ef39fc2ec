"""What this machine has for trials: cores, GPUs, and how many trials fit on them at once."""

import os
import shutil
import subprocess
from functools import cache

from hpc.cluster.needs import RankNeed
from sweeps.errors import SpecError
from sweeps.spec.resources import Resources
from sweeps.spec.spec import Spec
from transtailor.lines import lines_of
from transtailor.machine import usable_cores, visible_gpus

ONE_MACHINE_SITES = ("local", "serial")
DRIVER_LIMIT_S = 60.0  # for a list of GPUs; a driver that is loaded for it takes seconds


def check_resources(spec: Spec, site: str) -> None:
    """Raise SpecError if a trial needs more than this process may use, on a site that is this machine."""
    if site not in ONE_MACHINE_SITES:
        return
    ranks, threads, gpus_per_rank = (
        spec.resources.ranks, spec.resources.threads_per_rank, spec.resources.gpus_per_rank
    )  # fmt: skip
    cores, needed = usable_cores(), ranks * threads
    if needed > cores:
        advice = f"type --set resources.ranks={max(1, cores // threads)}"
        if threads > cores:
            advice = "type --set resources.ranks=1 --set resources.threads_per_rank=1"
        raise SpecError(
            f"{spec.where} [resources] ranks = {ranks} with threads_per_rank = {threads}: a trial needs "
            f"{needed} cores, this machine has {cores}; {advice}, or choose a site with more"
        )
    if gpus_per_rank and ranks * gpus_per_rank > (gpus := usable_gpus()):
        advice = f"type --set resources.{f'ranks={gpus}' if gpus else 'gpus_per_rank=0'}"
        raise SpecError(
            f"{spec.where} [resources] ranks = {ranks} with gpus_per_rank = {gpus_per_rank:g}: a trial needs "
            f"{ranks * gpus_per_rank:g} of this machine's GPUs, and this process may use {gpus} (nvidia-smi -L, "
            f"CUDA_VISIBLE_DEVICES); {advice}, or choose a site with more"
        )


def rank_need(resources: Resources) -> RankNeed:
    """What this machine, or a cluster, has to give to each trial."""
    return RankNeed(
        ranks=resources.ranks, cpus_per_rank=resources.threads_per_rank, gpus_per_rank=resources.gpus_per_rank
    )


def most_at_once(resources: Resources) -> int:
    """How many trials fit on this machine at once, by its cores and, if they need them, its GPUs; 0: not one."""
    return rank_need(resources).places(cpus=usable_cores(), gpus=gpus_of(resources)) // resources.ranks


def gpus_of(resources: Resources) -> int:
    """GPUs of this machine for trials of these resources: all that this process may use, or 0 if they need none."""
    return usable_gpus() if resources.gpus_per_rank else 0


def usable_gpus() -> int:
    """Return the number of NVIDIA GPUs that this process may use: of CUDA_VISIBLE_DEVICES, or all of the driver."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    program = shutil.which("nvidia-smi")
    present = None if program is None else _gpus_of_the_driver(program)
    return present or 0 if visible is None else visible_gpus(visible, present)


@cache
def _gpus_of_the_driver(program: str) -> int:
    """All GPUs of this machine; a launch asks three times, and the driver may take seconds."""
    try:
        said = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=DRIVER_LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return sum(line.startswith("GPU ") for line in lines_of(said.stdout))
