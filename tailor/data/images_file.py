"""images.csv of a prepared data set: a line for each image, in the order of ids."""

import csv
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from tailor.facts.manifest import unreadable
from tailor.facts.preprocess import steps_from_file


class ListedImage(NamedTuple):
    """A line of images.csv; the names of the fields are those of its columns, but for `class`."""

    id: int
    task: str  # source or target
    split: str  # train, val, test or pool
    class_name: str
    label: int
    name: str  # of its file, below the folder or archive that it came from
    file_sha256: str
    fingerprint: str  # equal or nearly so for images that look alike, see pictures.py
    group: str = ""  # as the user gave it; the column is there only if there are groups


COLUMNS = tuple("class" if field == "class_name" else field for field in ListedImage._fields)


def write_images(path: Path, images: Sequence[ListedImage]) -> None:
    """Write images.csv, in UTF-8."""
    columns = len(COLUMNS) - (not any(image.group for image in images))
    with path.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(COLUMNS[:columns])
        lines.writerows(image[:columns] for image in images)


def read_images(path: Path) -> list[ListedImage]:
    """Return the lines of images.csv.

    Raises ConfigError: it is not what `write_images` wrote.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            columns, *lines = csv.reader(file)
            if tuple(columns) not in (COLUMNS, COLUMNS[:-1]):
                raise ValueError(f"its columns are {', '.join(columns)}; expected {', '.join(COLUMNS)}")
            images = []
            for number, task, split, class_name, label, *others in lines:
                images.append(ListedImage(int(number), task, split, class_name, int(label), *others))
            return images
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise unreadable(path, f"cannot be read: {error}", error) from error


def files_digest(images: Iterable[ListedImage], image_px: int, test_images: int) -> str:
    """Return the SHA-256 of a data set's files, labels, splits, groups and recipe, which no library changes.

    Images are in the order of ids; test images are those of the test split or, of a pool, as many as each trial draws.
    """
    recipe = {"steps": steps_from_file(image_px, None), "test_images": test_images}
    sha256 = hashlib.sha256(f"{json.dumps(recipe, sort_keys=True)}\n".encode())
    for image in images:
        parts = [image.task, image.split, image.class_name, image.label, image.file_sha256]
        sha256.update(f"{json.dumps(parts + [image.group] if image.group else parts)}\n".encode())
    return sha256.hexdigest()
