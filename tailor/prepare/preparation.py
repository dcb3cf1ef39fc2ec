"""Makes a data set of image files: unpacks, lists, divides into tasks, decodes, writes the manifest, renames."""

import csv
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

from tailor.catalogue import manifest
from tailor.catalogue.manifest import TARGET, DataManifest
from tailor.core.errors import ConfigError
from tailor.prepare import archive, arrays, chunks, decode, duplicates, progress
from tailor.prepare.folder import list_folder
from tailor.prepare.layouts import LAYOUTS, Layout
from tailor.prepare.listing import SPLITS, TEST, FileListing, ImageFile, errors_explained, some
from tailor.prepare.tasks import SplitRule, TaskFiles, cut, has_test_split
from tailor.prepare.workspace import publish, workspace
from transtailor.terminal import say

CSV_COLUMNS = ("id", "task", "split", "class", "label", "name", "file_sha256")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the user wants to prepare."""

    name: str
    origins: tuple[Path, ...]  # folders, archives, and the lists that belong to them
    root: Path
    layout: str
    image_px: int
    source_classes: tuple[str, ...]
    source_from: Path | None
    test_fraction: float | None
    split_seed: int
    threads: int
    test_by_trial: bool = False  # the images are a pool, of which each trial draws its test split


def prepare(request: Request, out: TextIO) -> DataManifest:
    """Make the data set `request.name` below `request.root`; the same call resumes an interrupted one.

    Raises:
        ConfigError: the user's mistake or a fault in the files; no part of the data set is left then.

    Writes: the data set's folder, whole or not at all; progress to `out`.
    """
    final = manifest.folder_of(request.root, request.name)
    layout = LAYOUTS[request.layout]
    decode.check_image_px(request.image_px)
    for origin in (*request.origins, *filter(None, [request.source_from])):
        if not origin.exists():
            raise ConfigError(f"{origin} does not exist; give {layout.expects} in --from")
    with workspace(final) as work:
        roots = _roots(request.origins, work, out)
        source_roots = None if request.source_from is None else _roots((request.source_from,), work, out)
        with errors_explained():
            listing = layout.list_images(roots)
            source = None if source_roots is None else list_folder(source_roots)
        _tell([listing] if source is None else [listing, source], layout, out)
        test = SplitRule(
            fraction=request.test_fraction,
            seed=request.split_seed,
            training_images_per_class=layout.training_images_per_class,
            by_trial=request.test_by_trial,
        )
        tasks = cut(listing, source, request.source_classes, test)
        drawn = test.description(listing)
        if not test.by_trial and not has_test_split(listing.files):
            say(f"note: no test split is given, so one is drawn: {drawn} (--test-fraction, --split-seed)", to=out)
        prepared = work / "prepared"
        prepared.mkdir(exist_ok=True)
        hashes = _decode(tasks, request, prepared, work, out)
        _tell_copies(tasks, hashes, out, is_refused=layout.images is None and has_test_split(listing.files))
        _write_columns(prepared, tasks)
        if test.by_trial:
            _write_groups(prepared, tasks[TARGET], out)
        _write_images(prepared / manifest.IMAGES_FILE, tasks, hashes)
        _describe(prepared, request, tasks, test, drawn)
        publish(prepared, final)
    return manifest.read(request.root, request.name)


def _roots(origins: Sequence[Path], work: Path, out: TextIO) -> tuple[Path, ...]:
    """The folders to look for images and lists in; archives are unpacked below `work`."""
    roots: list[Path] = []
    lists = [path for path in origins if path.suffix.lower() in (".txt", ".mat")]
    for origin in origins:
        if origin.is_dir():
            roots.append(origin)
        elif archive.is_archive(origin):
            say(f"unpacking {origin}", to=out)
            roots.append(archive.unpack(origin, work))
        elif origin not in lists:
            raise ConfigError(
                f"{origin} is neither a folder nor an archive; expected a folder, a {', '.join(archive.SUFFIXES)} "
                "file, or a list (.txt, .mat) of an official data set"
            )
    if lists:
        folder = work / "lists"
        folder.mkdir(exist_ok=True)
        for path in lists:
            shutil.copyfile(path, folder / path.name)
        roots.append(folder)
    return tuple(roots)


def _tell(listings: Sequence[FileListing], layout: Layout, out: TextIO) -> None:
    """Print what is unusual about the listed files but not an error."""
    for listing in listings:
        if listing.left_out:
            count, names = len(listing.left_out), some(listing.left_out)
            say(
                f"note: {count} file(s) are left out, because they are not images in the folder of a class: {names}",
                to=out,
            )
    found = len(listings[0].files)
    if layout.images is not None and found != layout.images:
        say(f"note: {found} images; the complete official data set has {layout.images}", to=out)


def _decode(
    tasks: dict[str, TaskFiles], request: Request, prepared: Path, work: Path, out: TextIO
) -> dict[str, tuple[str, ...]]:
    """Write the images of both tasks; SHA-256 of each image's file by task."""
    count = sum(len(task.files) for task in tasks.values())
    needed_bytes = count * 3 * request.image_px**2
    there_bytes = sum(path.stat().st_size for path in prepared.iterdir())  # of an interrupted call
    free_bytes = shutil.disk_usage(prepared).free
    if needed_bytes - there_bytes > free_bytes:
        raise ConfigError(
            f"{count} images of {request.image_px} x {request.image_px} pixels take {needed_bytes:,} bytes, and "
            f"{free_bytes:,} are free in {request.root}; make room, or give a smaller --image-px or another --to"
        )
    hashes: dict[str, tuple[str, ...]] = {}
    kept_images = 0
    with progress.show_progress(out, f"decoding {request.name}", count, "images") as advance:
        for task, cutting in tasks.items():
            images, journal = prepared / f"{task}.images.npy", work / f"{task}.journal"
            hashes[task], kept = chunks.decode_files(
                cutting.files, request.image_px, images, journal, request.threads, advance
            )
            kept_images += kept
    if kept_images:
        say(f"{kept_images} of them were decoded before an interruption, verified and kept", to=out)
    return hashes


