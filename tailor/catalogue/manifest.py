"""The manifest of a prepared data set: what planning knows of it without reading pixels.

ROOT/NAME/manifest.json      this
ROOT/NAME/images.csv         every image: id, task, split, class, name, SHA-256 of the file it came from
ROOT/NAME/<task>.images.npy  uint8 (N, 3, H, W); <task> is source or target
ROOT/NAME/<task>.labels.npy  int64 (N,); <task>.ids.npy int64 (N,)
ROOT/NAME/target.is_test.npy bool (N,), or for a pool, from which each trial draws its own test split,
ROOT/NAME/target.group.npy   int64 (N,), equal for images that look alike, which a draw keeps together
"""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tailor.core.errors import ConfigError
from transtailor.documents import read_json
from transtailor.names import nearest
from transtailor.shell import command

FORMAT_VERSION = 2
POOL_VERSION = 3  # of a pool alone, so that other manifests stay as they were
UNSEALED_VERSION = 1  # without a digest of the manifest itself; still read, its numbers are compared on loading
MANIFEST_FILE, IMAGES_FILE = "manifest.json", "images.csv"
SOURCE, TARGET = "source", "target"
COLUMNS = {SOURCE: ("images", "labels", "ids"), TARGET: ("images", "labels", "ids", "is_test")}
ARRAY_FILES = tuple(f"{task}.{column}.npy" for task, columns in COLUMNS.items() for column in columns)
GROUP_FILE = f"{TARGET}.group.npy"
POOL_FILES = (*ARRAY_FILES[:-1], GROUP_FILE)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """A file of a prepared data set as it was written."""

    sha256: str
    size_bytes: int
    shape: tuple[int, ...]  # of its array; () for a file that holds none


@dataclass(frozen=True, kw_only=True)
class DataManifest:
    """A prepared data set."""

    name: str
    digest: str  # SHA-256 over all arrays, so over everything that training reads
    input_shape: tuple[int, int, int]  # channels, height, width
    source_class_names: tuple[str, ...]  # a label is an index into this
    target_class_names: tuple[str, ...]
    source_images: int
    target_images: int
    test_images: int  # of the target's; of a pool: as many as each trial draws
    files: dict[str, StoredFile]
    is_sealed: bool = True  # whether the manifest has a digest of itself; those of version 1 have none
    class_images: tuple[int, ...] = ()  # of a pool: the target's images of each class

    @property
    def source_classes(self) -> int:
        """How many classes the source task has; 0 where there is no source task."""
        return len(self.source_class_names)

    @property
    def target_classes(self) -> int:
        """How many classes the target task has."""
        return len(self.target_class_names)

    @property
    def pool(self) -> dict[str, int]:
        """Images of each class of a pool, by the class's name; empty where the test split is fixed."""
        return dict(zip(self.target_class_names, self.class_images, strict=True)) if self.class_images else {}

    @property
    def array_files(self) -> tuple[str, ...]:
        """The files that hold its arrays."""
        return POOL_FILES if self.class_images else ARRAY_FILES


