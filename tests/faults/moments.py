"""Named moments at which a program is about to change a file, and faults that strike there.

The program knows nothing of it: Python's audit events tell of each file that is opened for writing, renamed, linked or
removed, and of each folder that is made, before it happens; `os.fsync`, which has no such event, is wrapped. Between
two of these moments nothing on disk changes but the content of files that are open and not yet synced, which is why a
loss of power (`_lose_power`) takes that content, and names that were not synced, away again.
"""

import errno
import mmap
import os
import random
import re
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

How = Literal["SIGKILL", "SIGKILL of both", "SIGTERM", "SIGINT", "loss of power", "full disk"]
HOWS: tuple[How, ...] = ("SIGKILL", "SIGKILL of both", "SIGTERM", "SIGINT", "loss of power", "full disk")
"""SIGKILL hits the process that is about to write: the launcher, or a rank. "Both" are the launcher and its ranks.
SIGTERM and SIGINT go to the launcher. On a full disk all that would take room fails from that moment on."""

AUDITED = {
    "open": "open", "os.rename": "rename", "os.link": "link", "os.mkdir": "mkdir", "os.remove": "remove",
    "os.rmdir": "rmdir", "os.truncate": "truncate",
}  # fmt: skip
TAKES_ROOM = ("open", "mkdir", "fsync")
CHANGES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_RANDOM = re.compile(
    r"\d{6}(?=-\d{6}\.)|(?<=\d{6}-)\d{6}(?=\.)|(?<=\.writing/)\d+|[0-9a-f]{8,}|(?<=\.)\d+(?=\.|$|/)"
    r"|(?<=^cache/)..|(?<=@).+(?=\.creating)"
)


@dataclass(frozen=True, order=True)
class Moment:
    """One change of a launch, before it happens."""

    event: str  # open, fsync, rename, link, mkdir, remove, rmdir or truncate
    place: str  # the file's path in the sweep's folder, without what is random in it
    nth: int = 0  # the how-manieth such change there in this launch, counted from 0


@dataclass(frozen=True)
class Fault:
    """What strikes, and when."""

    how: How
    moment: Moment
    seed: int  # of what a loss of power takes away


@dataclass
class _Unsynced:
    """What a loss of power may take away, as far as this process has caused it."""

    contents: set[str] = field(default_factory=set)
    names: list[tuple[str, str | None, bytes | None]] = field(default_factory=list)
    """New name; the old one, None where a file got one more name; what the new name meant before."""

    def renamed(self, source: str, target: str) -> None:
        """A name is about to change; what was not synced below it stays so."""
        before = Path(target).read_bytes() if Path(target).is_file() else None
        self.names.append((target, source, before))
        moved = {path for path in self.contents if path == source or path.startswith(f"{source}/")}
        self.contents = (self.contents - moved) | {target + path.removeprefix(source) for path in moved}

    def linked(self, source: str, target: str) -> None:
        """A file is about to get one more name; the one that it has stays."""
        self.names.append((target, None, None))
        if source in self.contents:
            self.contents.add(target)

    def synced(self, path: str) -> None:
        """A file's content, or a folder's names, are about to be durable."""
        self.contents.discard(path)
        self.names = [name for name in self.names if str(Path(name[0]).parent) != path]


