"""The exact text of a job, from a site and the job's need; of the disk, only links are read."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from submitit import SlurmExecutor

from hpc.errors import SiteError
from hpc.sites.site import Need, Site
from hpc.slurm.submitit_private import SUBMITIT, text_of
from transtailor.files import is_below

# If the step is killed, SLURM would end the job: it is queued again, unless SLURM is ending it. A node's own cluster
# is that of the job, so `-M` is not needed there.
AGAIN_IF_KILLED = """
code=$?
if [ "$code" -gt 128 ] && scontrol show job "$SLURM_JOB_ID" | grep -q JobState=RUNNING; then
    echo "the job's step was killed (code $code): the job is queued again"
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
"""


def sbatch_parameters(site: Site, need: Need) -> dict[str, Any]:
    """The parameters of sbatch, with the names of `submitit.SlurmExecutor.update_parameters`.

    Raises:
        SiteError: a node of the site has less than the job needs, or the site's limits forbid the job.
    """
    cpus, memory_gb, gpus = need.cpus or site.cpus_per_node, need.memory_gb or site.memory_gb, need.gpus
    gpus = site.gpus_per_node if gpus is None else gpus
    walltime_min = need.walltime_min or site.walltime_min
    _check(site, need, gpus, walltime_min)
    chosen = {
        "partition": site.partition,
        "account": site.account,
        "qos": site.qos,
        "constraint": site.constraint,
        "exclusive": site.exclusive or None,
        "mem": None if memory_gb is None else f"{round(memory_gb * 1024)}MB",
        "gres": f"{site.gres}:{gpus}" if site.gres and gpus else None,
        "gpus_per_node": gpus if gpus and not site.gres else None,
        "dependency": need.dependency,
        "array_parallelism": site.limits.max_jobs if need.array_size else None,
    }
    # Without `propagate` the job would get the limits (`ulimit`) of the submitting shell.
    further: dict[str, Any] = {"requeue" if need.requeue else "no-requeue": True, "propagate": "NONE"} | site.sbatch
    if site.shared_folder is not None:
        further["chdir"] = site.shared_folder
    if site.cluster is not None:
        further["clusters"] = site.cluster
    return {name: value for name, value in chosen.items() if value is not None} | {
        "job_name": need.job_name,
        "nodes": need.nodes,
        "ntasks_per_node": 1,
        "cpus_per_task": cpus,
        "time": walltime_min,
        "signal_delay_s": need.signal_before_s,
        "wckey": None,  # by default submitit's name, which sites that use such keys refuse
        "setup": _setup(site),
        "srun_args": _srun_arguments(site, cpus),
        "additional_parameters": further,
    }


def _srun_arguments(site: Site, cpus: int) -> list[str]:
    arguments = [f"--cpus-per-task={cpus}"]  # since SLURM 22.05 a step does not inherit it from its job
    if "export" in site.sbatch:  # a step inherits this one: the variables of `setup` would not reach it
        arguments.append("--export=ALL")
    return arguments


def _check(site: Site, need: Need, gpus: int, walltime_min: int) -> None:
    """Raise SiteError if the site cannot give what the job needs."""
    limits, elements = site.limits, need.array_size or 1
    gpu_hours = gpus * need.nodes * elements * walltime_min / 60
    cpus, memory_gb = need.cpus or 0, need.memory_gb or 0.0
    shared = site.shared_folder
    faults = [
        (cpus > site.cpus_per_node, f"{cpus} CPUs, and a node has cpus_per_node = {site.cpus_per_node}"),
        (memory_gb > (site.memory_gb or memory_gb), f"{memory_gb:g} GB, and jobs may use memory_gb = {site.memory_gb}"),
        (gpus > site.gpus_per_node, f"{gpus} GPUs, and a node has gpus_per_node = {site.gpus_per_node}"),
        (walltime_min > site.walltime_min, f"{walltime_min} minutes, and walltime_min = {site.walltime_min}"),
        (
            need.signal_before_s >= walltime_min * 60,
            f"a signal {need.signal_before_s} s before a walltime of {walltime_min} min",
        ),
        (
            elements > (limits.array_size or elements),
            f"an array of {elements}, and limits.array_size = {limits.array_size}",
        ),
        (
            gpu_hours > (limits.gpu_hours_per_sweep or gpu_hours),
            f"{gpu_hours:g} GPU-hours, and limits.gpu_hours_per_sweep = {limits.gpu_hours_per_sweep}",
        ),
        (
            shared is not None and not is_below(need.log_folder, Path(shared)),
            f"logs in {need.log_folder}, which is not below shared_folder = {shared} (work in a folder below it)",
        ),
    ]
    if excess := [text for wrong, text in faults if wrong]:
        raise SiteError(f"job {need.job_name!r} needs {'; and '.join(excess)}: ask for less, or edit the site")


def _setup(site: Site) -> list[str]:
    """Lines of bash before the command: the site's own, then the variables of its keys."""
    # The token of whoever submits is not for what runs in the job; there, SLURM knows its user by the node.
    lines = ["unset SLURM_JWT", *site.setup]
    if site.network_interface is not None:
        interface = shlex.quote(site.network_interface)
        lines.append(f"export GLOO_SOCKET_IFNAME={interface} NCCL_SOCKET_IFNAME={interface}")
    if site.scratch_folder is not None:
        # Only whole $NAMEs are expanded: each is in double quotes by itself, and the rest is quoted.
        parts = re.split(r"\$([A-Z_][A-Z0-9_]*)", site.scratch_folder)
        quoted = [
            f'"${{{part}:?is not set on this node}}"' if place % 2 else shlex.quote(part) if part else ""
            for place, part in enumerate(parts)
        ]
        lines += [f"export TMPDIR={''.join(quoted)}", 'mkdir -p -- "$TMPDIR" || exit 1']
    return lines


class _Script(SlurmExecutor):
    """submitit's executor, which also makes the text on machines without SLURM."""

    @classmethod
    def affinity(cls) -> int:
        return 2


def script(site: Site, need: Need, command: Sequence[str]) -> str:
    """The text that `submit` gives to sbatch: submitit's, with the words of `command` quoted.

    Raises:
        SiteError: see `sbatch_parameters`.
        LibraryError: the installed submitit lacks a private name that is used here.
    """
    SUBMITIT.check()
    maker = _Script(folder=need.log_folder)
    maker.update_parameters(**sbatch_parameters(site, need))
    if need.array_size is not None:
        maker.parameters["map_count"] = need.array_size  # as submitit itself does for arrays
    text = text_of(maker, shlex.join([*site.container, *command]))
    return text + AGAIN_IF_KILLED if need.again_if_killed else text
