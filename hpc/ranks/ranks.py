"""Rank groups: N processes that act as one, however they are started; without torch at import."""

import os
import socket
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transtailor.documents import Record
from transtailor.garbage import import_uncollected
from transtailor.sources import line_of_user

START_LIMIT_S = 300.0  # a first import of torch from a busy shared file system takes minutes
CLOSE_LIMIT_S = 10.0
# A rank that dies breaks its neighbours' collectives: their errors may arrive first, the death shortly after.
DEATH_GRACE_S = 5.0
LOG_TAIL_LINES = 20
WATCH_S = 1.0  # between two checks of working ranks
STACKS_LIMIT_S = 5.0  # for a hanging rank to print its stacks


class RankDied(Exception):  # noqa: N818  # an event, named like the status `died` in the tables
    """A rank's process ended or no longer answers; the text names the rank and the cause."""

    def __init__(self, text: str, log_tail: str = "") -> None:
        super().__init__(text)
        self.log_tail = log_tail


class RankHung(RankDied):
    """No rank gave a heartbeat for too long, so all were ended; `log_tail` has the stacks of all."""

    def __init__(self, text: str, stacks: str, *, is_suspended: bool) -> None:
        super().__init__(text, stacks)
        self.is_suspended = is_suspended  # a rank was stopped from outside (SIGSTOP)


class RankFailed(Exception):  # noqa: N818  # an event, named like the status `failed` in the tables
    """A rank raised; the text is type and message of its exception, `traceback` the rank's own."""

    def __init__(self, text: str, traceback: str) -> None:
        super().__init__(text)
        self.traceback = traceback


@dataclass(frozen=True, kw_only=True)
class Heartbeat(Record):
    """A rank's newest heartbeat, and how far the rank is."""

    number: int = 0  # of heartbeats so far: while it rises, the rank works
    done_fraction: float = 0.0  # of the present computation, in [0, 1]
    words: str = ""  # the position in it, for people; "" if unknown


Calling = Generator[Heartbeat, None, list[Any]]
"""A call that runs: yields rank 0's heartbeat about once a second, and returns the answers, ordered by rank."""


class RankGroup(ABC):
    """N processes with one target object each, which receive the same calls in the same order."""

    def call(self, method: str, *args: Any) -> list[Any]:
        """Call `method` on all ranks; return their answers, ordered by rank.

        Raises:
            RankFailed: a rank raised. All ranks are ended: they are out of step and never used again.
            RankDied: a rank's process ended. All ranks are ended.
            RankHung: none gave a heartbeat within the limit of the group. All ranks are ended.
        """
        return finish_call(self.call_in_steps(method, *args))

    def call_in_steps(self, method: str, *args: Any) -> Calling:
        """As `call`, step by step: yield rank 0's heartbeat about once a second, and return the answers.

        Closing the generator before its end ends all ranks.
        """
        if not self._count():
            raise RankDied(f"{method} was called on ranks that have ended")
        try:
            return (yield from self._ask_all("call", (method, args), None))
        except BaseException:
            self.kill()
            raise

    def close(self) -> None:
        """Call the targets' `close`, with a time limit, then end exactly the processes that this group started."""
        try:
            if self._count():
                finish_call(self._ask_all("close", (), time.monotonic() + CLOSE_LIMIT_S))
        finally:
            self.kill()

    @abstractmethod
    def kill(self) -> None:
        """End the processes at once."""

    @abstractmethod
    def _count(self) -> int:
        """How many ranks there are; 0 once they have ended."""

    @abstractmethod
    def _ask_all(self, command: str, args: tuple[Any, ...], deadline: float | None) -> Calling:
        """Have all ranks run a method of their `RankHost`, as `call_in_steps`; RankDied at the deadline."""


def finish_call(calling: Calling) -> list[Any]:
    """Run a `call_in_steps` to its end; return the answers."""
    while True:
        try:
            next(calling)
        except StopIteration as end:
            answers: list[Any] = end.value
            return answers


@dataclass(frozen=True)
class Reply:
    """A rank's answer; an exception is sent as text, since not every exception can be pickled."""

    value: Any = None
    error: str | None = None  # "ValueError: ..."
    traceback: str = ""


