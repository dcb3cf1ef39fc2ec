"""The words that jobs of a run begin with: its own copy of the code, whatever happens to the checkout meanwhile."""

import sys
from pathlib import Path

from transtailor.sources import DIGEST_VARIABLE

# SLURM's warning may come before Python has begun to listen, and would end the process.
_DEAF_UNTIL_IT_LISTENS = 'trap "" USR1 USR2; exec "$@"'


def worker_command(code: Path, digest: str) -> tuple[str, ...]:
    """What starts a worker from the copy of the code with that digest, before the cluster's folder and generation."""
    return ("bash", "-c", _DEAF_UNTIL_IT_LISTENS, "worker", *_python(code, digest), "-m", "hpc.cluster.worker")


def controller_command(code: Path, digest: str, cluster: Path, run: Path) -> tuple[str, ...]:
    """What starts a controller: the head, and beside it the driver of the run."""
    driver = [*_python(code, digest), "-m", "sweeps.commands.controller", str(run)]
    head = [*_python(code, digest), "-m", "hpc.cluster.head", str(cluster), "--", *driver]
    return ("bash", "-c", _DEAF_UNTIL_IT_LISTENS, "controller", *head)


def _python(code: Path, digest: str) -> tuple[str, ...]:
    # Folders of PYTHONPATH come before installed packages, editable ones included; -P leaves the working folder out.
    return ("env", f"PYTHONPATH={code}", f"{DIGEST_VARIABLE}={digest}", sys.executable, "-P", "-u")
