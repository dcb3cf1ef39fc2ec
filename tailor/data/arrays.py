"""The arrays of a prepared data set: mapped into memory for training, verified against the manifest.

Shapes: N images of a task, C channels, H height, W width.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailor.common.errors import ConfigError
from tailor.facts import manifest
from tailor.facts.manifest import GROUP_FILE, SOURCE, TARGET, DataManifest

BLOCK_BYTES = 1 << 24
DTYPES = {"images": np.uint8, "labels": np.int64, "ids": np.int64, "is_test": np.bool_, "group": np.int64}


@dataclass(frozen=True, kw_only=True, eq=False)
class Arrays:
    """A task of a prepared data set."""

    images: NDArray[np.uint8]  # (N, C, H, W), a read-only memory map
    labels: NDArray[np.int64]  # (N,), from 0; the classes' order is the manifest's
    ids: NDArray[np.int64]  # (N,), the image's number in its data set; source and target have different ones
    is_test: NDArray[np.bool_]  # (N,), whether the image is in the fixed test split; all False for source and pools
    group: NDArray[np.int64] | None = None  # (N,), of a target in groups, or a pool: equal for what one split has

    def __len__(self) -> int:
        return len(self.labels)


def load(root: Path, name: str) -> dict[str, Arrays]:
    """Return both tasks of data set `name` below `root`: "source" (perhaps without images) and "target".

    Labels, ids and splits are verified against the manifest. Of the images only shape and length are checked, because
    images are read when they are needed. `verify` reads them all.

    Raises ConfigError: no such data set, or its files differ from the manifest.
    """
    data_set = manifest.read(root, name)
    folder = manifest.folder_of(root, name)
    for file in data_set.array_files:
        if not file.endswith(".images.npy"):
            _verify_file(folder, file, data_set)
    arrays = {file: open_array(folder, file, data_set) for file in data_set.array_files}
    tasks = {}
    for task in (SOURCE, TARGET):
        labels = arrays[f"{task}.labels.npy"]
        tasks[task] = Arrays(
            images=arrays[f"{task}.images.npy"],
            labels=labels,
            ids=arrays[f"{task}.ids.npy"],
            is_test=arrays.get(f"{task}.is_test.npy", np.zeros(len(labels), np.bool_)),
            group=arrays.get(f"{task}.group.npy"),
        )
    return tasks


def verify(root: Path, name: str, advance: Callable[[int], None] | None = None) -> DataManifest:
    """Read every byte of the data set's files and compare it with the manifest; return the manifest.

    `advance` is called with the number of bytes read since the last call.

    Raises ConfigError: a file has changed; the text names it.
    """
    data_set = manifest.read(root, name)
    folder = manifest.folder_of(root, name)
    for file in data_set.files:
        _verify_file(folder, file, data_set, advance)
    arrays = {file: open_array(folder, file, data_set) for file in data_set.array_files}
    if digest(arrays, data_set.test_images) != data_set.digest:
        raise ConfigError(f"{folder}: the manifest's digest is not that of its arrays; {manifest.remedy(folder)}")
    return data_set


def digest(arrays: dict[str, NDArray[Any]], test_images: int) -> str:
    """Return the SHA-256 over names, types, shapes and bytes of arrays by file name, in the order of the names.

    The digest of images in groups has the number of test images, too, because no array of a pool says it.
    """
    sha256 = hashlib.sha256()
    if GROUP_FILE in arrays:
        sha256.update(f"{test_images} test images\n".encode())
    for name, array in sorted(arrays.items()):
        sha256.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        flat = array.reshape(-1).view(np.uint8)
        for start in range(0, len(flat), BLOCK_BYTES):
            sha256.update(flat[start : start + BLOCK_BYTES].data)
    return sha256.hexdigest()


def file_sha256(path: Path, advance: Callable[[int], None] | None = None) -> str:
    """Return the SHA-256 of a file's bytes; `advance` is called with the number of bytes read since the last call."""
    return file_digests(path, ["sha256"], advance)["sha256"]


def file_digests(path: Path, algorithms: Iterable[str], advance: Callable[[int], None] | None = None) -> dict[str, str]:
    """Return the digests of a file's bytes by these algorithms of hashlib; `advance` as in `file_sha256`."""
    hashes = {name: hashlib.new(name, usedforsecurity=False) for name in algorithms}
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            for one in hashes.values():
                one.update(block)
            if advance is not None:
                advance(len(block))
    return {name: one.hexdigest() for name, one in hashes.items()}


def open_array(folder: Path, file: str, data_set: DataManifest) -> NDArray[Any]:
    """Return an array of the data set as a read-only memory map.

    Raises ConfigError: the file has no array of the manifest's type and shape.
    """
    _task, column, _suffix = file.split(".")
    expected_type = DTYPES[column]
    expected_shape = data_set.files[file].shape
    try:
        array: NDArray[Any] = np.load(folder / file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise manifest.unreadable(folder / file, f"is not an array: {error}", error) from error
    if array.dtype != expected_type or array.shape != expected_shape or not array.flags.c_contiguous:
        raise ConfigError(
            f"{folder / file} holds {array.dtype} of shape {array.shape}, the manifest says "
            f"{np.dtype(expected_type)} of shape {expected_shape}; {manifest.remedy(folder)}"
        )
    return array


def _verify_file(folder: Path, file: str, data_set: DataManifest, advance: Callable[[int], None] | None = None) -> None:
    if file_sha256(folder / file, advance) != data_set.files[file].sha256:
        raise ConfigError(
            f"{folder / file} is not the file that the manifest describes: its SHA-256 differs; "
            f"{manifest.remedy(folder)}"
        )
