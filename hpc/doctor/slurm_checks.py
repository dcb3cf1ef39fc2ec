"""Checks of the doctor that only ask SLURM a question, on the login node."""

import re

from hpc.doctor.finding import Finding, failure, fine, unknown
from hpc.errors import SlurmError
from hpc.sites.site import Site
from hpc.slurm.calls import ask, call_of
from hpc.slurm_grammar import Gres, gres_of

AMD = re.compile(r"gpu:(\w*[_-])?(amd|instinct|radeon|mi\d{2,3})", re.I)  # as their gres is usually named


def ping(cluster: str | None) -> Finding:
    """Return whether SLURM's controller is up."""
    rows = ask(call_of(cluster, "scontrol", "ping"), r"(.*)")
    text = "; ".join(line for (line,) in rows)
    is_up = re.search(r"\b(is|are) (\w+/)*UP\b", text)  # not "UP" in the name of its machine
    return fine(text) if is_up else failure(text, "SLURM's controller is down: ask the administrator")


def partition_gpus(site: Site) -> Finding:
    """Return whether trials can run on the GPUs that sinfo lists for the site, and use them."""
    call = call_of(site.cluster, "sinfo", "--noheader", "--exact", "--format=%G")
    if site.partition:
        call.append(f"--partition={site.partition}")
    try:
        rows = ask(call, r"(.*)", tries=1)
    except SlurmError as error:
        return unknown(str(error))
    listed = []  # name and fault
    for (gres,) in rows:
        listed += [(resource.kind, gpu_fault(resource)) for resource in gres_of(gres) if resource.name == "gpu"]
    if not site.gpus_per_node:
        if not listed:
            return fine("none, as the site says")
        names = ", ".join(dict.fromkeys(name for name, _fault in listed))
        return unknown(f"sinfo lists {names}, and the site has gpus_per_node = 0: trials do not use them")
    wanted = [(name, fault) for name, fault in listed if site.gres in (None, "gpu", name)]
    if not wanted:
        return unknown("sinfo lists none")
    faults = list(dict.fromkeys(fault for _name, fault in wanted if fault))
    if faults:
        return failure("; ".join(faults), "choose another partition or gres, or set gpus_per_node = 0")
    return fine(", ".join(dict.fromkeys(name for name, _fault in wanted)))


def gpu_fault(gpus: Gres) -> str:
    """Return why trials cannot run on these GPUs; "" if they can."""
    if not gpus.is_consumed:
        return f"{gpus.kind} is no_consume, which is not supported: SLURM gives the same GPUs to many jobs"
    if AMD.match(gpus.kind):
        return (
            f"{gpus.kind} is a name of AMD GPUs, which are not supported: trials run on NVIDIA GPUs (CUDA) or on CPUs"
        )
    return ""
