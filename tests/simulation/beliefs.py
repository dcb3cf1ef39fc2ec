"""What each machine believes of files that others change, as a client of NFS does (nfs(5)).

A name that another machine has made is absent for it, and what it knows of a file stays as it was, for up to a minute;
unless it opens the folder, or the file, or changes it: then the server answers. It appends to a file at the end that it
knows. An open file stays the one that was opened, also if the name stands for another one by now, as on any disk.
"""

import os
from collections.abc import Callable
from functools import lru_cache

BELIEVED_S = 60.0  # how long a machine may believe what it knows


class Beliefs:
    """What the machines know, each by its name."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._made: dict[str, tuple[str, float]] = {}  # path -> by which machine, and when
        self._asked_s: dict[tuple[str, str], float] = {}  # machine, name or folder: when it asked, or opened it
        self._known: dict[tuple[str, str], dict[str, tuple[os.stat_result, float]]] = {}  # by machine and folder
        self._ends: dict[tuple[str, int], int] = {}  # machine, inode -> where the file ends

    def change(self, machine: str, path: str) -> None:
        """A machine is about to change what a name stands for: the server answers, whatever it is."""
        now_s = self._now_s()
        for name, folder in _upwards(path):
            self._asked_s[machine, name] = now_s
            if (known := self._known.get((machine, folder))) is not None:
                known.pop(name, None)

    def make(self, machine: str, path: str) -> None:
        """A machine has made a name."""
        self._made[path] = (machine, self._now_s())

    def open_folder(self, machine: str, folder: str) -> None:
        """A machine has opened a folder: it asks again for the names in it."""
        self._asked_s[machine, f"{folder}/"] = self._now_s()
        self._known.pop((machine, folder), None)

    def open_file(self, machine: str, path: str, status: os.stat_result) -> None:
        """A machine has opened a file: from now on it knows this of it."""
        self._known.setdefault((machine, _folder(path)), {})[path] = (status, self._now_s())
        self._ends[machine, status.st_ino] = status.st_size

    def lacks(self, machine: str, path: str) -> bool:
        """Whether a machine cannot know yet that a name is there."""
        for name, folder in _upwards(path):
            maker, made_s = self._made.get(name, (machine, 0.0))
            if maker != machine and self._now_s() - made_s < BELIEVED_S:
                asked_s = max(self._asked_s.get((machine, known), -1.0) for known in (name, f"{folder}/"))
                if asked_s < made_s:
                    return True
        return False

    def status(self, machine: str, path: str, ask: Callable[[], os.stat_result]) -> os.stat_result:
        """The status of a file or folder as a machine knows it, or else as it is; raises as `ask`."""
        known = self._known.setdefault((machine, _folder(path)), {})
        if path not in known or self._now_s() - known[path][1] >= BELIEVED_S:
            known.pop(path, None)
            known[path] = (ask(), self._now_s())
        return known[path][0]

    def end_of(self, machine: str, inode: int) -> int:
        """Where a file ends that a machine has opened."""
        return self._ends[machine, inode]

    def append(self, machine: str, inode: int, written_bytes: int) -> None:
        """A machine has appended to a file."""
        self._ends[machine, inode] += written_bytes

    def forget(self) -> None:
        """All machines have lost their power: no file has the inode that they knew."""
        self._known.clear()


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


@lru_cache(maxsize=5000)
def _upwards(path: str) -> tuple[tuple[str, str], ...]:
    """A path and all folders above it, each with the folder in which it is."""
    found = []
    while path:
        folder = _folder(path)
        found.append((path, folder))
        path = folder
    return tuple(found)
