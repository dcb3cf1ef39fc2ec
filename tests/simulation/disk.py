"""A disk that forgets: real files on a RAM file system, and what of them would survive a loss of power.

All that changes a file goes through functions of the module `os`; these are replaced while a day is simulated. A sync
of a file makes its content durable, a sync of a folder the names in it. A loss of power leaves what is durable, and of
all else what the seed chooses: each name new or old, each content whole, cut or old.
"""

import builtins
import errno
import io
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from tests.simulation.aftermath import Aftermath, Entry, listed, write
from tests.simulation.beliefs import Beliefs
from tests.simulation.world import Dead, Task, World

TEMPORARY = re.compile(r"(^|/)\.([^/]+)\.[0-9a-f]{8}\.tmp(?=$|/)")  # half of a file, or a folder: named like the whole
SMALL = re.compile(
    r"\d{6}(?=-\d{6}\.)|(?<=\d{6}-)\d{6}(?=\.)|(?<=\.writing/)\d+|[0-9a-f]{8,}|(?<=\.)\d+(?=\.|$|/)"
    r"|(?<=^shared/cache/)..|(?<=@).+(?=\.creating)"
)
_CREATES = os.O_CREAT
_REAL = {
    name: getattr(os, name)
    for name in (
        "open", "close", "fsync", "replace", "rename", "link", "unlink", "remove", "mkdir", "rmdir", "statvfs", "stat",
        "scandir", "listdir",
    )
}  # fmt: skip
_OPEN_FILE = io.open
TAKES_ROOM = ("open", "write", "fsync", "mkdir", "link")


