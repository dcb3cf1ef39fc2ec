"""Ranks as plain child processes of this one; without Ray, and without torch in this process."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from typing import IO, Any

from hpc.ranks import (
    CLOSE_LIMIT_S,
    DEATH_GRACE_S,
    LOG_TAIL_LINES,
    START_LIMIT_S,
    RankDied,
    RankFailed,
    RankHost,
    Reply,
    meeting_environment,
    rank_environment,
)

LOOPBACK = "127.0.0.1"
_PR_SET_PDEATHSIG = 1


class ProcessRanks:
    """One warm set of processes on this machine; see `hpc.ranks.Ranks` for what the methods promise.

    The ranks run installed code only (the working folder is not on their path), in sessions of their own: a
    Ctrl-C at the terminal does not reach them, whoever holds this object decides. They end when the thread that
    made this object ends, however that happens. What they print is kept apart and shown when one of them dies.

    With one rank there is nobody to meet: MASTER_ADDR and MASTER_PORT are set for two ranks and more.
    """

    def __init__(self, target: str, ranks: int, *, threads_per_rank: int = 1) -> None:
        """Starts the ranks and makes one `target` object ("module:Class") in each.

        Raises:
            RankFailed, RankDied: the target could not be made.
        """
        self._ranks: list[_RankProcess] = []
        try:
            for rank in range(ranks):
                environment = rank_environment(
                    rank=rank, ranks=ranks, local_rank=rank, local_ranks=ranks, threads=threads_per_rank
                )
                self._ranks.append(_RankProcess(rank, ranks, environment))
            deadline = time.monotonic() + START_LIMIT_S
            self._ask(self._ranks, "load", (target,), deadline)
            meeting: dict[str, str] = {}
            if ranks > 1:
                (port,) = self._ask(self._ranks[:1], "host_store", (LOOPBACK,), deadline)
                meeting = meeting_environment(LOOPBACK, port)
            self._ask(self._ranks, "make", (meeting,), deadline)
        except BaseException:
            self.kill()
            raise

    @property
    def process_ids(self) -> list[int]:
        """The processes' ids, ordered by rank; empty when the set has ended."""
        return [rank.process.pid for rank in self._ranks]

    def call(self, method: str, *args: Any, timeout_s: float | None = None) -> list[Any]:
        """Calls `method` on all ranks; returns their answers, ordered by rank."""
        if not self._ranks:
            raise RankDied(f"{method} was called on ranks that have ended")
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        try:
            return self._ask(self._ranks, "call", (method, args), deadline)
        except BaseException:
            self.kill()
            raise

    def close(self) -> None:
        """Calls the targets' `close`, bounded in time, then ends the processes."""
        try:
            if self._ranks:
                self._ask(self._ranks, "close", (), time.monotonic() + CLOSE_LIMIT_S)
        finally:
            self.kill()

    def kill(self) -> None:
        """Ends the processes, and what they started themselves, at once."""
        for rank in self._ranks:
            rank.kill()
        for rank in self._ranks:
            rank.reap()
        self._ranks = []

    def _ask(
        self, ranks: Sequence["_RankProcess"], command: str, args: tuple[Any, ...], deadline: float | None
    ) -> list[Any]:
        for rank in ranks:
            rank.send(command, args)
        answers: dict[int, Any] = {}
        while len(answers) < len(ranks):
            asked = [rank for rank in ranks if rank.rank not in answers]
            limit_s = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready = _ready(asked, limit_s)
            if not ready:
                raise RankDied(f"{', '.join(map(str, asked))}: no answer to {command}{args[:1]} in time")
            for rank in ready:
                reply = rank.receive()
                if reply.error is not None:
                    self._raise_death()
                    raise RankFailed(reply.error, reply.traceback)
                answers[rank.rank] = reply.value
        return [answers[rank.rank] for rank in ranks]

    def _raise_death(self) -> None:
        """Raises RankDied if a rank has died, the cause of its neighbours' errors; waits for it a moment."""
        if len(self._ranks) > 1:
            wait([rank.process_file for rank in self._ranks], DEATH_GRACE_S)
        for rank in self._ranks:
            if rank.process.poll() is not None:
                raise rank.death()


def _ready(ranks: Sequence["_RankProcess"], limit_s: float | None) -> list["_RankProcess"]:
    """The ranks that have answered or ended; empty after `limit_s` seconds (None: no limit)."""
    ready = set(wait([rank.connection for rank in ranks] + [rank.process_file for rank in ranks], limit_s))
    return [rank for rank in ranks if rank.connection in ready or rank.process_file in ready]


class _RankProcess:
    """One child process, the pipe to it, and what it printed."""

    def __init__(self, rank: int, ranks: int, environment: dict[str, str]) -> None:
        self.rank = rank
        self._ranks = ranks
        self._printed: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed in reap
        ours, theirs = socket.socketpair()
        # -P: the rank imports installed code, never a stale copy from the working folder
        command = [sys.executable, "-P", "-m", "hpc.process_ranks", str(theirs.fileno()), str(os.getpid())]
        with theirs:
            self.process = subprocess.Popen(
                command,
                env=os.environ | environment,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # no Ctrl-C from the terminal, and one group to kill with its children
            )
        self.connection = Connection(ours.detach())
        # Ends of pipes are inherited by whatever the rank starts, so only this tells its own end for certain.
        self.process_file = os.pidfd_open(self.process.pid)

    def __str__(self) -> str:
        return f"rank {self.rank} of {self._ranks}"

    def send(self, command: str, args: tuple[Any, ...]) -> None:
        try:
            self.connection.send((command, args))
        except BrokenPipeError as error:
            raise self.death() from error

    def receive(self) -> Reply:
        """The answer that is ready, or RankDied."""
        try:
            if self.connection.poll():
                reply: Reply = self.connection.recv()
                return reply
        except (EOFError, ConnectionResetError) as error:
            raise self.death() from error
        raise self.death()

    def death(self) -> RankDied:
        """The error that says how this rank ended; waits for its end, which is near."""
        try:
            status = self.process.wait(CLOSE_LIMIT_S)
        except subprocess.TimeoutExpired:
            return RankDied(f"{self} closed its connection and does not end", self._log_tail())
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with exit status {status}"
        return RankDied(f"{self} {how}", self._log_tail())

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)

    def reap(self) -> None:
        self.process.wait()
        self.connection.close()
        os.close(self.process_file)
        self._printed.close()

    def _log_tail(self) -> str:
        self._printed.seek(0)
        return "\n".join(self._printed.read().decode(errors="replace").splitlines()[-LOG_TAIL_LINES:])


def _end_with_parent(parent_id: int) -> None:
    """Lets the kernel kill this process when its parent has ended."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_id:  # the parent ended before the line above
        sys.exit(f"the process {parent_id} that started this rank has ended")


def serve(file_number: int, parent_id: int) -> None:
    """A rank's main loop: answers commands from the connection at `file_number` until it is closed."""
    _end_with_parent(parent_id)
    connection = Connection(file_number)
    host = RankHost()
    while True:
        try:
            command, args = connection.recv()
        except EOFError:
            return
        connection.send(host.answer(command, args))


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]))
