"""Finished stages on disk: immutable folders by key, made under a temporary name and renamed. No locks, no pickle.

    cache/ab/abcd.../stage.json          kind, settings, outcome, origin, checksums of the tensors and of this file
    cache/ab/abcd.../tensors.safetensors the tensors that the stage changed

Two processes that finish one stage at the same time write the same content: the second one finds the folder and drops
its own.
"""

import hashlib
import json
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from transtailor.documents import Record, read_json
from transtailor.files import sync, write_folder

STAGE_FILE, TENSORS_FILE = "stage.json", "tensors.safetensors"


class DamagedStage(RuntimeError):
    """The bytes of a stage's folder have changed since it was written."""


@dataclass(frozen=True, kw_only=True)
class MadeBy:
    """How a stage was computed."""

    compute_s: float
    device: str
    ranks: int
    threads: int  # of each rank
    torch_version: str


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
    """The content of a stage's folder, without the tensors' bytes."""

    key: str
    description: StageDescription
    tensors_bytes: int


class Cache:
    """Finished stages below one folder, which processes on several machines may share.

    >>> str(Cache(Path("cache")).path("abcd"))
    'cache/ab/abcd'
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, key: str) -> Path:
        """The folder of a stage, whether it exists or not."""
        return self.folder / key[:2] / key

    def has(self, key: str) -> bool:
        """Whether the stage is finished."""
        return (self.path(key) / STAGE_FILE).exists()

    def read(self, key: str) -> StoredStage | None:
        """The description of a finished stage; None if there is none.

        Raises:
            DamagedStage: the description is not JSON, is of another stage, or has changed.
        """
        try:
            content = (self.path(key) / STAGE_FILE).read_bytes()
        except FileNotFoundError:
            return None
        try:
            stored = read_json(content)
            if stored["key"] != key:
                raise ValueError(f"it describes stage {stored['key']}")
            if stored.pop("sha256", None) not in (None, _checksum(stored)):  # None: older stages have none
                raise ValueError("its SHA-256 is not the one in it")
            return StoredStage.from_values({name: stored[name] for name in ("key", "description", "tensors_bytes")})
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedStage(f"{self.path(key) / STAGE_FILE}: {error}") from error

    def read_tensors(self, key: str) -> bytes:
        """The tensors of a finished stage as safetensors bytes, their checksum verified.

        Raises:
            DamagedStage: the bytes are missing or have changed.
        """
        path = self.path(key)
        try:
            content = (path / TENSORS_FILE).read_bytes()
            expected = read_json(path / STAGE_FILE)["tensors_sha256"]
        except (OSError, ValueError, KeyError) as error:
            raise DamagedStage(f"{path}: {error}") from error
        if hashlib.sha256(content).hexdigest() != expected:
            raise DamagedStage(f"{path / TENSORS_FILE}: its SHA-256 is not the one in {STAGE_FILE}")
        return content

    def write(self, key: str, description: StageDescription, tensors: bytes) -> StoredStage:
        """Store a finished stage unless it is there already; return the stored one.

        Writes: the stage's folder, whole or not at all.
        """
        final = self.path(key)
        stored = {
            "key": key,
            "description": asdict(description),
            "tensors_bytes": len(tensors),
            "tensors_sha256": hashlib.sha256(tensors).hexdigest(),
        }
        stored = json.loads(json.dumps(stored))  # as it will be read
        described = json.dumps({"sha256": _checksum(stored), **stored}, indent=1).encode()
        try:
            write_folder(final, {TENSORS_FILE: tensors, STAGE_FILE: described})
        except FileExistsError:
            if not self.has(key):
                raise
            sync(final.parent)  # the process that was first may not have done it yet
        return self.read(key) or StoredStage(key=key, description=description, tensors_bytes=len(tensors))

    def set_aside(self, key: str) -> Path:
        """Move a damaged stage away, so that it is computed again; its new path."""
        target = self.path(key).with_name(f".damaged-{key[:16]}-{secrets.token_hex(4)}")
        self.path(key).rename(target)
        return target


def _checksum(stored: dict[str, Any]) -> str:
    """SHA-256 of a description without its own checksum, whatever the order and layout of its JSON."""
    return hashlib.sha256(json.dumps(stored, sort_keys=True).encode()).hexdigest()
