"""A head and a worker as SLURM's jobs start them, in a network of their own, and what a stranger finds there.

    unshare --net python -m tests.hpc.cluster_in_a_network FOLDER

Prints JSON: all ports, by address and number, the program that listens, and its answers without the token, with a wrong
one, and with it.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil

from hpc.folders.cluster_folder import ClusterFolder
from hpc.sites.site import Site
from tests.hpc.stranger import Port, ask, listening
from transtailor.waiting import wait_for

INTERFACE, ADDRESS = "mesh0", "10.79.0.1"
SITE = Site(cpus_per_node=1, walltime_min=60, network_interface=INTERFACE)
LIMIT_S = 500.0
SLURM = {"SLURM_CPUS_ON_NODE": "1", "SLURM_MEM_PER_NODE": "2048"}


def main() -> None:
    """Start both, look, and end both."""
    for words in (
        "link set lo up", f"link add {INTERFACE} type veth peer name other",
        f"addr add {ADDRESS}/24 dev {INTERFACE}", f"link set {INTERFACE} up",
        "link set other up",
    ):  # fmt: skip
        subprocess.run(["ip", *words.split()], check=True)
    folder = ClusterFolder(Path(sys.argv[1]))
    folder.make(SITE, "demo")
    head = _job("1", "hpc.cluster.head", str(folder.path), "--", "sleep", "3600")
    jobs = [head]
    try:
        told = wait_for(folder.head, "the head", LIMIT_S)
        jobs.append(_job("2", "hpc.cluster.worker", str(folder.path), told.generation))
        programs = [psutil.Process(job.pid) for job in jobs]
        wait_for(lambda: _node_managers(programs), "two nodes that listen", LIMIT_S)
        token = folder.token.read_text()
        said = ask(listening(*programs), token, token[::-1])
        found = [[port.address, port.number, port.program, answers] for port, answers in said.items()]
        sys.stdout.write(json.dumps({"head": told.address, "ports": found}))
    finally:
        for job in reversed(jobs):
            job.terminate()
        for job in jobs:
            job.wait()


def _job(number: str, module: str, *words: str) -> subprocess.Popen[bytes]:
    environment = os.environ | SLURM | {"SLURM_JOB_ID": number, "RAY_AUTH_TOKEN": "known to others"}
    return subprocess.Popen([sys.executable, "-m", module, *words], env=environment, stdout=sys.stderr)


def _node_managers(programs: list[psutil.Process]) -> list[Port] | None:
    """The ports of both raylets: each has two, for its node and for its objects, and a web server beside it."""
    found = [port for port in listening(*programs) if "/raylet " in port.program]
    return found if len({port.number for port in found}) >= 4 else None


if __name__ == "__main__":
    main()