class Watch:
    """Sees every change below one folder by this process and those that it forks, and lets a fault strike once.

    Args:
        folder: the sweep's.
        trace: a file outside of it, to which each moment is appended as a line "event place".
        fault: None watches only.
    """

    def __init__(self, folder: Path, trace: Path, fault: Fault | None) -> None:
        self._folder, self._fault = str(folder.resolve()), fault
        self._trace = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._launcher = os.getpid()
        self._shared = mmap.mmap(-1, 2 * 8)  # what all forks count together: such moments so far; is the disk full?
        self._unsynced = _Unsynced()
        self._busy = threading.local()  # by thread: the driver commits in one of its own
        self._fsync: Callable[[int], None] = os.fsync

    def install(self) -> None:
        """From now on, for the rest of this process's life."""
        os.fsync = self._sync  # type: ignore[assignment]
        sys.addaudithook(self._hear)

    @property
    def inherited(self) -> tuple[int, ...]:
        """Open files that a forked process has to keep."""
        return (self._trace,)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in AUDITED or vars(self._busy).get("is_set"):
            return
        self._busy.is_set = True
        try:
            if paths := writes(event, arguments):
                self._before(AUDITED[event], paths)
        finally:
            self._busy.is_set = False

    def _sync(self, handle: Any) -> None:
        number = handle if isinstance(handle, int) else handle.fileno()
        self._busy.is_set = True
        try:
            self._before("fsync", [_path(number)])
        finally:
            self._busy.is_set = False
        self._fsync(number)

    def _before(self, event: str, paths: list[str]) -> None:
        path = paths[-1]
        if path != self._folder and not path.startswith(f"{self._folder}/"):
            return
        place = _RANDOM.sub("*", path.removeprefix(self._folder)[1:]) or "."
        place = re.sub(r"/code/.*", "/code", place)
        os.write(self._trace, f"{event} {place}\n".encode())
        self._strike(event, place)
        if event == "open":
            self._unsynced.contents.add(path)
        elif event == "rename":
            self._unsynced.renamed(*paths)
        elif event == "link":
            self._unsynced.linked(*paths)
        elif event == "fsync":
            self._unsynced.synced(path)
        if self._count(1) and event in TAKES_ROOM:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    def _strike(self, event: str, place: str) -> None:
        fault = self._fault
        if fault is None or (event, place) != (fault.moment.event, fault.moment.place):
            return
        if self._count(0, add=1) - 1 != fault.moment.nth:
            return
        if fault.how == "full disk":
            self._count(1, add=1)
        elif fault.how in ("SIGTERM", "SIGINT"):
            os.kill(self._launcher, signal.Signals[fault.how])
        else:
            if fault.how == "loss of power":
                _lose_power(self._unsynced, random.Random(fault.seed))
            if fault.how != "SIGKILL":
                os.kill(self._launcher, signal.SIGKILL)  # its ranks end with it
            os.kill(os.getpid(), signal.SIGKILL)

    def _count(self, number: int, add: int = 0) -> int:
        """One of the shared counters, after adding; launcher and ranks take turns, so that nothing is lost."""
        place = slice(8 * number, 8 * number + 8)
        value = int.from_bytes(self._shared[place]) + add
        self._shared[place] = value.to_bytes(8)
        return value


def moments_of(trace: Path) -> list[Moment]:
    """The moments of a launch in their order, from the trace of a watch."""
    found: list[Moment] = []
    counts: dict[tuple[str, str], int] = {}
    for line in trace.read_text().splitlines():
        event, _, place = line.partition(" ")
        found.append(Moment(event, place, counts.get((event, place), 0)))
        counts[event, place] = found[-1].nth + 1
    return found


def _lose_power(unsynced: _Unsynced, chance: random.Random) -> None:
    """Of what was not synced, contents are cut and new names are gone: each or not, as a file system may do it."""
    for path in sorted(unsynced.contents):
        if Path(path).is_file():
            os.truncate(path, chance.randint(0, Path(path).stat().st_size))
    for new, old, before in reversed(unsynced.names):
        is_lost = Path(new).exists() and (old is None or Path(old).parent.is_dir()) and chance.random() < 0.5
        if is_lost and old is None:
            Path(new).unlink()
        elif is_lost:
            Path(new).rename(old)
            if before is not None:
                Path(new).write_bytes(before)


def writes(event: str, arguments: tuple[Any, ...]) -> list[str]:
    """The path that an audit event is about to change; of a rename or link both, the new one last; else empty."""
    if event not in AUDITED or (event == "open" and not (isinstance(arguments[2], int) and arguments[2] & CHANGES)):
        return []
    if event == "open" and isinstance(arguments[0], int):  # a stream on a file that is open already
        return []
    if event in ("os.rename", "os.link"):
        return [_path(arguments[0], arguments[2]), _path(arguments[1], arguments[3])]
    folder = {"os.mkdir": 2, "os.remove": 1, "os.rmdir": 1}.get(event)
    return [_path(arguments[0], -1 if folder is None else arguments[folder])]


def _path(given: Any, folder: int = -1) -> str:
    """A path from its text, from an open file's number, or as it is seen from an open folder."""
    if isinstance(given, int):
        return str(Path(f"/proc/self/fd/{given}").readlink())
    above = Path.cwd() if folder in (-1, None) else Path(f"/proc/self/fd/{folder}").readlink()
    return str(above / os.fsdecode(given))