def read(root: Path, name: str) -> DataManifest:
    """The manifest of data set `name` below `root`; its files exist and have the lengths that it states.

    Their content is verified by `transtailor data check`, not here.

    Raises:
        ConfigError: no such data set, a broken or changed manifest, or a file that is missing or has another length.
    """
    folder = folder_of(root, name)
    path = folder / MANIFEST_FILE
    try:
        manifest = _parse(read_json(path))
    except FileNotFoundError as error:
        prepared = sorted(found.parent.name for found in root.glob(f"*/{MANIFEST_FILE}"))
        hint = nearest(name, prepared) if prepared else ""
        raise ConfigError(
            f"no data set {name!r} is prepared in {root}{hint}; "
            f"type: {command('data', 'prepare', name, '--to', root, '--from')} FOLDER_OR_ARCHIVE"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is not a manifest: {error!r}; {remedy(folder)}") from error
    if manifest.name != name:
        raise ConfigError(
            f"{path} is of data set {manifest.name!r}, and the folder is called {name!r}; rename it to {manifest.name}"
        )
    for file, stored in manifest.files.items():
        _check_length(folder, file, stored)
    return manifest


def folder_of(root: Path, name: str) -> Path:
    """The folder of a data set, whether it exists or not.

    Raises:
        ConfigError: `name` cannot be a folder's name.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"a data set cannot be called {name!r}: use letters, digits, '_', '-' and '.', beginning with "
            "a letter or a digit, for example birds_176"
        )
    return root / name


def remedy(folder: Path) -> str:
    """The end of an error message about a data set whose files changed: what to do."""
    return f"remove {folder} and prepare the data set again"


def write(folder: Path, manifest: DataManifest, made: dict[str, Any], splits: dict[str, dict[str, int]]) -> None:
    """Write `manifest.json`.

    Args:
        folder: the folder of the manifest's files.
        manifest: all that `read` returns.
        made: how the data set was made, for readers.
        splits: images by task and split, for readers.
    """
    content = {
        "format_version": POOL_VERSION if manifest.class_images else FORMAT_VERSION,
        "name": manifest.name,
        "digest": manifest.digest,
        "input_shape": list(manifest.input_shape),
        "classes": {SOURCE: list(manifest.source_class_names), TARGET: list(manifest.target_class_names)},
        "test_images": manifest.test_images,
        "splits": splits,
        "files": {
            name: {"sha256": stored.sha256, "size_bytes": stored.size_bytes, "shape": list(stored.shape)}
            for name, stored in manifest.files.items()
        },
        "made": made,
    } | ({"class_images": list(manifest.class_images)} if manifest.class_images else {})
    content["sha256"] = manifest_sha256(content)
    (folder / MANIFEST_FILE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def manifest_sha256(content: dict[str, Any]) -> str:
    """SHA-256 over a manifest's fields and values in canonical JSON, all but `sha256` itself."""
    hashed = {name: value for name, value in content.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(hashed, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _parse(content: dict[str, Any]) -> DataManifest:
    version = content["format_version"]
    if version not in (UNSEALED_VERSION, FORMAT_VERSION, POOL_VERSION):
        raise ValueError(f"its format is version {version}, this program reads {UNSEALED_VERSION} to {POOL_VERSION}")
    if version != UNSEALED_VERSION and content["sha256"] != manifest_sha256(content):
        raise ValueError("it was changed after it was written: its SHA-256 differs")
    files = {
        name: StoredFile(
            sha256=stored["sha256"], size_bytes=int(stored["size_bytes"]), shape=tuple(map(int, stored["shape"]))
        )
        for name, stored in content["files"].items()
    }
    names = POOL_FILES if version == POOL_VERSION else ARRAY_FILES
    if set(files) != {*names, IMAGES_FILE}:
        raise ValueError(f"it lists the files {', '.join(sorted(files))}")
    channels, height, width = map(int, content["input_shape"])
    counts = {task: files[f"{task}.images.npy"].shape[0] for task in COLUMNS}
    expected = [
        (counts[task], channels, height, width) if column == "images" else (counts[task],)
        for task, columns in COLUMNS.items()
        for column in columns
    ]
    _expect_shapes(files, dict(zip(names, expected, strict=True)))
    return DataManifest(
        name=content["name"],
        digest=content["digest"],
        input_shape=(channels, height, width),
        source_class_names=tuple(content["classes"][SOURCE]),
        target_class_names=tuple(content["classes"][TARGET]),
        source_images=counts[SOURCE],
        target_images=counts[TARGET],
        test_images=int(content["test_images"]),
        files=files,
        is_sealed=version != UNSEALED_VERSION,
        class_images=tuple(map(int, content["class_images"])) if version == POOL_VERSION else (),
    )


def _expect_shapes(files: dict[str, StoredFile], shapes: dict[str, tuple[int, ...]]) -> None:
    for name, shape in shapes.items():
        if files[name].shape != shape:
            raise ValueError(f"it gives {name} the shape {files[name].shape} where {shape} fits the rest")


def _check_length(folder: Path, file: str, stored: StoredFile) -> None:
    try:
        size_bytes = (folder / file).stat().st_size
    except OSError as error:
        raise ConfigError(f"{folder / file} cannot be read: {error}; {remedy(folder)}") from error
    if size_bytes != stored.size_bytes:
        raise ConfigError(
            f"{folder / file} has {size_bytes} bytes, the manifest says {stored.size_bytes}; {remedy(folder)}"
        )