class Disk:
    """The files below one folder.

    Attributes:
        before: called before each change with its kind, its place, without what is random in it, and path; may raise.
        after: called after each change with its kind and path.
        fails_with: an error number for every change that would take room, or None.
        machine: the name of the machine on which a task runs, which sees what it believes; "" for one that sees all.
        overwritten: files to which a machine appended, and wrote over what another one had.
    """

    def __init__(self, root: Path, world: World) -> None:
        self.root, self._world = root, world
        self._prefix = f"{root}/"
        self.before: Callable[[str, str, str], object] = _ignore
        self.after: Callable[[str, str], object] = _ignore
        self.machine: Callable[[Task], str] = _one_machine
        self._beliefs = Beliefs(lambda: world.now_s)
        self.overwritten: list[str] = []
        self._deciding: list[Task | None] = []
        self.fails_with: int | None = None
        self.is_full = False
        self._left: list[str] = []  # files that a program has left half made, without having been killed
        self._half_made: dict[Task | None, str] = {}
        self._is_off = False  # while its content is replaced
        self._names: dict[int, dict[str, Entry]] = {}  # durable, by the folder's inode
        self._contents: dict[int, bytes] = {}  # durable, by the file's inode
        self._modes: dict[int, int] = {}  # of both
        self._linked: set[int] = set()  # inodes of files that were given another name
        self.settle()

    def changes(self) -> list[tuple[Any, str, Any]]:
        """What to replace in the module `os`, and what opens the files of `Path` and of logs."""
        opens = [(module, "open", self._open_file) for module in (io, builtins)]
        return [*((os, name, getattr(self, f"_{name}")) for name in _REAL), *opens]

    def settle(self) -> None:
        """Make all that is there durable."""
        self._names, self._contents, self._modes, self._linked = {}, {}, {}, set()
        for place, _, files in os.walk(self.root):
            found = Path(place).stat()
            self._names[found.st_ino], self._modes[found.st_ino] = listed(Path(place)), found.st_mode
            for name in files:
                path = Path(place, name)
                found = path.stat()
                self._contents[found.st_ino], self._modes[found.st_ino] = path.read_bytes(), found.st_mode

    def rot(self, path: Path, content: bytes) -> None:
        """Let the disk have another content than what was written."""
        path.write_bytes(content)
        self._contents[path.stat().st_ino] = content

    def lose_power(self, chance: Random) -> None:
        """Leave what is durable, and of the rest what is drawn."""
        saved = Aftermath(self.root, self._names, self._contents, self._modes, self._linked, chance).folder(
            self.root.stat().st_ino
        )
        self._is_off = True
        shutil.rmtree(self.root)
        write(self.root, saved)
        self._is_off = False
        self._beliefs.forget()
        self.settle()

    def place(self, path: str) -> str:
        """A path below the folder without what is random in it."""
        return SMALL.sub("*", TEMPORARY.sub(r"\1\2", self._below(path)))

    def _below(self, path: str) -> str:
        return "." if path == str(self.root) else path.removeprefix(self._prefix)

    def _is_ours(self, path: str) -> bool:
        return (
            (path.startswith(self._prefix) or path == str(self.root))
            and not self._is_off
            and self._world.current is not None
        )

    def _change(self, event: str, path: str, act: Callable[[], Any]) -> Any:
        if not self._is_ours(path):
            return act()
        self._world.step()
        place = self.place(path)
        with self.seeing_all():
            self.before(event, place, path)
        self._world.check_alive()
        self._see_what_is_left(event, path)
        if self.fails_with is not None and (self.fails_with != errno.ENOSPC or event in TAKES_ROOM):
            if self.fails_with == errno.ENOSPC and event in ("write", "fsync") and path.endswith(".tmp"):
                self._half_made[self._world.current] = path
            raise OSError(self.fails_with, os.strerror(self.fails_with), path)
        self._world.tell(f"{event} {self._below(path)}")
        task = self._world.current
        machine = "" if task is None else self.machine(task)
        self._beliefs.change(machine, path)
        done = act()
        if event in ("open", "replace", "rename", "link", "mkdir"):
            self._beliefs.make(machine, path)
        with self.seeing_all():
            self.after(event, path)
        return done

    @contextmanager
    def seeing_all(self) -> Iterator[None]:
        """While what happens to a task is decided, or what it does is judged: that is none of its own looks."""
        task = self._world.current
        self._deciding.append(task)
        try:
            yield
        finally:
            self._deciding.remove(task)

    def _believing(self, path: str) -> str:
        """The machine whose beliefs count for a look at a path; "" if what is there counts."""
        task = self._world.current
        return "" if task is None or task in self._deciding or not self._is_ours(path) else self.machine(task)

    def _refuse_unseen(self, path: str) -> str:
        """Raise FileNotFoundError where this task's machine cannot know that a name is there; else return `path`."""
        machine = self._believing(path)
        if machine and self._beliefs.lacks(machine, path):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return path

    def _stat(self, path: Any, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> os.stat_result:
        def really() -> os.stat_result:
            return _REAL["stat"](path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)  # type: ignore[no-any-return]

        if isinstance(path, int):
            return really()
        name = self._refuse_unseen(_path(path, dir_fd))
        machine = self._believing(name)
        return self._beliefs.status(machine, name, really) if machine and follow_symlinks else really()

    def _open_file(self, path: Any, mode: str = "r", *words: Any, **more: Any) -> Any:
        if isinstance(path, int) or more.get("opener"):
            return _OPEN_FILE(path, mode, *words, **more)
        name = _path(path, None)
        self._refuse_unseen(name if "r" in mode else name.rpartition("/")[0])  # the server makes files
        machine = self._believing(name)
        if "a" in mode and self._is_ours(name):
            raw = _Appended(name, partial(self._append, machine, name))
            self._beliefs.open_file(machine, name, os.fstat(raw.fileno()))
            stream = io.BufferedWriter(raw)
            return stream if "b" in mode else io.TextIOWrapper(stream, **more)
        file = _OPEN_FILE(path, mode, *words, **more)
        if machine:
            if "r" not in mode:
                self._beliefs.make(machine, name)
            self._beliefs.open_file(machine, name, os.fstat(file.fileno()))
        return file

    def _append(self, machine: str, path: str, handle: int, data: bytes) -> int:
        """As a write with O_APPEND over NFS: it goes to where the file ends by what the machine knows."""
        self._world.check_alive()
        found = os.fstat(handle)
        end = self._beliefs.end_of(machine, found.st_ino)
        if end < found.st_size:
            self.overwritten.append(f"{machine} wrote over what others had appended to {self.place(path)}")
        written_bytes = os.pwrite(handle, data, end)
        self._beliefs.append(machine, found.st_ino, written_bytes)
        return written_bytes

    def _list(self, how: str, path: Any) -> Any:
        if not isinstance(path, int):
            name = self._refuse_unseen(_path(path, None))
            self._beliefs.open_folder(self._believing(name), name)
        return _REAL[how](path)

    def _scandir(self, path: Any = ".") -> Any:
        return self._list("scandir", path)

    def _listdir(self, path: Any = ".") -> Any:
        return self._list("listdir", path)

    def _see_what_is_left(self, event: str, path: str) -> None:
        """After an error that lets it, a task has to remove what is half made before it changes anything else."""
        task = self._world.current
        half_made, removes = self._half_made.get(task), event in ("remove", "rmdir")
        if half_made is None or (removes and path != half_made):  # what is in a folder goes before it
            return
        del self._half_made[task]
        if not removes:
            self._left.append(self.place(half_made))

    @property
    def left_half_made(self) -> list[str]:
        """Also by tasks that have ended since."""
        ended = [path for task, path in self._half_made.items() if task is not None and not task.process.dead]
        return [*self._left, *map(self.place, ended)]

    def _open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        def really() -> int:
            return _REAL["open"](path, flags, mode, dir_fd=dir_fd)  # type: ignore[no-any-return]

        if flags & os.O_TMPFILE == os.O_TMPFILE or isinstance(path, int):
            return really()
        if not flags & _CREATES:
            name = self._refuse_unseen(_path(path, dir_fd))
            handle = really()
            found, machine = os.fstat(handle), self._believing(name)
            if stat.S_ISDIR(found.st_mode):
                self._beliefs.open_folder(machine, name)
            elif machine:
                self._beliefs.open_file(machine, name, found)
            return handle
        if not flags & os.O_EXCL:  # a lock, or a request
            name = _path(path, dir_fd)
            machine, is_new = self._believing(name), not os.path.lexists(name)  # noqa: PTH110  # as it is
            self._beliefs.change(machine, name)
            handle = really()
            if machine and is_new:
                self._beliefs.make(machine, name)
            task = self._world.current
            if task is not None:
                task.process.locks.add(handle)
            return handle
        return self._change("open", _path(path, dir_fd), really)  # type: ignore[no-any-return]

    def _close(self, handle: int) -> None:
        task = self._world.current
        if task is not None:
            task.process.locks.discard(handle)
        _REAL["close"](handle)

    def _fsync(self, handle: Any) -> None:
        number = handle if isinstance(handle, int) else handle.fileno()
        path = _of_handle(number)

        def sync() -> None:
            found = os.fstat(number)
            self._modes[found.st_ino] = found.st_mode
            if stat.S_ISDIR(found.st_mode):
                self._names[found.st_ino] = listed(path)
            else:
                with open(f"/proc/self/fd/{number}", "rb") as file:  # noqa: PTH123
                    self._contents[found.st_ino] = file.read()

        if self._is_ours(path):
            if not Path(path).is_dir():
                self._write(path)
            self._change("fsync", path, sync)

    def _write(self, path: str) -> None:
        """The content of a new file was written: what strikes now strikes in the middle of that."""
        try:
            self._change("write", path, lambda: None)
        except (OSError, Dead):
            os.truncate(path, self._world.chance.randrange(Path(path).stat().st_size + 1))
            raise

    def _two(self, event: str, source: Any, target: Any, folders: dict[str, Any]) -> None:
        path = _path(target, folders.get("dst_dir_fd"))
        old_path = _path(source, folders.get("src_dir_fd"))
        self._beliefs.change(self._believing(old_path), old_path)
        self._change(event, path, lambda: _REAL[event](source, target, **folders))

    def _replace(self, source: Any, target: Any, **folders: Any) -> None:
        self._two("replace", source, target, folders)

    def _rename(self, source: Any, target: Any, **folders: Any) -> None:
        self._two("rename", source, target, folders)

    def _link(self, source: Any, target: Any, **folders: Any) -> None:
        self._two("link", source, target, folders)
        self._linked.add(_REAL["stat"](target, dir_fd=folders.get("dst_dir_fd")).st_ino)

    def _unlink(self, path: Any, *, dir_fd: int | None = None) -> None:
        self._change("remove", _path(path, dir_fd), lambda: _REAL["unlink"](path, dir_fd=dir_fd))

    _remove = _unlink

    def _mkdir(self, path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        self._change("mkdir", _path(path, dir_fd), lambda: _REAL["mkdir"](path, mode, dir_fd=dir_fd))

    def _rmdir(self, path: Any, *, dir_fd: int | None = None) -> None:
        self._change("rmdir", _path(path, dir_fd), lambda: _REAL["rmdir"](path, dir_fd=dir_fd))

    def _statvfs(self, path: Any) -> Any:
        if not self._is_ours(str(path)):
            return _REAL["statvfs"](path)
        free = 0 if self.is_full else 10**9
        return os.statvfs_result((4096, 4096, 10**9, free, free, 10**9, 10**9, 10**9, 0, 255))


class _Appended(io.FileIO):
    """A file to which a program appends."""

    def __init__(self, path: str, append: Callable[[int, bytes], int]) -> None:
        super().__init__(path, "a", opener=lambda name, flags: _REAL["open"](name, flags & ~os.O_APPEND, 0o644))
        self._append = append

    def write(self, data: Any) -> int:
        """As a file's."""
        return self._append(self.fileno(), bytes(data))


def _path(path: Any, dir_fd: int | None) -> str:
    given = os.fspath(path)
    return given if given.startswith("/") else f"{Path.cwd() if dir_fd is None else _of_handle(dir_fd)}/{given}"


def _of_handle(handle: int) -> str:
    return os.readlink(f"/proc/self/fd/{handle}")  # noqa: PTH115  # a day asks thousands of times


def _one_machine(_: Task) -> str:
    return ""


def _ignore(*_: str) -> None:
    pass
