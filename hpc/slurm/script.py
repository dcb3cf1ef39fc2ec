"""Make the exact text of a job from a site and the job's need. No file is read; only links are followed."""

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from submitit import SlurmExecutor

from hpc.errors import SiteError
from hpc.sites.site import Need, Site
from hpc.slurm.submitit_private import SUBMITIT, text_of
from transtailor.files import is_below

# If the job's step is killed, SLURM would end the job. So the job queues itself again, unless SLURM is ending it. `-M`
# is not needed, because a node belongs to the job's cluster.
QUEUED_AGAIN = "is queued again"
AGAIN_IF_KILLED = f"""
code=$?
if [ "$code" -gt 128 ] && scontrol show job "$SLURM_JOB_ID" | grep -q JobState=RUNNING; then
    echo "the job's step was killed (code $code): the job {QUEUED_AGAIN}"
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
"""

# A failing line does not end the job, as `[ -f FILE ] && source FILE` may fail. Lines of sourced files may, too.
SAY_FAILURES = (
    """trap 'code=$?; [ ${#BASH_SOURCE[@]} -gt 1 ] || """
    """echo "a line of setup ended with code $code: $BASH_COMMAND" >&2' ERR EXIT"""
)
SAY_NO_MORE = (  # a trap that setup has set stays
    """for signal in ERR EXIT; do [[ $(trap -p $signal) != *"a line of setup"* ]] || trap - $signal; done"""
)


def sbatch_parameters(site: Site, need: Need) -> dict[str, Any]:
    """Return the parameters of sbatch, with the names of `submitit.SlurmExecutor.update_parameters`.

    Raises:
        SiteError: a node of the site has less than the job needs, or the site's limits forbid the job.
    """
    cpus = need.cpus or site.cpus_per_node
    memory_gb = None if site.memory == "none" else need.memory_gb or site.memory_gb
    gpus = site.gpus_per_node if need.gpus is None else need.gpus
    walltime_min = need.walltime_min or site.walltime_min
    excesses = list(_excesses(site, need, gpus, walltime_min))
    if excesses:
        raise SiteError(f"job {need.job_name!r} needs {'; and '.join(excesses)}: ask for less, or edit the site")
    memory_flag, shares = "mem", 1
    if site.memory == "per_gpu" and gpus:
        memory_flag, shares = "mem_per_gpu", gpus
    elif site.memory in ("per_cpu", "per_gpu"):
        memory_flag, shares = "mem_per_cpu", cpus
    optional_parameters = {
        "partition": site.partition,
        "account": site.account,
        "qos": site.qos,
        "constraint": site.constraint,
        "exclusive": site.exclusive or None,
        memory_flag: None if memory_gb is None else f"{max(1, round(memory_gb * 1024) // shares)}MB",  # 0: all of it
        "gres": f"{site.gres}:{gpus}" if site.gres and gpus else None,
        "gpus_per_node": gpus if gpus and not site.gres else None,
    }
    parameters = {name: value for name, value in optional_parameters.items() if value is not None}
    # Flags of sbatch that submitit has no parameters for
    flags: dict[str, Any] = {
        "requeue" if need.requeue else "no-requeue": True,
        "propagate": "NONE",  # otherwise the job would get the limits (`ulimit`) of the submitting shell
        "export": "ALL",  # whatever the cluster's default is
    }
    flags |= site.sbatch
    if site.shared_folder is not None:
        flags["chdir"] = site.shared_folder
    if site.cluster is not None:
        flags["clusters"] = site.cluster
    return parameters | {
        "job_name": need.job_name,
        "nodes": 1,
        "ntasks_per_node": 1,
        "cpus_per_task": cpus,
        "time": walltime_min,
        "signal_delay_s": need.signal_before_s,
        "wckey": None,  # by default submitit's name, which sites that use such keys refuse
        "setup": _setup(site),
        # A step does not inherit the CPUs of its job since SLURM 22.05, nor the variables of `setup` if the job has
        # none, or where the cluster sets SLURM_EXPORT_ENV=NONE.
        "srun_args": ["--export=ALL", f"--cpus-per-task={cpus}"],
        "additional_parameters": flags,
    }


