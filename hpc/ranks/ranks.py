"""What a set of ranks is: N processes that act as one, whoever starts them; without torch at import."""

import importlib
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

CODE = Path(__file__).resolve().parents[2]
ROOMS = ("transtailor", "hpc", "tailor", "results", "sweeps")
START_LIMIT_S = 300.0  # a first import of torch from a busy shared file system takes minutes
CLOSE_LIMIT_S = 10.0
# A rank that dies breaks its neighbours' collectives: their errors may arrive first, the death shortly after.
DEATH_GRACE_S = 5.0
LOG_TAIL_LINES = 20
WATCH_S = 1.0  # between two looks at ranks that work
STACKS_LIMIT_S = 5.0  # until a rank that hangs has said where


class RankDied(Exception):  # noqa: N818  # an event, named like the status `died` in the tables
    """A rank's process ended or no longer answers; the text names the rank and the cause."""

    def __init__(self, text: str, log_tail: str = "") -> None:
        super().__init__(text)
        self.log_tail = log_tail


class RankHung(RankDied):
    """No rank gave a heartbeat for too long, so all were ended; `log_tail` holds the stacks of all."""

    def __init__(self, text: str, stacks: str, *, is_suspended: bool) -> None:
        super().__init__(text, stacks)
        self.is_suspended = is_suspended  # somebody stopped a rank from outside (SIGSTOP)


class RankFailed(Exception):  # noqa: N818  # an event, named like the status `failed` in the tables
    """A rank raised; the text is type and message of its exception, `traceback` the rank's own."""

    def __init__(self, text: str, traceback: str) -> None:
        super().__init__(text)
        self.traceback = traceback


class Heartbeat(NamedTuple):
    """A rank's newest heartbeat, and what it says with it."""

    number: int = 0  # how many it has given: as long as it rises, the rank goes on
    done_fraction: float = 0.0  # of what it computes now, in [0, 1]
    words: str = ""  # where it is, for people; "" where that is not known


class RankGroup(Protocol):
    """N processes with one target object each, that get the same calls in the same order."""

    def call(self, method: str, *args: Any, timeout_s: float | None = None) -> list[Any]:
        """Calls `method` on all ranks; returns their answers, ordered by rank.

        Raises:
            RankFailed: a rank raised. All ranks are ended: they are out of step and never used again.
            RankDied: a rank's process ended or `timeout_s` passed (None: no limit). All ranks are ended.
            RankHung: none gave a heartbeat within the limit that the set was made with. All ranks are ended.
        """

    def call_in_steps(self, method: str, *args: Any) -> Generator[Heartbeat, None, list[Any]]:
        """As `call`, step by step: yields rank 0's heartbeat about once a second, and returns the answers.

        Whoever closes it before its end ends all ranks.
        """

    def close(self) -> None:
        """Calls the targets' `close` if nothing failed, then ends exactly the processes that this set started."""

    def kill(self) -> None:
        """Ends the processes at once."""


def finish_call(calling: Generator[Heartbeat, None, list[Any]]) -> list[Any]:
    """What a call returns that is told of step by step, once it has come to its end."""
    while True:
        try:
            next(calling)
        except StopIteration as end:
            answers: list[Any] = end.value
            return answers


@dataclass(frozen=True)
class Reply:
    """What a rank answers; an exception travels as text, since not every exception survives pickling."""

    value: Any = None
    error: str | None = None  # "ValueError: ..."
    traceback: str = ""


