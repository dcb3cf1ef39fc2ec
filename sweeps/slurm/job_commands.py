"""The commands of a run's jobs: they use the run's copy of the code, so the checkout may change."""

import sys
from pathlib import Path

from transtailor.sources import DIGEST_VARIABLE

# SLURM's warning may come before Python handles it, and would end the process.
_IGNORE_EARLY_SIGNALS = 'trap "" USR1 USR2; exec "$@"'


def worker_command(code: Path, digest: str) -> tuple[str, ...]:
    """The command of a worker, from the copy of the code with that digest; folder and generation are appended."""
    return ("bash", "-c", _IGNORE_EARLY_SIGNALS, "worker", *_python(code, digest), "-m", "hpc.cluster.worker")


def controller_command(code: Path, digest: str, cluster: Path, run: Path) -> tuple[str, ...]:
    """The command of a controller: the head, which starts the driver of the run."""
    driver = [*_python(code, digest), "-m", "sweeps.commands.controller", str(run)]
    head = [*_python(code, digest), "-m", "hpc.cluster.head", str(cluster), "--", *driver]
    return ("bash", "-c", _IGNORE_EARLY_SIGNALS, "controller", *head)


def _python(code: Path, digest: str) -> tuple[str, ...]:
    # Folders of PYTHONPATH come before installed packages, editable ones included; -P leaves the working folder out.
    return ("env", f"PYTHONPATH={code}", f"{DIGEST_VARIABLE}={digest}", sys.executable, "-P", "-u")
