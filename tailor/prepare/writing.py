"""What stands beside the images of a data set: labels, ids, splits, the list of images, and the manifest."""

import json
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from tailor.facts import manifest
from tailor.facts.manifest import TARGET, DataManifest
from tailor.prepare import arrays, decode, duplicates
from tailor.prepare.chunks import DecodedTask
from tailor.prepare.fingerprint import bits_of
from tailor.prepare.images_file import ListedImage, files_digest
from tailor.prepare.listing import SPLITS, TEST, FilesRefused, Refused, some
from tailor.prepare.tasks import TaskFiles
from transtailor.plural import counted
from transtailor.terminal import say


def lines_of_images(tasks: dict[str, TaskFiles], decoded: dict[str, DecodedTask]) -> list[ListedImage]:
    """Return the lines of images.csv, of the files that have pixels."""
    lines: list[ListedImage] = []
    for task, task_files in tasks.items():
        for file, label, image in zip(task_files.files, task_files.labels, decoded[task].images, strict=True):
            if image.problem:
                continue
            line = ListedImage(
                id=len(lines),
                task=task,
                split=file.split,
                class_name=file.class_name,
                label=label,
                name=file.name,
                file_sha256=image.sha256,
                fingerprint=image.fingerprint,
            )
            lines.append(line)
    return lines


def write_columns(prepared: Path, tasks: dict[str, TaskFiles]) -> None:
    """Write labels, ids and the test split."""
    first_id = 0
    for task, task_files in tasks.items():
        count = len(task_files.files)
        _save_column(prepared, task, "labels", np.array(task_files.labels, np.int64))
        _save_column(prepared, task, "ids", np.arange(first_id, first_id + count, dtype=np.int64))
        if task == TARGET:
            is_test = [file.split == TEST for file in task_files.files]
            _save_column(prepared, task, "is_test", np.array(is_test, np.bool_))
        first_id += count


def _save_column(prepared: Path, task: str, column: str, values: NDArray[Any]) -> None:
    np.save(prepared / f"{task}.{column}.npy", values, allow_pickle=False)


def write_groups(prepared: Path, target: TaskFiles, images: Sequence[ListedImage], out: TextIO) -> None:
    """Write the groups of a pool instead of a test split, and print how many images they hold together.

    Raises:
        FilesRefused: classes have fewer groups than a trial has splits.
    """
    groups = duplicates.groups_of(bits_of([image.fingerprint for image in images if image.task == TARGET]))
    (prepared / f"{TARGET}.is_test.npy").unlink()
    np.save(prepared / manifest.GROUP_FILE, groups, allow_pickle=False)
    labels = np.array(target.labels)
    faults: list[str] = []
    refused: list[Refused] = []
    for label, name in enumerate(target.classes):
        groups_of_images = groups[labels == label]
        group_count = len(set(groups_of_images))
        if group_count < len(SPLITS):
            files = [file for file in target.files if file.class_name == name]
            refused += [Refused(file.path, f"looks like others of class {name!r}") for file in files]
            faults.append(
                f"class {name!r} has {counted(len(groups_of_images), 'image')} in {counted(group_count, 'group')}"
            )
    if faults:
        raise FilesRefused(
            f"{some(faults)} of images that look alike; expected three or more groups, for training, validation and "
            "test images of each trial: add other images of it, or remove it",
            refused,
        )
    say(duplicates.groups_text(groups), to=out)


def write_manifest(
    prepared: Path,
    name: str,
    tasks: Mapping[str, TaskFiles],
    images: Sequence[ListedImage],
    test_images: int | None,
    made: Mapping[str, Any],
    image_px: int,
) -> None:
    """Write the manifest of the arrays and of images.csv, which are in `prepared` already.

    Args:
        test_images: that each trial draws from a pool; None: the test split is fixed.
        made: how the data set was made, for readers.
    """
    target_labels = tasks[TARGET].labels
    is_pool = test_images is not None
    opened = {
        file: np.load(prepared / file, mmap_mode="r", allow_pickle=False)
        for file in (manifest.POOL_FILES if is_pool else manifest.ARRAY_FILES)
    }
    if test_images is None:
        test_images = int(opened[f"{TARGET}.is_test.npy"].sum())
    files = {file: _stored_file(prepared / file, array.shape) for file, array in opened.items()}
    files[manifest.IMAGES_FILE] = _stored_file(prepared / manifest.IMAGES_FILE, shape=())
    splits = {}
    for task, task_files in tasks.items():
        images_of_split = Counter(file.split for file in task_files.files)
        splits[task] = dict(sorted(images_of_split.items()))
    data_set = DataManifest(
        name=name,
        digest=arrays.digest(opened, test_images),
        files_digest=files_digest(images, image_px, test_images),
        input_shape=(3, image_px, image_px),
        classes={task: task_files.classes for task, task_files in tasks.items()},
        test_images=test_images,
        splits=splits,
        files=files,
        made={**made, **decode.versions(), "numpy": np.__version__},
        class_images=tuple(np.bincount(target_labels).tolist()) if is_pool else (),
    )
    manifest.write(prepared, data_set)


def copy_under(prepared: Path, name: str, folder: Path) -> Path:
    """Make `folder`, and return it: a finished data set under another name; its arrays are the same files if they can.

    Raises:
        OSError: the disk is full.
    """
    shutil.rmtree(folder, ignore_errors=True)  # what an interrupted call left
    folder.mkdir(parents=True)
    for path in prepared.iterdir():
        if path.name == manifest.MANIFEST_FILE:
            continue
        try:
            os.link(path, folder / path.name)
        except OSError:  # a file system without links
            shutil.copyfile(path, folder / path.name)
    first = DataManifest.from_values(json.loads((prepared / manifest.MANIFEST_FILE).read_bytes()))
    manifest.write(folder, replace(first, name=name))
    return folder


def _stored_file(path: Path, shape: tuple[int, ...]) -> manifest.StoredFile:
    return manifest.StoredFile(sha256=arrays.file_sha256(path), size_bytes=path.stat().st_size, shape=shape)
