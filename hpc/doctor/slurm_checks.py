"""Checks of the doctor that only ask SLURM a question, on the login node."""

import re

from hpc.doctor.finding import Finding, failure, fine, unknown
from hpc.errors import SlurmError
from hpc.sites.site import Site
from hpc.slurm.calls import ONCE, PATIENCE, ask, call_of
from hpc.slurm.cluster_facts import gpu_fault
from hpc.slurm_grammar import gres_of


def ping(cluster: str | None) -> Finding:
    """Return whether SLURM's controller is up."""
    rows = ask(call_of(cluster, "scontrol", "ping"), r"(.*)", PATIENCE)
    text = "; ".join(line for (line,) in rows)
    is_up = re.search(r"\b(is|are) (\w+/)*UP\b", text)  # not "UP" in the name of its machine
    return fine(text) if is_up else failure(text, "SLURM's controller is down: ask the administrator")


def accounting(cluster: str | None) -> Finding:
    """Return whether the cluster has an accounting; a sweep does not need one."""
    try:
        ask(call_of(cluster, "sacct", "--noheader", "--allocations", "--format=JobID"), None, PATIENCE)
    except SlurmError as error:
        return unknown(f"none, and none is needed; without it the end of old jobs is unknown ({error})")
    return fine("sacct answers")


def partition_gpus(site: Site) -> Finding:
    """Return whether trials can run on the GPUs that sinfo lists for the site, and use them."""
    call = call_of(site.cluster, "sinfo", "--noheader", "--exact", "--format=%G")
    if site.partition:
        call.append(f"--partition={site.partition}")
    try:
        rows = ask(call, r"(.*)", ONCE)
    except SlurmError as error:
        return unknown(str(error))
    listed = []  # name and fault
    for (gres,) in rows:
        fault = gpu_fault(gres)
        listed += [(resource.kind, fault) for resource in gres_of(gres) if resource.name == "gpu"]
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
