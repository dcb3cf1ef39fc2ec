"""The manifest of a prepared data set: what planning knows of it without reading pixels.

ROOT/NAME/manifest.json      this
ROOT/NAME/images.csv         every image: id, task, split, class, name, SHA-256 and fingerprint of the file it came from
ROOT/NAME/<task>.images.npy  uint8 (N, 3, H, W); <task> is source or target
ROOT/NAME/<task>.labels.npy  int64 (N,); <task>.ids.npy int64 (N,)
ROOT/NAME/target.is_test.npy bool (N,), or for a pool, from which each trial draws its own test split,
ROOT/NAME/target.group.npy   int64 (N,), equal for images that a draw keeps together: of a group, or that look alike
"""

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tailor.common.errors import ConfigError
from transtailor.documents import Record, read_json
from transtailor.errors import is_of_the_machine, reason_of
from transtailor.names import nearest
from transtailor.plural import first_few
from transtailor.shell import command

FORMAT_VERSION = 1
MANIFEST_FILE = "manifest.json"
IMAGES_FILE = "images.csv"
SOURCE = "source"
TARGET = "target"

_SOURCE_FILES = ("source.images.npy", "source.labels.npy", "source.ids.npy")
_TARGET_FILES = ("target.images.npy", "target.labels.npy", "target.ids.npy")
GROUP_FILE = "target.group.npy"
ARRAY_FILES = (*_SOURCE_FILES, *_TARGET_FILES, "target.is_test.npy")
POOL_FILES = (*_SOURCE_FILES, *_TARGET_FILES, GROUP_FILE)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """A file of a prepared data set as it was written."""

    sha256: str
    size_bytes: int
    shape: tuple[int, ...]  # of its array; () for a file that holds none


@dataclass(frozen=True, kw_only=True)
class DataManifest(Record):
    """A prepared data set; the fields are those of `manifest.json`."""

    format_version: int = FORMAT_VERSION
    name: str
    digest: str  # of pixels: SHA-256 over all arrays, so over everything that training reads
    files_digest: str = ""  # of files: SHA-256 over files, labels, splits, recipe; "": prepared by an earlier version
    input_shape: tuple[int, int, int]  # channels, height, width
    classes: dict[str, tuple[str, ...]]  # names of each task's classes; a label is an index into them
    test_images: int  # of the target's; of a pool: as many as each trial draws
    splits: dict[str, dict[str, int]] = field(default_factory=dict)  # images by task and split, for readers
    files: dict[str, StoredFile]
    made: dict[str, Any] = field(default_factory=dict)  # how the data set was made, for readers
    class_images: tuple[int, ...] = ()  # of a pool: the target's images of each class
    sha256: str = ""  # of the other fields

    @property
    def source_classes(self) -> int:
        """How many classes the source task has; 0 where there is no source task."""
        return len(self.classes[SOURCE])

    @property
    def target_classes(self) -> int:
        """How many classes the target task has."""
        return len(self.classes[TARGET])

    @property
    def source_images(self) -> int:
        """How many images the source task has."""
        return self.files[f"{SOURCE}.images.npy"].shape[0]

    @property
    def target_images(self) -> int:
        """How many images the target has, with its test images."""
        return self.files[f"{TARGET}.images.npy"].shape[0]

    @property
    def pool(self) -> dict[str, int]:
        """Images of each class of a pool, by the class's name; empty where the test split is fixed."""
        if not self.class_images:
            return {}
        return dict(zip(self.classes[TARGET], self.class_images, strict=True))

    @property
    def array_files(self) -> tuple[str, ...]:
        """The files that hold its arrays."""
        if self.class_images:
            return POOL_FILES
        return (*ARRAY_FILES, GROUP_FILE) if GROUP_FILE in self.files else ARRAY_FILES


