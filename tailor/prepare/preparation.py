"""Makes a data set of image files: unpacks, lists, divides into tasks, decodes, writes the manifest, renames."""

import shutil
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from tailor.catalogue import manifest
from tailor.catalogue.manifest import SOURCE, TARGET, DataManifest
from tailor.core.errors import ConfigError
from tailor.prepare import archive, arrays, chunks, decode, duplicates, progress
from tailor.prepare.chunks import DecodedTask
from tailor.prepare.fingerprint import bits_of
from tailor.prepare.folder import list_folder
from tailor.prepare.images_file import ListedImage, write_images
from tailor.prepare.labels import list_labelled
from tailor.prepare.layouts import LAYOUTS, Layout
from tailor.prepare.listing import (
    SHOWN,
    SPLITS,
    TEST,
    FileListing,
    FilesRefused,
    ImageFile,
    Refused,
    as_text,
    errors_explained,
    some,
)
from tailor.prepare.tasks import SplitRule, TaskFiles, cut, has_test_split
from tailor.prepare.workspace import publish, workspace
from transtailor.files import write_file
from transtailor.terminal import printable, say


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
    labels: Path | None = None  # a table of the images and their classes, where no folders say them

    @property
    def folder(self) -> Path:
        """The data set's folder."""
        return manifest.folder_of(self.root, self.name)


def prepare(request: Request, out: TextIO) -> DataManifest:
    """Make the data set `request.name` below `request.root`; the same call resumes an interrupted one.

    Raises:
        ConfigError: the user's mistake or a fault in the files; the data set has no folder then. If single files are
            at fault, the text names a file with all of them, and what was decoded is kept.

    Writes: the data set's folder, whole or not at all; progress to `out`.
    """
    layout = LAYOUTS[request.layout]
    decode.check_image_px(request.image_px)
    if request.labels is not None and layout.images is not None:
        raise ConfigError(
            f"--labels has no effect with --layout {request.layout}, which has its own lists; leave it out"
        )
    for origin in (*request.origins, *filter(None, [request.source_from])):
        if not origin.exists():
            raise ConfigError(f"{origin} does not exist; give {layout.expects} in --from")
    with workspace(request.folder) as work:
        listed_files = work.with_name(f"{request.name}.refused.txt")
        listed_files.unlink(missing_ok=True)  # of an earlier call
        unpacked: dict[Path, Path] = {}  # folder -> the archive that it comes from
        try:
            _make(request, layout, work, unpacked, out)
        except FilesRefused as error:
            advice = "; then type the same command again"
            if (work / "prepared").exists():
                advice += f": what was decoded is kept in {work}"
            if len(error.refused) > SHOWN:
                lines = [f"{_shown(refused.path, unpacked)}\t{printable(refused.reason)}" for refused in error.refused]
                write_file(listed_files, "".join(f"{line}\n" for line in lines))
                advice += f". All {len(lines)}, with the reasons, are in {listed_files}"
            raise FilesRefused(f"{error}{advice}", error.refused) from error
    return manifest.read(request.root, request.name)


def _make(request: Request, layout: Layout, work: Path, unpacked: dict[Path, Path], out: TextIO) -> None:
    """Make the data set in `work` and give it its name; notes in `unpacked` which folder is of which archive."""
    roots = _roots(request.origins, work, unpacked, out)
    source_roots = None if request.source_from is None else _roots((request.source_from,), work, unpacked, out)
    with errors_explained():
        listing = layout.list_images(roots) if request.labels is None else list_labelled(roots, request.labels)
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
    for path in prepared.iterdir():
        if not path.name.endswith(".images.npy"):  # of an earlier call, which may have had other options
            path.unlink()
    images = _listed(tasks, _decode(tasks, request, prepared, work, out))
    if layout.images is None and has_test_split(listing.files) and not test.by_trial:
        _refuse_shared(tasks[TARGET], images)
    for line in copies(images):
        say(line, to=out)
    _write_columns(prepared, tasks)
    if test.by_trial:
        _write_groups(prepared, tasks[TARGET], images, out)
    write_images(prepared / manifest.IMAGES_FILE, images)
    _describe(prepared, request, tasks, test, drawn)
    publish(prepared, request.folder)


def _shown(path: Path, unpacked: Mapping[Path, Path]) -> str:
    """A path as the user knows it: below the folder that was given, or in an archive."""
    for folder, packed in unpacked.items():
        if path.is_relative_to(folder):
            return printable(f"{packed}: {path.relative_to(folder)}")
    return printable(as_text(str(path)))


def _roots(origins: Sequence[Path], work: Path, unpacked: dict[Path, Path], out: TextIO) -> tuple[Path, ...]:
    """The folders to look for images and lists in; archives are unpacked below `work`, and noted in `unpacked`."""
    roots: list[Path] = []
    lists = [path for path in origins if path.suffix.lower() in (".txt", ".mat")]
    for origin in origins:
        if origin.is_dir():
            roots.append(origin)
        elif archive.is_archive(origin):
            say(f"unpacking {origin}", to=out)
            roots.append(archive.unpack(origin, work))
            unpacked[roots[-1]] = origin
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
            kinds = Counter(PurePosixPath(name).suffix or "no suffix" for name in listing.left_out)
            counted = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(SHOWN))
            say(
                f"note: {len(listing.left_out)} file(s) are left out, because they are not images in the folder of a "
                f"class ({counted}): {some(listing.left_out)}",
                to=out,
            )
    found = len(listings[0].files)
    if layout.images is not None and found != layout.images:
        say(f"note: {found} images; the complete official data set has {layout.images}", to=out)


