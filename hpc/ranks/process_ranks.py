"""Ranks as child processes of this one; without Ray, and without torch in this process."""

import ctypes
import faulthandler
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import IO, Any

from hpc.environment import for_ranks
from hpc.ranks.ranks import (
    CLOSE_LIMIT_S,
    DEATH_GRACE_S,
    LOG_TAIL_LINES,
    STACKS_LIMIT_S,
    START_LIMIT_S,
    WATCH_S,
    Calling,
    Heartbeat,
    RankDied,
    RankFailed,
    RankGroup,
    RankHost,
    Reply,
    Watchdog,
    finish_call,
    is_suspended,
    meeting_environment,
    rank_environment,
)
from hpc.ray.limits import limits_hint
from transtailor.documents import DocumentError
from transtailor.lines import lines_of
from transtailor.waiting import WaitedTooLong, reap, wait_for

LOOPBACK = "127.0.0.1"
_PR_SET_PDEATHSIG = 1
PRINT_STACKS = signal.SIGQUIT  # SLURM, submitit and Ray use others
STACKS_POLL_S = 0.1  # between two looks at whether a rank has printed its stacks
OUTERMOST = " in _run_module_as_main\n"  # the last line of them: the main thread comes last, and ran a module
HEARTBEAT_BYTES = 4096  # at most


class ProcessRanks(RankGroup):
    """A warm rank group of processes on this machine.

    The ranks run only installed code (the working folder is not on their path), in separate sessions: a Ctrl-C at the
    terminal does not reach them, and the owner of this object ends them. They also end when the thread that made this
    object ends in any way. Their output is kept, and shown when one of them dies.

    MASTER_ADDR and MASTER_PORT are set for two ranks and more.
    """

    def __init__(
        self,
        target: str,
        ranks: int,
        *,
        threads_per_rank: int = 1,
        hang_limit_s: float | None = None,
    ) -> None:
        """Start the ranks and make one `target` object in each.

        Args:
            target: "module:Class"; it may have a method `heartbeat`, which returns a `Heartbeat`.
            hang_limit_s: the longest time of a call without a heartbeat of any rank; None is no limit.

        Raises:
            RankFailed, RankDied: the target could not be made.
        """
        self._ranks: list[_RankProcess] = []
        self._hang_limit_s = hang_limit_s
        try:
            for rank in range(ranks):
                environment = rank_environment(
                    rank=rank, ranks=ranks, local_rank=rank, local_ranks=ranks, threads=threads_per_rank
                )
                self._ranks.append(_RankProcess(rank, ranks, for_ranks(os.environ) | environment))
            deadline = time.monotonic() + START_LIMIT_S
            finish_call(self._ask_all("load", (target,), deadline))
            meeting: dict[str, str] = {}
            if ranks > 1:
                (port,) = finish_call(self._ask(self._ranks[:1], "host_store", (LOOPBACK,), deadline))
                meeting = meeting_environment(LOOPBACK, port)
            finish_call(self._ask_all("make", (meeting,), deadline))
        except BaseException:
            self.kill()
            raise

    @property
    def process_ids(self) -> list[int]:
        """The processes' ids, ordered by rank; empty when the group has ended."""
        return [rank.process.pid for rank in self._ranks]

    def kill(self) -> None:
        """End the processes, and those that they started, at once."""
        for rank in self._ranks:
            rank.kill()
        for rank in self._ranks:
            rank.reap()
        self._ranks = []

    def _count(self) -> int:
        return len(self._ranks)

    def _ask_all(self, command: str, args: tuple[Any, ...], deadline: float | None) -> Calling:
        return self._ask(self._ranks, command, args, deadline)

    def _ask(
        self, ranks: Sequence["_RankProcess"], command: str, args: tuple[Any, ...], deadline: float | None
    ) -> Calling:
        """Have these ranks run a method of their `RankHost`; see `_ask_all`."""
        for rank in ranks:
            rank.send(command, args)
        answers: dict[int, Any] = {}
        watchdog = Watchdog(self._hang_limit_s if command == "call" else None)
        while len(answers) < len(ranks):
            unanswered = [rank for rank in ranks if rank.rank not in answers]
            left_s = WATCH_S if deadline is None else max(0.0, deadline - time.monotonic())
            ready = _wait_for_any(unanswered, min(WATCH_S, left_s))
            if not ready and left_s >= WATCH_S:
                heartbeats = [rank.heartbeat() for rank in ranks]
                if watchdog.is_hung(heartbeats):
                    suspended = [rank.rank for rank in self._ranks if is_suspended(rank.process.pid)]
                    raise watchdog.hang_error([rank.stacks() for rank in self._ranks], suspended)
                yield heartbeats[0]
                continue
            if not ready:
                late = ", ".join(str(rank) for rank in unanswered)
                raise RankDied(f"{late}: no answer to {command}{args[:1]} in time")
            for rank in ready:
                reply = rank.receive()
                if reply.error is not None:
                    self._raise_death()
                    raise RankFailed(reply.error, reply.traceback)
                answers[rank.rank] = reply.value
        return [answers[rank.rank] for rank in ranks]

    def _raise_death(self) -> None:
        """Raise RankDied if a rank has died, or dies in a moment: its death causes its neighbours' errors."""
        if len(self._ranks) > 1:
            wait([rank.process_file for rank in self._ranks], DEATH_GRACE_S)
        for rank in self._ranks:
            if rank.process.poll() is not None:
                raise rank.death()


