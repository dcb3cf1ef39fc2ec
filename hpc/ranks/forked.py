"""A rank that a warm process has forked (see `hpc.ranks.warm_process`), as seen by the process that asked for it."""

import os
import signal
import socket
import struct
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import wait

NUMBER = struct.Struct("i")  # what the warm process sends of a fork: its process id, and at its end its exit status


class ForkedProcess:
    """The part of `subprocess.Popen` that ranks need, for a process that is no child of this one.

    The process and its group end when `file` is closed, and so at the latest when this process ends. Until then the
    kernel gives its id to no other process.
    """

    def __init__(self, pid: int, file: int) -> None:
        self.pid = pid
        self.file = file  # readable once the process has ended
        self._status: int | None = None

    def poll(self) -> int | None:
        """Return the exit status once it has ended, negative for a signal; None while it runs."""
        if self._status is None and wait([self.file], 0):
            self._status = -signal.SIGKILL  # so it ends if the warm process ends, which then sends nothing
            with suppress(ConnectionResetError):
                sent = os.read(self.file, NUMBER.size)
                if sent:
                    (self._status,) = NUMBER.unpack(sent)
        return self._status

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status; raises subprocess.TimeoutExpired."""
        wait([self.file], timeout)
        status = self.poll()
        if status is None:
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
    """Have the warm process at `address` fork a process with these open files, and return it.

    Return None if it cannot: it has ended, could not import what it should, must not fork, or does not answer.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(limit_s)  # it may still import torch
        try:
            connection.connect(f"\0{address}")
            if user_of(connection) != os.geteuid():
                return None
            socket.send_fds(connection, [b"."], files)
            sent = connection.recv(NUMBER.size)
        except OSError:
            return None
        if not sent:
            return None
        (process_id,) = NUMBER.unpack(sent)
        return ForkedProcess(process_id, connection.detach())


def user_of(connected: socket.socket) -> int:
    """Return the id of the user whose process is at the other end."""
    credentials = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _process, user, _group = struct.unpack("3i", credentials)
    return int(user)
