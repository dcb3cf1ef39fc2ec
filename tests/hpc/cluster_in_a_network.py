"""A head and a worker as SLURM's jobs start them, in a network of their own, and what a stranger finds there.

    unshare --net python -m tests.hpc.cluster_in_a_network FOLDER [--tls]

Prints JSON: all ports, by address and number, the program that listens, and its answers without the token, with a wrong
one, and with it (with --tls: see `ask_encrypted`); what a driver found that ran a task on the worker; and whether the
token could be read by whoever listened to the network all the while.
"""

import json
import os
import socket
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from hpc.cluster.cluster_folder import ClusterFolder
from hpc.doctor.finding import DoctorFolder, Finding
from hpc.sites.site import Site
from tests.hpc.stranger import Port, ask, ask_encrypted, listening
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
    told_in, with_tls = DoctorFolder(Path(sys.argv[1])), "--tls" in sys.argv
    folder = ClusterFolder(told_in.path / "cluster")
    folder.make(SITE.model_copy(update={"tls": with_tls}), "demo")
    token, heard = folder.token.read_text(), Listener()
    heard.start()
    driver = '"$1" -m hpc.doctor.ray_check "$2"; sleep 3600'
    command = ["bash", "-c", driver, "driver", sys.executable, str(told_in.path)]
    head = _job("1", "hpc.cluster.head", str(folder.path), "--", *command)
    jobs = [head]
    try:
        published_head = wait_for(folder.head, "the head", LIMIT_S)
        jobs.append(_job("2", "hpc.cluster.worker", str(folder.path), published_head.generation))
        programs = [psutil.Process(job.pid) for job in jobs]
        wait_for(lambda: _node_managers(programs), "two nodes that listen", LIMIT_S)
        ran = asdict(told_in.wait_to_read("ray", Finding, LIMIT_S))
        is_heard = heard.has(token)  # before the token is shown by whoever asks below
        ports = listening(*programs)
        with TemporaryDirectory() as own:
            encrypted = ask_encrypted(ADDRESS, ports, token, folder.tls(ADDRESS, Path(own))) if with_tls else []
        said = {} if with_tls else ask(ports, token, token[::-1])
        answers_of_ports = [[port.address, port.number, port.program, answers] for port, answers in said.items()]
        results = {"ports": answers_of_ports, "encrypted": encrypted, "ran": ran, "heard_token": is_heard}
        sys.stdout.write(json.dumps(results))
    finally:
        for job in reversed(jobs):
            job.terminate()
        for job in jobs:
            job.wait()


class Listener(threading.Thread):
    """Keeps all packets of this network: those of a machine to itself pass the loopback."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3))  # all protocols
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 26)
        self._heard: list[bytes] = []

    def run(self) -> None:
        while True:
            self._heard.append(self._socket.recv(1 << 17))

    def has(self, token: str) -> bool:
        """Whether calls show it; Ray's agent for environments, which its own node alone asks, speaks HTTP/1."""
        assert len(self._heard) > 100
        return any(token.encode() in packet and b" HTTP/1.1" not in packet for packet in list(self._heard))


def _job(number: str, module: str, *words: str) -> subprocess.Popen[bytes]:
    environment = os.environ | SLURM | {"SLURM_JOB_ID": number, "RAY_AUTH_TOKEN": "known to others"}
    return subprocess.Popen([sys.executable, "-m", module, *words], env=environment, stdout=sys.stderr)


def _node_managers(programs: list[psutil.Process]) -> list[Port] | None:
    """The ports of both raylets: each has two, for its node and for its objects, and a web server beside it."""
    ports = [port for port in listening(*programs) if "/raylet " in port.program]
    return ports if len({port.number for port in ports}) >= 4 else None


if __name__ == "__main__":
    main()