def _wait_for_any(ranks: Sequence["_RankProcess"], limit_s: float) -> list["_RankProcess"]:
    """Wait until some ranks have answered or ended, and return them; [] after `limit_s` seconds."""
    files: list[Connection | int] = [rank.connection for rank in ranks]
    files += [rank.process_file for rank in ranks]
    ready = set(wait(files, limit_s))
    return [rank for rank in ranks if rank.connection in ready or rank.process_file in ready]


class _RankProcess:
    """One child process, the pipe to it, and its output."""

    def __init__(self, rank: int, ranks: int, environment: dict[str, str]) -> None:
        self.rank = rank
        self._ranks = ranks
        self._printed: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed in reap
        self._heartbeats = os.memfd_create("heartbeats")  # the rank writes its newest heartbeat there
        self._heartbeat = Heartbeat()
        ours, theirs = socket.socketpair()
        with theirs:
            arguments = [str(theirs.fileno()), str(self._heartbeats), str(os.getpid())]  # of `serve`
            self.process = subprocess.Popen(
                # -P: the rank imports installed code, never a stale copy from the working folder
                [sys.executable, "-P", "-m", "hpc.ranks.process_ranks", *arguments],
                env=environment,
                pass_fds=[theirs.fileno(), self._heartbeats],
                stdin=subprocess.DEVNULL,
                stdout=self._printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # no Ctrl-C from the terminal, and one group to kill with its children
            )
        self.connection = Connection(ours.detach())
        # Processes that the rank starts inherit its end of the pipe, so only this shows its own end reliably.
        self.process_file = os.pidfd_open(self.process.pid)

    def __str__(self) -> str:
        return f"rank {self.rank} of {self._ranks}"

    def send(self, command: str, args: tuple[Any, ...]) -> None:
        try:
            self.connection.send((command, args))
        except BrokenPipeError as error:
            raise self.death() from error

    def receive(self) -> Reply:
        """Return the answer that is ready, or raise RankDied."""
        try:
            if self.connection.poll():
                reply: Reply = self.connection.recv()
                return reply
        except (EOFError, ConnectionResetError) as error:
            raise self.death() from error
        raise self.death()

    def death(self) -> RankDied:
        """Wait shortly for this rank's end, and return the error that says how it ended."""
        try:
            status = self.process.wait(CLOSE_LIMIT_S)
        except subprocess.TimeoutExpired:
            return RankDied(f"{self} closed its connection and does not end", self._log_tail())
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with exit status {status}"
        if status == -signal.SIGKILL:
            how += ", as the kernel does when memory is short"
        return RankDied(f"{self} {how}{limits_hint()}", self._log_tail())

    def heartbeat(self) -> Heartbeat:
        """Return its newest heartbeat."""
        line = os.pread(self._heartbeats, HEARTBEAT_BYTES, 0).partition(b"\n")[0]
        with suppress(DocumentError):  # half written, or not yet
            self._heartbeat = Heartbeat.from_json(line)
        return self._heartbeat

    def stacks(self) -> str:
        """Return the stacks of its threads, or the reason why they are unknown."""
        if is_suspended(self.process.pid):
            return "stopped from outside (SIGSTOP), so it cannot print its stacks"
        length_before = len(self._output())
        self.process.send_signal(PRINT_STACKS)

        def new_output() -> str:
            return self._output()[length_before:].decode(errors="replace")

        with suppress(WaitedTooLong):  # deep stacks are cut, and have no such line
            wait_for(lambda: OUTERMOST in new_output(), f"the stacks of {self}", STACKS_LIMIT_S, poll_s=STACKS_POLL_S)
        return new_output() or "did not print its stacks"

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)

    def reap(self) -> None:
        reap(self.process)
        self.connection.close()
        os.close(self.process_file)
        os.close(self._heartbeats)
        self._printed.close()

    def _log_tail(self) -> str:
        """Return the last lines of its output."""
        lines = lines_of(self._output().decode(errors="replace"))
        return "\n".join(lines[-LOG_TAIL_LINES:])

    def _output(self) -> bytes:
        """Return all of its output, without moving the position at which it writes."""
        file = self._printed.fileno()
        return os.pread(file, os.fstat(file).st_size, 0)


def end_with_parent(parent_id: int) -> None:
    """Have the kernel kill this process when its parent has ended."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_id:  # the parent ended before the line above
        sys.exit(f"the process {parent_id} that started this rank has ended")


def serve(file_number: int, heartbeats_number: int, parent_id: int) -> None:
    """Run a rank: answer commands from the connection at `file_number` until it is closed.

    Meanwhile it writes its newest heartbeat into the file `heartbeats_number`.
    """
    end_with_parent(parent_id)
    faulthandler.register(PRINT_STACKS, file=2, all_threads=True)
    connection = Connection(file_number)
    host = RankHost()
    threading.Thread(target=_write_heartbeats, args=(host, heartbeats_number), daemon=True).start()
    while True:
        try:
            command, args = connection.recv()
        except EOFError:
            return
        connection.send(host.answer(command, args))


def _write_heartbeats(host: RankHost, file_number: int) -> None:
    while True:
        os.pwrite(file_number, f"{host.heartbeat().to_json()}\n".encode(), 0)
        time.sleep(WATCH_S)


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