def _tell_copies(
    tasks: dict[str, TaskFiles], hashes: dict[str, tuple[str, ...]], out: TextIO, *, is_refused: bool
) -> None:
    """Print which files are the same, byte for byte, under two labels or in two of the target's splits.

    Raises:
        ConfigError: the target's splits share a file, and `is_refused`.
    """
    for name, task in tasks.items():
        if shared := _shared_files(task, hashes[name], lambda file: file.class_name):
            text = f"{len(shared)} file(s) have more than one label: {some(shared)}"
            say(f"warning: {text}; remove those in the wrong folder, and prepare again", to=out)
    if not (shared := _shared_files(tasks[TARGET], hashes[TARGET], lambda file: file.split)):
        return
    text = f"splits overlap: {len(shared)} file(s) are in more than one split: {some(shared)}; remove them from one"
    if is_refused:
        raise ConfigError(text)
    say(f"warning: {text}, or test scores will be too good", to=out)


def _shared_files(task: TaskFiles, hashes: Sequence[str], part_of: Callable[[ImageFile], str]) -> list[str]:
    """The files that are in several parts of a task, each as its names."""
    names: dict[str, dict[str, str]] = defaultdict(dict)  # SHA-256 -> part -> name
    for file, sha256 in zip(task.files, hashes, strict=True):
        names[sha256].setdefault(part_of(file), file.name)
    return [" = ".join(sorted(by_part.values())) for by_part in names.values() if len(by_part) > 1]


def _write_groups(prepared: Path, target: TaskFiles, out: TextIO) -> None:
    """Write the groups of a pool instead of a test split, and print how many images they hold together.

    Raises:
        ConfigError: a class has fewer groups than a trial has splits.
    """
    groups = duplicates.alike(np.load(prepared / f"{TARGET}.images.npy", mmap_mode="r", allow_pickle=False))
    (prepared / f"{TARGET}.is_test.npy").unlink()
    np.save(prepared / manifest.GROUP_FILE, groups, allow_pickle=False)
    labels, counts = np.array(target.labels), np.bincount(groups)
    for label, name in enumerate(target.classes):
        of_class = groups[labels == label]
        if len(set(of_class)) < len(SPLITS):
            raise ConfigError(
                f"class {name!r} has {len(of_class)} images in {len(set(of_class))} group(s) of images that look "
                "alike; expected three or more groups, for training, validation and test images of each trial: add "
                "other images of it, or remove it"
            )
    held = int(counts[counts > 1].sum())
    say(f"{held} images look like another one; they are in {int((counts > 1).sum())} groups, each stays whole", to=out)


def _write_columns(prepared: Path, tasks: dict[str, TaskFiles]) -> None:
    """Write labels, ids and the test split."""
    first_id = 0
    for task, cutting in tasks.items():
        count = len(cutting.files)
        columns = {
            "labels": np.array(cutting.labels, np.int64),
            "ids": np.arange(first_id, first_id + count, dtype=np.int64),
            "is_test": np.array([file.split == TEST for file in cutting.files], np.bool_),
        }
        first_id += count
        for column in manifest.COLUMNS[task][1:]:
            np.save(prepared / f"{task}.{column}.npy", columns[column], allow_pickle=False)


def _write_images(path: Path, tasks: dict[str, TaskFiles], hashes: dict[str, tuple[str, ...]]) -> None:
    """Write images.csv: a line for each image, in the order of ids."""
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(CSV_COLUMNS)
        number = 0
        for task, cutting in tasks.items():
            for image, label, sha256 in zip(cutting.files, cutting.labels, hashes[task], strict=True):
                lines.writerow((number, task, image.split, image.class_name, label, image.name, sha256))
                number += 1


def _describe(prepared: Path, request: Request, tasks: dict[str, TaskFiles], test: SplitRule, drawn: str) -> None:
    """Write the manifest."""
    names, labels = manifest.POOL_FILES if test.by_trial else manifest.ARRAY_FILES, tasks[TARGET].labels
    opened = {name: np.load(prepared / name, mmap_mode="r", allow_pickle=False) for name in names}
    test_images = round(test.share * len(labels)) if test.by_trial else int(opened[f"{TARGET}.is_test.npy"].sum())
    shapes: dict[str, tuple[int, ...]] = {name: array.shape for name, array in opened.items()} | {
        manifest.IMAGES_FILE: ()
    }
    files = {
        name: manifest.StoredFile(
            sha256=arrays.file_sha256(prepared / name), size_bytes=(prepared / name).stat().st_size, shape=shape
        )
        for name, shape in shapes.items()
    }
    made = {"layout": request.layout, "image_px": request.image_px, "test_split": drawn}
    described = DataManifest(
        name=request.name,
        digest=arrays.digest(opened, test_images),
        input_shape=(3, request.image_px, request.image_px),
        classes={task: of.classes for task, of in tasks.items()},
        test_images=test_images,
        splits={task: dict(sorted(Counter(file.split for file in of.files).items())) for task, of in tasks.items()},
        files=files,
        made=made | decode.versions() | {"numpy": np.__version__},
        class_images=tuple(np.bincount(labels).tolist()) if test.by_trial else (),
    )
    manifest.write(prepared, described)
