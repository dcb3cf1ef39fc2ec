"""A real SLURM for one benchmark, and the times in a run's table of events."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.clients.mounts import compiled
from tests.slurm.disturbances import folders_of_nodes
from tests.slurm.sweep import Sweep
from tests.slurm.testbed import Testbed, alone


@contextmanager
def slurm_bed(
    nodes: int = 3, *, accounting: bool = False, bad_cables: bool = False, clients: bool = False
) -> Iterator[tuple[Testbed, Path]]:
    """A SLURM of this many nodes for this process, and a folder; both are removed afterwards.

    With `clients`, each node sees the folder by a client of its own, with the times of NFS.
    """
    with alone(), tempfile.TemporaryDirectory(prefix="bed-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)  # SLURM's authentication refuses a socket below a private folder
        testbed = Testbed(
            folder / "slurm", nodes=nodes, accounting=accounting, bad_cables=bad_cables,
            client=compiled(folder) if clients else None,
        )  # fmt: skip
        testbed.up()
        os.environ["SLURM_CONF"] = testbed.environment["SLURM_CONF"]
        try:
            yield testbed, testbed.shared if clients else folder
        finally:
            testbed.down()
            for left in folders_of_nodes():  # a node whose power was cut could not
                shutil.rmtree(left)


def events(sweep: Sweep, kind: str) -> list[tuple[float, str]]:
    """The times of such events, in seconds since 1970, and their jobs; in their order."""
    query = f"SELECT epoch(happened_at) AS at_s, job FROM events WHERE kind = '{kind}' ORDER BY happened_at"
    return [(float(str(row["at_s"])), str(row["job"])) for row in sweep.rows(query)]