def _decode(
    tasks: dict[str, TaskFiles], request: Request, prepared: Path, work: Path, out: TextIO
) -> dict[str, DecodedTask]:
    """Write the images of both tasks.

    Raises:
        FilesRefused: files that are no whole images; all others are decoded and kept.
    """
    count = sum(len(task.files) for task in tasks.values())
    needed_bytes = count * 3 * request.image_px**2
    there_bytes = sum(path.stat().st_size for path in prepared.iterdir())  # of an interrupted call
    free_bytes = shutil.disk_usage(prepared).free
    if needed_bytes - there_bytes > free_bytes:
        raise ConfigError(
            f"{count} images of {request.image_px} x {request.image_px} pixels take {needed_bytes:,} bytes, and "
            f"{free_bytes:,} are free in {request.root}; make room, or give a smaller --image-px or another --to"
        )
    decoded: dict[str, DecodedTask] = {}
    with progress.show_progress(out, f"decoding {request.name}", count, "images") as advance, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")  # of metadata that is not read; they name no file
        for task, cutting in tasks.items():
            images, journal = prepared / f"{task}.images.npy", work / f"{task}.journal"
            decoded[task] = chunks.decode_files(
                cutting.files, request.image_px, images, journal, request.threads, advance
            )
    if kept_images := sum(task.kept_images for task in decoded.values()):
        say(f"{kept_images} of them were decoded by an earlier call, verified and kept", to=out)
    broken: dict[ImageFile, str] = {}
    for task, cutting in tasks.items():
        problems = zip(cutting.files, decoded[task].problems, strict=True)
        broken |= {file: problem for file, problem in problems if problem}
    if broken:
        raise FilesRefused(
            f"{len(broken)} of {count} image files cannot be read: "
            f"{some(f'{file.name} ({problem})' for file, problem in broken.items())}; replace or remove them",
            [Refused(file.path, problem) for file, problem in broken.items()],
        )
    return decoded


def _listed(tasks: dict[str, TaskFiles], decoded: dict[str, DecodedTask]) -> list[ListedImage]:
    """The lines of images.csv."""
    images: list[ListedImage] = []
    for task, cutting in tasks.items():
        for file, label, sha256, fingerprint in zip(
            cutting.files, cutting.labels, decoded[task].hashes, decoded[task].fingerprints, strict=True
        ):
            number = len(images)
            images.append(ListedImage(number, task, file.split, file.class_name, label, file.name, sha256, fingerprint))
    return images


def copies(images: Sequence[ListedImage], *, shown: int = SHOWN) -> Iterator[str]:
    """Yield a warning if files are, byte for byte, under several labels, and one if they are in several splits."""
    for task in (SOURCE, TARGET):
        if shared := duplicates.with_two_labels([image for image in images if image.task == task]):
            names = some(map(" = ".join, shared), shown)
            yield (
                f"warning: {len(shared)} file(s) have more than one label: {names}; remove those in the wrong folder, "
                "and prepare again"
            )
    if shared := duplicates.in_two_splits([image for image in images if image.task == TARGET]):
        names = some(map(" = ".join, shared), shown)
        yield (
            f"warning: splits overlap: {len(shared)} file(s) are in more than one split: {names}; remove them from "
            "one, or test scores will be too good"
        )


def _refuse_shared(target: TaskFiles, images: Sequence[ListedImage]) -> None:
    """Raise FilesRefused for files that are, byte for byte, in several splits."""
    shared = duplicates.in_two_splits([image for image in images if image.task == TARGET])
    if shared:
        path_of = {file.name: file.path for file in target.files}
        raise FilesRefused(
            f"splits overlap: {len(shared)} file(s) are in more than one split: {some(map(' = '.join, shared))}; "
            "remove them from one",
            [Refused(path_of[name], f"in two splits: {' = '.join(names)}") for names in shared for name in names],
        )


def _write_groups(prepared: Path, target: TaskFiles, images: Sequence[ListedImage], out: TextIO) -> None:
    """Write the groups of a pool instead of a test split, and print how many images they hold together.

    Raises:
        FilesRefused: classes have fewer groups than a trial has splits.
    """
    groups = duplicates.groups_of(bits_of([image.fingerprint for image in images if image.task == TARGET]))
    (prepared / f"{TARGET}.is_test.npy").unlink()
    np.save(prepared / manifest.GROUP_FILE, groups, allow_pickle=False)
    labels = np.array(target.labels)
    shown: list[str] = []
    refused: list[Refused] = []
    for label, name in enumerate(target.classes):
        of_class = groups[labels == label]
        count = len(set(of_class))
        if count < len(SPLITS):
            of_name = [file for file in target.files if file.class_name == name]
            refused += [Refused(file.path, f"looks like others of class {name!r}") for file in of_name]
            shown.append(f"class {name!r} has {len(of_class)} images in {count} group(s)")
    if shown:
        raise FilesRefused(
            f"{some(shown)} of images that look alike; expected three or more groups, for training, validation and "
            "test images of each trial: add other images of it, or remove it",
            refused,
        )
    say(groups_text(groups), to=out)


def groups_text(groups: NDArray[np.int64]) -> str:
    """How many images of a pool look like another one."""
    counts = np.bincount(groups)
    held = int(counts[counts > 1].sum())
    return f"{held} images look like another one; they are in {int((counts > 1).sum())} groups, each stays whole"


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