def _excesses(site: Site, need: Need, gpus: int, walltime_min: int) -> Iterator[str]:
    """Yield what the job needs and the site cannot give, each with what the site has."""
    limits = site.limits
    gpu_hours = gpus * walltime_min / 60
    shared_folder = site.shared_folder
    if _exceeds(need.cpus, site.cpus_per_node):
        yield f"{need.cpus} CPUs, and a node has cpus_per_node = {site.cpus_per_node}"
    if _exceeds(need.memory_gb, site.memory_gb):
        yield f"{need.memory_gb:g} GB, and jobs may use memory_gb = {site.memory_gb}"
    if _exceeds(gpus, site.gpus_per_node):
        yield f"{gpus} GPUs, and a node has gpus_per_node = {site.gpus_per_node}"
    if _exceeds(walltime_min, site.walltime_min):
        yield f"{walltime_min} minutes, and walltime_min = {site.walltime_min}"
    if need.signal_before_s >= walltime_min * 60:
        yield f"a signal {need.signal_before_s} s before a walltime of {walltime_min} min"
    if _exceeds(gpu_hours, limits.gpu_hours_per_sweep):
        yield f"{gpu_hours:g} GPU-hours, and limits.gpu_hours_per_sweep = {limits.gpu_hours_per_sweep}"
    if shared_folder is not None and not is_below(need.log_folder, Path(shared_folder)):
        yield (
            f"logs in {need.log_folder}, which is not below shared_folder = {shared_folder} (work in a folder below it)"
        )


def _exceeds(amount: float | None, limit: float | None) -> bool:
    """Whether a job asks for more than a limit; None asks for nothing, or is no limit."""
    return amount is not None and limit is not None and amount > limit


def _setup(site: Site) -> list[str]:
    """Return the lines of bash before the command: the site's own, then the variables of its keys."""
    # The token of whoever submits is not for what runs in the job; there, SLURM knows its user by the node.
    lines = ["unset SLURM_JWT"]
    if site.setup:
        lines += [SAY_FAILURES, *site.setup, SAY_NO_MORE]
    if site.network_interface is not None:
        interface = shlex.quote(site.network_interface)
        lines.append(f"export GLOO_SOCKET_IFNAME={interface} NCCL_SOCKET_IFNAME={interface}")
    if site.scratch_folder is not None:
        # A path for bash, in which each $NAME is expanded on the node and all else is taken literally
        quoted = ""
        for index, part in enumerate(re.split(r"\$([A-Z_][A-Z0-9_]*)", site.scratch_folder)):
            is_variable = index % 2 == 1  # `split` returns the text and the group in turns
            if is_variable:
                quoted += f'"${{{part}:?is not set on this node}}"'
            elif part:
                quoted += shlex.quote(part)
        lines.append(f"export TMPDIR={quoted}")
        refusal = 'echo "scratch_folder $TMPDIR cannot be made" >&2'
        lines.append(f'mkdir -p -- "$TMPDIR" || {{ {refusal}; exit 1; }}')
    return lines


class _Script(SlurmExecutor):
    """submitit's executor, which also makes the text on machines without SLURM."""

    @classmethod
    def affinity(cls) -> int:
        return 2


def script(site: Site, need: Need, command: Sequence[str]) -> str:
    """Return the text that `submit` gives to sbatch: submitit's, with the words of `command` quoted.

    Raises:
        SiteError: see `sbatch_parameters`.
        LibraryError: the installed submitit lacks a private name that is used here.
    """
    SUBMITIT.check()
    executor = _Script(folder=need.log_folder)
    executor.update_parameters(**sbatch_parameters(site, need))
    text = text_of(executor, shlex.join([*site.container, *command]))
    return text + AGAIN_IF_KILLED if need.again_if_killed else text
