"""What of the files survives a loss of power: what is durable, and of all else what the seed chooses."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from random import Random

UNKNOWN_MODE = 0o700  # of what was removed without ever having been synced, and is back after a loss of power


@dataclass(frozen=True)
class Entry:
    """What a name in a folder stands for."""

    inode: int
    is_folder: bool


@dataclass(frozen=True)
class Saved:
    """A file or folder that survives: its content, or what is in it."""

    content: bytes | dict[str, "Saved"]
    mode: int


class Aftermath:
    """Chooses what survives a loss of power."""

    def __init__(
        self, root: Path, names: dict[int, dict[str, Entry]], contents: dict[int, bytes], modes: dict[int, int],
        linked: set[int], chance: Random,
    ) -> None:  # fmt: skip
        self._names, self._contents, self._linked, self._chance = names, contents, linked, chance
        self._keeps = chance.choice((0.0, 0.5, 0.5, 1.0))  # how probable it is that a change survives without a sync
        self._folders: dict[int, Path] = {}
        self._files: dict[int, Path] = {}
        for place, _, files in sorted(os.walk(root)):
            self._folders[Path(place).stat().st_ino] = Path(place)
            self._files |= {Path(place, name).stat().st_ino: Path(place, name) for name in sorted(files)}
        self._modes = modes | {inode: path.stat().st_mode for inode, path in (self._folders | self._files).items()}
        self._durable = {entry.inode for held in names.values() for entry in held.values()}
        self._moved: dict[int, bool] = {}  # of what had another name when that was durable: whether the move survives

    def folder(self, inode_of_this: int) -> Saved:
        """What is in a folder."""
        now = listed(self._folders[inode_of_this]) if inode_of_this in self._folders else {}
        then = self._names.get(inode_of_this, {})
        kept: dict[str, Saved] = {}
        for name in sorted(now.keys() | then.keys()):
            entry = self._chosen(now.get(name), then.get(name))
            if entry is not None:
                inode = entry.inode
                file = None if entry.is_folder else Saved(self._content(inode), self._modes.get(inode, UNKNOWN_MODE))
                kept[name] = file or self.folder(inode)
        return Saved(kept, self._modes.get(inode_of_this, UNKNOWN_MODE))

    def _chosen(self, new: Entry | None, old: Entry | None) -> Entry | None:
        """What a name stands for; a rename survives as a whole or not at all."""
        if new == old:
            return new
        if new is not None and self._survives(new.inode):
            return new
        if old is None:
            return None
        has_another_name = old.inode in self._folders or old.inode in self._files
        if new is None:
            is_gone = self._survives(old.inode) if has_another_name else self._chance.random() < self._keeps
            return None if is_gone else old
        is_renamed = has_another_name and old.inode not in self._linked  # a link leaves the name until it is replaced
        return None if is_renamed and self._moved.get(old.inode) else old

    def _survives(self, inode: int) -> bool:
        if inode not in self._durable:
            return self._chance.random() < self._keeps
        return self._moved.setdefault(inode, self._chance.random() < self._keeps)

    def _content(self, inode: int) -> bytes:
        synced = self._contents.get(inode)
        now = self._files[inode].read_bytes() if inode in self._files else None
        if now is None or now == synced:
            return synced or b""
        if self._chance.random() < self._keeps:
            return now
        is_cut = synced is None or self._chance.random() < 0.5
        return now[: self._chance.randrange(len(now) + 1)] if is_cut else synced or b""


def listed(place: str | Path) -> dict[str, Entry]:
    """What the names in a folder stand for."""
    with os.scandir(place) as entries:
        return {e.name: Entry(e.inode(), e.is_dir(follow_symlinks=False)) for e in entries}


def write(path: Path, saved: Saved) -> None:
    """Make what survives."""
    if isinstance(saved.content, bytes):
        path.write_bytes(saved.content)
    else:
        path.mkdir()
        for name, below in saved.content.items():
            write(path / name, below)
    path.chmod(stat.S_IMODE(saved.mode))
