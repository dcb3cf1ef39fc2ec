"""Which variables of a shell SLURM's commands get, and which ones ranks get."""

import re
from collections.abc import Mapping

from transtailor.plural import counted

# How the commands find their controller, and how they show who calls them (their manuals; SLURM_SACK_*: auth/slurm).
SLURM_SETTINGS = frozenset(["SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_CLUSTERS"])
SLURM_CREDENTIALS = frozenset(["SLURM_JWT", "SLURM_SACK_JWKS", "SLURM_SACK_KEY", "SLURM_SACK_SOCKET"])
# All other variables of SLURM would change what a command does (SBATCH_PARTITION) or prints (SQUEUE_FORMAT,
# SLURM_TIME_FORMAT), or describe the job that calls it (SLURM_CPUS_PER_TASK), and the new job would inherit them.
_OF_SLURM = re.compile(r"(SALLOC|SBATCH|SRUN|SQUEUE|SACCT|SACCTMGR|SINFO|SCANCEL|SCONTROL|SLURMD?|SUBMITIT)_")

# On which cores OpenMP places the threads of a process: each rank would begin with the first core.
PINNING = frozenset(
    ["OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY", "KMP_HW_SUBSET", "KMP_PLACE_THREADS"]
)


def for_slurm(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that a command of SLURM gets: its settings and credentials, and nothing of a job or shell.

    >>> for_slurm({"SLURM_CONF": "/etc/slurm.conf", "SQUEUE_FORMAT": "%i", "SLURM_JOB_ID": "7", "HOME": "/home/me"})
    {'SLURM_CONF': '/etc/slurm.conf', 'HOME': '/home/me'}
    """
    kept = {}
    for name, value in environment.items():
        is_of_job_or_shell = name == "TMPDIR" or _OF_SLURM.match(name) is not None
        if not is_of_job_or_shell or name in SLURM_SETTINGS | SLURM_CREDENTIALS:
            kept[name] = value
    return kept


def for_ranks(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that ranks, and the Ray that starts them, get: no credentials, and no pinning to cores."""
    return {name: value for name, value in environment.items() if name not in PINNING | SLURM_CREDENTIALS}


def missing_cores(environment: Mapping[str, str], cores: int) -> str | None:
    """Return a warning if the ranks of a trial on this machine have fewer cores than threads; else None.

        >>> missing_cores({"LOCAL_WORLD_SIZE": "2", "OMP_NUM_THREADS": "4"}, cores=1)
        '2 ranks of 4 threads on this machine may use 1 core: what pins them? See taskset -p, and OMP_* in the shell'

    Args:
        environment: of a rank.
        cores: that the rank may use.
    """
    ranks = int(environment.get("LOCAL_WORLD_SIZE", "1"))
    threads = int(environment.get("OMP_NUM_THREADS", "1"))
    if cores >= ranks * threads:
        return None
    return (
        f"{counted(ranks, 'rank')} of {counted(threads, 'thread')} on this machine may use "
        f"{counted(cores, 'core')}: what pins them? See taskset -p, and OMP_* in the shell"
    )
