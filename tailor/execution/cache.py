"""Finished stages on disk: one immutable file each, made under a temporary name and linked. No locks, no pickle.

    cache/ab/abcd....stage  first line, JSON: kind, settings, outcome, origin, checksums of tensors and JSON;
                            then the tensors that the stage changed, as a safetensors file

Two processes that finish one stage at the same time write the same content: the second one finds the file and drops its
own.
"""

import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from transtailor.documents import Record, read_json
from transtailor.files import is_there, list_there, make_folder, open_there, stat_there, sync, write_new_file

SUFFIX = ".stage"
KEY_DIGITS = 64
DESCRIPTION_BYTES = 2**28
"""More than any description has; a damaged file may have no end of its first line."""


class DamagedStage(RuntimeError):
    """The bytes of a stage have changed since it was written."""

    def __init__(self, text: str, inode: int | None) -> None:
        """Keep which file has them; None: there is none."""
        super().__init__(text)
        self.inode = inode


@dataclass(frozen=True, kw_only=True)
class MadeBy:
    """How a stage was computed."""

    compute_s: float
    device: str
    ranks: int
    threads: int  # of each rank
    torch_version: str
    trial_id: str = ""
    run: str = ""  # id of the run that the trial was of; "" outside of a sweep


@dataclass(frozen=True, kw_only=True)
class StageDescription:
    """What a stage is, and the facts that it stored; another version of the program may have written more."""

    kind: str
    version: int
    settings: dict[str, Any]
    parents: tuple[str, ...]
    info: dict[str, Any]  # the facts that it stored; which ones depends on the kind
    made_by: MadeBy


@dataclass(frozen=True, kw_only=True)
class StoredStage(Record):
    """The content of a stage, without the tensors' bytes."""

    key: str
    description: StageDescription
    tensors_bytes: int
    tensors_sha256: str


class Cache:
    """Finished stages below one folder, which processes on several machines may share.

    >>> str(Cache(Path("cache")).path("abcd"))
    'cache/ab/abcd.stage'
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, key: str) -> Path:
        """Return the file of a stage, whether it exists or not."""
        return self.folder / key[:2] / f"{key}{SUFFIX}"

    def has(self, key: str) -> bool:
        """Whether the stage is finished."""
        return is_there(self.path(key))

    def stored_keys(self) -> Iterator[str]:
        """Yield the keys of all finished stages; unfinished and damaged ones have names that begin with a dot."""
        for path in list_there(self.folder, f"??/{KEY_DIGITS * '[0-9a-f]'}{SUFFIX}"):
            if path.parent.name == path.name[:2]:
                yield path.stem

    def read(self, key: str) -> StoredStage | None:
        """Return the description of a finished stage; None if there is none.

        Raises:
            DamagedStage: the description is not JSON, is of another stage, or has changed.
        """
        path = self.path(key)
        try:
            first_line, _, inode = _read(path, with_tensors=False)
        except FileNotFoundError:
            return None
        try:
            stored = read_json(first_line)
            if stored["key"] != key:
                raise ValueError(f"it describes stage {stored['key']}")
            if stored.pop("sha256") != _checksum(stored):
                raise ValueError("its SHA-256 is not the one in it")
            return StoredStage.from_values(stored)
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedStage(f"{path}: {error}", inode) from error

    def read_tensors(self, key: str) -> bytes:
        """Return the tensors of a finished stage as safetensors bytes, their checksum verified.

        Raises:
            DamagedStage: the bytes are missing or have changed.
        """
        path = self.path(key)
        status = stat_there(path)
        inode = None if status is None else status.st_ino
        try:
            first_line, content, inode = _read(path)
            expected = read_json(first_line)["tensors_sha256"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DamagedStage(f"{path}: {error}", inode) from error
        if hashlib.sha256(content).hexdigest() != expected:
            raise DamagedStage(f"{path}: the SHA-256 of its tensors is not the one in its description", inode)
        return content

    def write(self, key: str, description: StageDescription, tensors: bytes) -> StoredStage:
        """Store a finished stage unless it is there already; return the stored one.

        Writes: the stage's file, whole or not at all.
        """
        path = self.path(key)
        stored = {
            "key": key,
            "description": asdict(description),
            "tensors_bytes": len(tensors),
            "tensors_sha256": hashlib.sha256(tensors).hexdigest(),
        }
        stored = json.loads(json.dumps(stored))  # as it will be read
        first_line = json.dumps({"sha256": _checksum(stored), **stored}).encode()
        make_folder(path.parent)
        try:
            write_new_file(path, lambda file: file.writelines((first_line, b"\n", tensors)))
        except FileExistsError:
            sync(path.parent)  # the process that was first may not have done it yet
        return self.read(key) or StoredStage.from_values(stored)

    def set_aside(self, key: str, damage: DamagedStage) -> Path | None:
        """Move a damaged stage away, so that it is computed again; return its new path.

        Return None if its file is not the damaged one any more: another machine may have computed the stage meanwhile.
        """
        path = self.path(key)
        status = stat_there(path)
        if status is None or status.st_ino != damage.inode:
            return None
        target = path.with_name(f".damaged-{key[:16]}-{secrets.token_hex(4)}")
        path.rename(target)
        return target


def _read(path: Path, *, with_tensors: bool = True) -> tuple[bytes, bytes, int]:
    """Return the first line of a stage's file, its description; the rest, its tensors; and the file's inode."""
    with open_there(path) as file:
        first_line = file.readline(DESCRIPTION_BYTES)
        tensors = file.read() if with_tensors else b""
        inode = os.fstat(file.fileno()).st_ino
    return first_line, tensors, inode


def _checksum(stored: dict[str, Any]) -> str:
    """Return the SHA-256 of a description without its own checksum, whatever the order and layout of its JSON."""
    return hashlib.sha256(json.dumps(stored, sort_keys=True).encode()).hexdigest()