class RankHost:
    """The inside of one rank's process: its environment, the store all ranks meet at, and the target object."""

    def __init__(self) -> None:
        self._make: Callable[[], Any] | None = None
        self._target: Any = None
        self._store: Any = None

    def enter(self, environment: dict[str, str]) -> None:
        """Sets what the ranks' libraries read when they are imported."""
        os.environ.update(environment)

    def load(self, target: str) -> None:
        """Imports the target's class, "module:Class"; the slow part, done by all ranks side by side."""
        module, _, name = target.partition(":")
        self._make = getattr(importlib.import_module(module), name)

    def host_store(self, address: str) -> int:
        """Rank 0 only: serves the store that torch's env:// rendezvous meets at; returns its port.

        The socket listens before its port is told to anyone, so that nobody else can take the port meanwhile,
        and it listens on `address` alone.
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
        """Makes the target object, once it is known where the ranks meet (nothing for a rank alone)."""
        os.environ.update(meeting)
        assert self._make is not None, "load comes first"
        self._target = self._make()

    def call(self, method: str, args: tuple[Any, ...]) -> Any:
        """What the target's method returns."""
        return getattr(self._target, method)(*args)

    def heartbeat(self) -> Heartbeat:
        """The target's newest heartbeat, where it gives any."""
        beat = getattr(self._target, "heartbeat", None)
        return Heartbeat() if beat is None else Heartbeat(*beat())

    def close(self) -> None:
        """Calls the target's `close`, where it has one."""
        close = getattr(self._target, "close", None)
        if close is not None:
            close()

    def answer(self, command: str, args: tuple[Any, ...]) -> Reply:
        """Runs one of the methods above; an exception becomes part of the reply."""
        try:
            return Reply(value=getattr(self, command)(*args))
        except Exception as error:  # noqa: BLE001  # whatever the target raises is told to the caller, who raises it
            return Reply(error=f"{type(error).__name__}: {error}{_place(error)}", traceback=traceback.format_exc())


def _place(error: BaseException) -> str:
    """The last line of a user's own module that led there, in brackets; empty where none did."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_installed(frame.filename)]
    return f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""


def _is_installed(file: str) -> bool:
    """Whether a file belongs to our packages, to a library or to Python."""
    path = Path(file)
    is_library = {"site-packages", "dist-packages"} & {*path.parts} or path.is_relative_to(sys.base_prefix)
    return file.startswith("<") or bool(is_library) or any(path.is_relative_to(CODE / room) for room in ROOMS)


def rank_environment(*, rank: int, ranks: int, local_rank: int, local_ranks: int, threads: int) -> dict[str, str]:
    """torch's variables of one rank that are known before the ranks have met."""
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(ranks),
        "LOCAL_RANK": str(local_rank),
        "LOCAL_WORLD_SIZE": str(local_ranks),
        "OMP_NUM_THREADS": str(threads),
    }


def meeting_environment(address: str, port: int) -> dict[str, str]:
    """torch's variables of the store at `address`: rank 0 hosts it already, so all ranks join as clients."""
    environment = {
        "MASTER_ADDR": address,
        "MASTER_PORT": str(port),
        # torch's env:// rendezvous then lets rank 0, too, be a client of a store that is there already
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }
    if address == "127.0.0.1":
        environment["GLOO_SOCKET_IFNAME"] = "lo"
    return environment


class Watchdog:
    """Tells, while the ranks work on one call, whether they go on or hang: one that goes on speaks for all.

    Time during which the watcher itself was stopped does not count, since the ranks may have been so too.
    """

    def __init__(self, limit_s: float | None) -> None:
        """Takes how long the ranks may be without a heartbeat; None: for ever."""
        self._limit_s = limit_s
        self._numbers: list[int] = []
        self._silent_s = 0.0
        self._looked_s = time.monotonic()

    def is_hung(self, beats: Sequence[Heartbeat]) -> bool:
        """Whether the limit has passed; to be asked every WATCH_S with the newest heartbeat of each rank."""
        now = time.monotonic()
        passed_s, self._looked_s = min(now - self._looked_s, 2 * WATCH_S), now
        numbers = [beat.number for beat in beats]
        self._silent_s = 0.0 if numbers != self._numbers else self._silent_s + passed_s
        self._numbers = numbers
        return self._limit_s is not None and self._silent_s > self._limit_s

    def hang_error(self, stacks: Sequence[str], suspended: Sequence[int]) -> RankHung:
        """The error to raise then.

        Args:
            stacks: of each rank, as text.
            suspended: ranks that somebody has stopped from outside.
        """
        text = f"no heartbeat of {len(stacks)} rank(s) for {self._limit_s:g} s"
        if suspended:
            text += f": rank {', '.join(map(str, suspended))} was stopped from outside (SIGSTOP)"
        said = "\n".join(f"rank {rank} of {len(stacks)}:\n{stack}" for rank, stack in enumerate(stacks))
        return RankHung(text, said, is_suspended=bool(suspended))


def is_suspended(process_id: int) -> bool:
    """Whether a process of this machine is stopped by a signal, or by a debugger."""
    try:
        status = Path(f"/proc/{process_id}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):  # it has ended
        return False
    return status.rpartition(")")[2].split()[0] in "Tt"
