"""Drive the doctor's Ray cluster: wait for a worker to join, and run a task there.

python -m hpc.doctor.ray_check FOLDER [--with-worker]     (the latter starts a worker on this node)
"""

import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import ray
from ray.exceptions import RayError

from hpc.cluster.cluster_folder import ClusterFolder
from hpc.cluster.needs import RankNeed
from hpc.cluster.nodes import connect, worker_nodes
from hpc.doctor.finding import DoctorFolder, Finding, failure, fine
from hpc.errors import ClusterError
from hpc.ray.node import signals_ignored
from transtailor.lines import first_line
from transtailor.private_names import LibraryError
from transtailor.waiting import wait_for

JOIN_LIMIT_S = 120.0
TASK_LIMIT_S = 45.0
ADVICE = "are ports between the nodes open, and the clocks equal? The log of the job has Ray's output"


def main() -> int:
    """Write the finding; return 0 in any case."""
    folder = DoctorFolder(Path(sys.argv[1]))
    try:
        finding = _meet(ClusterFolder(folder.path / "cluster"), "--with-worker" in sys.argv[2:])
    except (ClusterError, RayError) as error:
        finding = failure(first_line(str(error)), ADVICE)
    except LibraryError as error:
        finding = failure(str(error), "do that wherever the jobs run")
    folder.write("ray", finding)
    return 0


def _meet(cluster: ClusterFolder, with_worker: bool) -> Finding:
    """Join the head as a driver, wait for a worker, and run a task on it."""
    head = cluster.head()
    began_s = time.monotonic()
    if head is None:
        raise ClusterError("the Ray head has ended")
    if with_worker:
        with signals_ignored():  # it ends with its head
            subprocess.Popen([sys.executable, "-P", "-m", "hpc.cluster.worker", str(cluster.path), head.generation])
    connect(head.address)
    need = RankNeed(ranks=1, cpus_per_rank=1)

    def joined_host() -> str | None:
        for node in worker_nodes(need).values():
            if node.alive:
                return node.host
        return None

    what = f"a Ray worker to join the head at {head.address}"
    host = wait_for(joined_host, what, JOIN_LIMIT_S, error=ClusterError)
    joined_after_s = time.monotonic() - began_s
    # With an environment, like the processes of trials: Ray starts those in another way than plain ones.
    name_of_node = ray.remote(num_cpus=1, runtime_env={"env_vars": {"TRANSTAILOR_DOCTOR": "1"}})(platform.node)
    ran_on = ray.get(name_of_node.remote(), timeout=TASK_LIMIT_S)
    if ran_on != host:
        raise ClusterError(f"the task ran on {ran_on}, and the worker is on {host}")
    return fine(f"head on {os.uname().nodename}, worker on {host} after {joined_after_s:.0f} s, a task ran there")


if __name__ == "__main__":
    sys.exit(main())