class RankHost:
    """The state of one rank's process: its environment, the store at which all ranks meet, and the target object."""

    def __init__(self) -> None:
        self._make: Callable[[], Any] | None = None
        self._target: Any = None
        self._store: Any = None

    def enter(self, environment: dict[str, str]) -> None:
        """Set variables that the ranks' libraries read on import."""
        os.environ.update(environment)

    def load(self, target: str) -> None:
        """Import the target's class, "module:Class"; the slow part, which all ranks do in parallel."""
        cores = os.sched_getaffinity(0)
        self._make = class_of(target)
        os.sched_setaffinity(0, cores)  # a library may have pinned its importer

    def host_store(self, address: str) -> int:
        """On rank 0: serve the store for torch's env:// rendezvous; return its port.

        The socket listens before its port is published, so that no other process can take the port meanwhile, and
        only on `address`.
        """
        from torch.distributed import TCPStore  # type: ignore[attr-defined]  # public, though missing in its __all__

        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.bind((address, 0))
        listener.listen(socket.SOMAXCONN)
        port = int(listener.getsockname()[1])
        self._store = TCPStore(
            address, port, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach()
        )
        return port

    def make(self, meeting: dict[str, str]) -> None:
        """Make the target object; `meeting` says where the ranks meet (empty for a single rank)."""
        os.environ.update(meeting)
        assert self._make is not None, "load comes first"
        self._target = self._make()

    def call(self, method: str, args: tuple[Any, ...]) -> Any:
        """Call a method of the target."""
        return getattr(self._target, method)(*args)

    def heartbeat(self) -> Heartbeat:
        """Return the target's newest heartbeat; the default one if it has no method `heartbeat`."""
        read_heartbeat: Callable[[], Heartbeat] = getattr(self._target, "heartbeat", Heartbeat)
        return read_heartbeat()

    def close(self) -> None:
        """Call the target's `close`, if it has one."""
        close = getattr(self._target, "close", None)
        if close is not None:
            close()

    def answer(self, command: str, args: tuple[Any, ...]) -> Reply:
        """Run one of the methods above by its name; return its value or its exception."""
        try:
            return Reply(value=getattr(self, command)(*args))
        except (Exception, SystemExit) as error:  # noqa: BLE001  # the caller raises any error of the target
            line = line_of_user(error)
            text = f"{type(error).__name__}: {error}" + (f" ({line})" if line else "")
            return Reply(error=text, traceback=traceback.format_exc())


def class_of(target: str) -> Any:
    """Import and return "module:Class"."""
    module, _, name = target.partition(":")
    return getattr(import_uncollected(module), name)


def rank_environment(*, rank: int, ranks: int, local_rank: int, local_ranks: int, threads: int) -> dict[str, str]:
    """Return torch's variables of one rank that are known before the ranks have met.

    >>> rank_environment(rank=3, ranks=4, local_rank=1, local_ranks=2, threads=8)["LOCAL_RANK"]
    '1'
    """
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(ranks),
        "LOCAL_RANK": str(local_rank),
        "LOCAL_WORLD_SIZE": str(local_ranks),
        "OMP_NUM_THREADS": str(threads),
    }


def meeting_environment(address: str, port: int) -> dict[str, str]:
    """Return torch's variables for the store at `address`: rank 0 hosts it already, so all ranks join as clients."""
    environment = {
        "MASTER_ADDR": address,
        "MASTER_PORT": str(port),
        # With this, rank 0 too is a client of the existing store in torch's env:// rendezvous.
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }
    if address == "127.0.0.1":
        environment["GLOO_SOCKET_IFNAME"] = "lo"
    return environment


class Watchdog:
    """Detects that all ranks hang during one call: as long as one of them works, none is taken to hang.

    Time during which the watcher itself was stopped does not count, since the ranks may have been stopped too.
    """

    def __init__(self, limit_s: float | None) -> None:
        """Take the longest time without a heartbeat of any rank; None is no limit."""
        self._limit_s = limit_s
        self._numbers: list[int] = []
        self._silent_s = 0.0
        self._looked_s = time.monotonic()

    def is_hung(self, heartbeats: Sequence[Heartbeat]) -> bool:
        """Whether the limit has passed; to be asked every WATCH_S with the newest heartbeat of each rank."""
        now_s = time.monotonic()
        passed_s = min(now_s - self._looked_s, 2 * WATCH_S)  # more: this process was stopped
        self._looked_s = now_s
        numbers = [heartbeat.number for heartbeat in heartbeats]
        if numbers == self._numbers:
            self._silent_s += passed_s
        else:
            self._silent_s = 0.0
        self._numbers = numbers
        return self._limit_s is not None and self._silent_s > self._limit_s

    def hang_error(self, stacks: Sequence[str], suspended: Sequence[int]) -> RankHung:
        """Return the error to raise if the ranks hang.

        Args:
            suspended: ranks that were stopped from outside.
        """
        text = f"no heartbeat of {len(stacks)} rank(s) for {self._limit_s:g} s"
        if suspended:
            ranks = ", ".join(str(rank) for rank in suspended)
            text += f": rank {ranks} was stopped from outside (SIGSTOP)"
        stacks_by_rank = [f"rank {rank} of {len(stacks)}:\n{stack}" for rank, stack in enumerate(stacks)]
        return RankHung(text, "\n".join(stacks_by_rank), is_suspended=bool(suspended))


def is_suspended(process_id: int) -> bool:
    """Whether a process of this machine is stopped by a signal, or by a debugger."""
    try:
        status = Path(f"/proc/{process_id}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):  # it has ended
        return False
    return status.rpartition(")")[2].split()[0] in "Tt"