def read(root: Path, name: str) -> DataManifest:
    """Return the manifest of data set `name` below `root`, after a check that its files exist and have its lengths.

    `transtailor data check` verifies the content of the files; this function does not.

    Raises:
        ConfigError: no such data set, a broken or changed manifest, or a file that is missing or has another length.
    """
    folder = folder_of(root, name)
    path = folder / MANIFEST_FILE
    try:
        manifest = _parse(read_json(path))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ConfigError(f"no data set {name!r} is prepared in {root}{_advice(root, name)}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise unreadable(path, f"is not a manifest: {error!r}", error) from error
    if manifest.name != name:
        raise ConfigError(
            f"{path} is of data set {manifest.name!r}, and the folder is called {name!r}; rename it to {manifest.name}"
        )
    for file, stored in manifest.files.items():
        _check_length(folder, file, stored)
    return manifest


def _advice(root: Path, name: str) -> str:
    """Return the end of a message about a data set that is not there: where it may be, or how to prepare it."""
    folder = root / name
    inside = _names_in(folder)
    if inside:
        return f"; that folder has data sets: name one, as in {folder / inside[0]} (valid: {first_few(inside)})"
    if (root / MANIFEST_FILE).is_file():
        return f", which is a data set itself; its root is {root.parent}"
    below = sorted(root.glob(f"*/{name}/{MANIFEST_FILE}"))
    if below:
        return f"; did you mean {str(below[0].parent)!r}?"
    if folder.is_dir():  # photographs, which must not be taken for a data set to be removed
        make = command("data", "prepare", name, "--from", folder, "--to", root / "datasets")
        return (
            f", and {folder} has no {MANIFEST_FILE}; if it has the images, make a data set of them, whose root is "
            f"{root / 'datasets'}; type: {make}"
        )
    names = _names_in(root)
    hint = nearest(name, names) if names else ""
    elsewhere = "" if root.is_dir() else ", which is not there; go to the folder that has it (cd), or make the data set"
    return f"{elsewhere}{hint}; type: {command('data', 'prepare', name, '--to', root, '--from')} FOLDER_OR_ARCHIVE"


def _names_in(root: Path) -> list[str]:
    """Return the names of the data sets in a folder."""
    return sorted(path.parent.name for path in root.glob(f"*/{MANIFEST_FILE}"))


def folder_of(root: Path, name: str) -> Path:
    """Return the folder of a data set, which need not exist. Raises ConfigError: `name` cannot be a folder's name."""
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"a data set cannot be called {name!r}: use a-z, A-Z, 0-9, '_', '-' and '.', beginning with "
            "a letter or a digit of these, at most 100 characters, for example birds_176"
        )
    return root / name


def remedy(folder: Path) -> str:
    """Return what to do about a data set whose files changed, as the end of an error message."""
    return f"remove {folder} and prepare the data set again"


def unreadable(path: Path, fault: str, error: Exception) -> ConfigError:
    """Return the error of a data set's file that cannot be read. The file may be whole if the machine refuses it."""
    if isinstance(error, OSError) and is_of_the_machine(error):
        return ConfigError(reason_of(error, path))
    return ConfigError(f"{path} {fault}; {remedy(path.parent)}")


def write(folder: Path, manifest: DataManifest) -> None:
    """Write `manifest.json` with its own SHA-256 into the folder of the data set."""
    content = asdict(manifest)
    content["sha256"] = manifest_sha256(content)
    (folder / MANIFEST_FILE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def manifest_sha256(content: dict[str, Any]) -> str:
    """Return the SHA-256 over a manifest's fields and values in canonical JSON, all but `sha256` itself."""
    hashed = {name: value for name, value in content.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(hashed, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _parse(content: dict[str, Any]) -> DataManifest:
    """Return the manifest in a JSON document. Raises ValueError: it was changed, or its parts do not fit together."""
    version = content["format_version"]
    if version != FORMAT_VERSION:
        raise ValueError(f"its format is version {version}, this program reads {FORMAT_VERSION}")
    if content["sha256"] != manifest_sha256(content):
        raise ValueError("it was changed after it was written: its SHA-256 differs")
    manifest = DataManifest.from_values(content)
    if set(manifest.files) != {*manifest.array_files, IMAGES_FILE}:
        raise ValueError(f"it lists the files {', '.join(sorted(manifest.files))}")
    for file in manifest.array_files:
        task, column, _ = file.split(".")
        count = manifest.files[f"{task}.images.npy"].shape[0]
        expected_shape = (count, *manifest.input_shape) if column == "images" else (count,)
        shape = manifest.files[file].shape
        if shape != expected_shape:
            raise ValueError(f"it gives {file} the shape {shape} where {expected_shape} fits the rest")
    return manifest


def _check_length(folder: Path, file: str, stored: StoredFile) -> None:
    path = folder / file
    try:
        size_bytes = path.stat().st_size
    except OSError as error:
        raise unreadable(path, f"cannot be read: {error}", error) from error
    if size_bytes != stored.size_bytes:
        raise ConfigError(f"{path} has {size_bytes} bytes, the manifest says {stored.size_bytes}; {remedy(folder)}")
