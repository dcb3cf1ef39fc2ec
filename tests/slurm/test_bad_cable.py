"""The cable that disturbs: frames arrive late, later or never, and connections are reset at both ends."""

import ctypes
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.slurm import bad_cable
from tests.slurm.bad_cable import tell
from transtailor.waiting import wait_for

pytestmark = pytest.mark.long
LIMIT_S = 120.0
HERE, THERE, PORT = "10.79.0.1", "10.79.0.2", 7000
CLONE_NEWNET = 0x40000000


def socket_in(process: int) -> socket.socket:
    """A TCP socket in the network of a process."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/self/ns/net").open() as ours, Path(f"/proc/{process}/ns/net").open() as theirs:
        assert libc.setns(theirs.fileno(), CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        try:
            made = socket.socket()
        finally:
            assert libc.setns(ours.fileno(), CLONE_NEWNET) == 0
    made.settimeout(LIMIT_S)
    return made


@pytest.fixture
def cable(tmp_path: Path) -> Iterator[tuple[Path, int, int]]:
    """The socket of a cable, and a process in the network at each of its ends."""
    with ExitStack() as stack:
        apart = [subprocess.Popen(["unshare", "--net", "sleep", "1000"]) for _ in range(2)]
        for process in apart:
            stack.callback(process.wait)
            stack.callback(process.kill)
        one, other = (process.pid for process in apart)
        ours = Path("/proc/self/ns/net").readlink()
        wait_for(
            lambda: all(Path(f"/proc/{pid}/ns/net").readlink() != ours for pid in (one, other)), "networks", LIMIT_S
        )
        control, inside = tmp_path / "socket", ["nsenter", f"--net=/proc/{one}/ns/net"]
        program = [sys.executable, bad_cable.__file__, "cable", str(other), str(control)]
        running = subprocess.Popen([*inside, *program])
        stack.callback(running.wait)
        stack.callback(running.kill)
        wait_for(control.exists, "the cable", LIMIT_S)
        for pid, name, address in ((one, "cable", HERE), (other, "eth0", THERE)):
            for words in (("address", "add", f"{address}/24", "dev", name), ("link", "set", name, "up")):
                subprocess.run(["nsenter", f"--net=/proc/{pid}/ns/net", "ip", *words], check=True)
        yield control, one, other


def test_frames_arrive_late_or_not_yet_and_connections_break(cable: tuple[Path, int, int]) -> None:
    control, one, other = cable
    with socket_in(other) as listening, socket_in(one) as client:
        listening.bind((THERE, PORT))
        listening.listen()
        client.connect((THERE, PORT))
        server, _ = listening.accept()
        with server:
            client.sendall(b"at once")
            assert server.recv(100) == b"at once"

            tell(control, "delay 0.2")
            start_s = time.monotonic()
            client.sendall(b"late")
            assert server.recv(100) == b"late"
            server.sendall(b"answer")
            assert client.recv(100) == b"answer"
            assert time.monotonic() - start_s >= 0.4

            tell(control, "hold")
            client.sendall(b"held")
            wait_for(lambda: tell(control, "count") > 0, "a frame in the cable", LIMIT_S)
            server.setblocking(False)
            with pytest.raises(BlockingIOError):
                server.recv(100)
            server.settimeout(LIMIT_S)
            tell(control, "pass")
            assert server.recv(100) == b"held"

            tell(control, "break")
            for end in (client, server):
                with pytest.raises(ConnectionResetError):
                    end.recv(100)
