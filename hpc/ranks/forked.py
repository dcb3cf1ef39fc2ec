"""A rank's process that a warm process has forked (see `hpc.ranks.warm_process`), as its owner sees it."""

import os
import signal
import socket
import struct
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import wait

NUMBER = struct.Struct("i")  # what the warm process says of a fork: its process id, and at its end its exit status


class ForkedProcess:
    """The part of `subprocess.Popen` that ranks need, for a process that is no child of this one.

    The process and its group end when `file` is closed, as this process's end does in any way. Until then its id is not
    given to another process.
    """

    def __init__(self, pid: int, file: int) -> None:
        self.pid, self.file = pid, file  # the file is ready to be read once the process has ended
        self._status: int | None = None

    def poll(self) -> int | None:
        """The exit status once it has ended: of a signal, its negative number."""
        if self._status is None and wait([self.file], 0):
            self._status = -signal.SIGKILL  # it ends with the warm process
            with suppress(ConnectionResetError):
                if told := os.read(self.file, NUMBER.size):
                    (self._status,) = NUMBER.unpack(told)
        return self._status

    def wait(self, timeout: float | None = None) -> int:
        """The exit status; raises subprocess.TimeoutExpired."""
        wait([self.file], timeout)
        if (status := self.poll()) is None:
            raise subprocess.TimeoutExpired("a forked rank", timeout or 0.0)
        return status

    def send_signal(self, number: int) -> None:
        """Send a signal, if it has not ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


def fork_at(address: str, files: Sequence[int], limit_s: float) -> ForkedProcess | None:
    """A new process with these open files from the warm process at `address`.

    None where there is none that can: it has ended, could not import what it should, must not fork, or does not answer.
    """
    with socket.socket(socket.AF_UNIX) as asked:
        asked.settimeout(limit_s)  # it may still import torch
        try:
            asked.connect(f"\0{address}")
            if user_of(asked) != os.geteuid():
                return None
            socket.send_fds(asked, [b"."], files)
            told = asked.recv(NUMBER.size)
        except OSError:
            return None
        return ForkedProcess(NUMBER.unpack(told)[0], asked.detach()) if told else None


def user_of(connected: socket.socket) -> int:
    """The id of the user whose process is at the other end."""
    _, user, _ = struct.unpack("3i", connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return int(user)
