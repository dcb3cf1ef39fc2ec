"""A real SLURM for one benchmark, and what stands in a run's tables of events."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from hpc.slurm import Patience, ask
from tests.slurm.sweep import Sweep
from tests.slurm.testbed import Testbed, alone


@contextmanager
def slurm_bed(nodes: int = 3) -> Iterator[tuple[Testbed, Path]]:
    """A SLURM of so many nodes that this process talks to, and a folder; both are gone afterwards."""
    with alone(), tempfile.TemporaryDirectory(prefix="bed-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)  # SLURM's authentication refuses a socket below a private folder
        testbed = Testbed(folder / "slurm", nodes=nodes, accounting=False)
        testbed.up()
        os.environ["SLURM_CONF"] = testbed.environment["SLURM_CONF"]
        try:
            yield testbed, folder
        finally:
            testbed.down()


def events(sweep: Sweep, kind: str) -> list[tuple[float, str]]:
    """When such events happened, in seconds since 1970, and of which job; in their order."""
    query = f"SELECT epoch(happened_at) AS at_s, job FROM events WHERE kind = '{kind}' ORDER BY happened_at"
    return [(float(str(row["at_s"])), str(row["job"])) for row in sweep.rows(query)]


def job_times(ids: list[str]) -> dict[str, tuple[float, float]]:
    """When SLURM took each job, and when it started it: seconds since 1970, in whole ones."""
    words = ["squeue", "--all", "--noheader", "--states=all", "--format=%i|%V|%S", "--jobs=" + ",".join(ids)]
    return {
        job: (_seconds(taken), _seconds(began)) for job, taken, began in ask(words, r"(\d+)\|(.*)\|(.*)", Patience())
    }


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()
