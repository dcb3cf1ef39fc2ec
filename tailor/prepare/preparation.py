"""Makes a data set of image files: unpacks, lists, divides into tasks, decodes, writes the manifest, renames."""

import shutil
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TextIO

from tailor.common.errors import ConfigError
from tailor.facts import manifest
from tailor.facts.manifest import TARGET, DataManifest
from tailor.prepare import archive, chunks, decode, duplicates, progress
from tailor.prepare.chunks import DecodedTask
from tailor.prepare.faults import Faults
from tailor.prepare.folder import list_folder
from tailor.prepare.images_file import ListedImage, write_images
from tailor.prepare.label_columns import AskedColumns
from tailor.prepare.labels import list_labelled
from tailor.prepare.layouts import LAYOUTS, Layout
from tailor.prepare.listing import (
    SHOWN,
    SPLITS,
    TEST,
    VALIDATION,
    FileListing,
    FilesRefused,
    ImageFile,
    Refused,
    is_any_set_aside,
    some,
)
from tailor.prepare.published import UNOFFICIAL, check_counts, refuse_html, verify_files
from tailor.prepare.tasks import SplitRule, TaskFiles, cut, has_test_split, warnings_of
from tailor.prepare.workspace import publish, workspace
from tailor.prepare.writing import copy_under, lines_of_images, write_columns, write_groups, write_manifest
from transtailor.plural import counted
from transtailor.terminal import say


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the user wants to prepare."""

    name: str
    also: tuple[str, ...] = ()  # other names of the same data set, each a folder of its own
    origins: tuple[Path, ...]  # folders, archives, and the lists that belong to them
    root: Path
    layout: str
    image_px: int
    source_classes: tuple[str, ...]
    source_from: Path | None
    test_fraction: float | None
    split_seed: int | None
    threads: int
    test_by_trial: bool = False  # the images are a pool, of which each trial draws its test split
    labels: Path | None = None  # a table of the images and their classes, where no folders say them
    label_columns: AskedColumns = AskedColumns()  # of that table
    unofficial: bool = False  # whether an official layout may have other files, classes and images than the published

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
    _refuse_request(request, layout)
    with workspace(request.folder) as work:
        refused_file = work.with_name(f"{request.name}.refused.txt")
        refused_file.unlink(missing_ok=True)  # of an earlier call
        faults = Faults()
        with faults.collected():
            _make(request, layout, work, faults, out)
        faults.refuse(refused_file, f": what was decoded is kept in {work}" if (work / "prepared").exists() else "")
    return manifest.read(request.root, request.name)


def _refuse_request(request: Request, layout: Layout) -> None:
    """Raise ConfigError for options that do not fit together, and for files that are not there or are web pages."""
    decode.check_image_px(request.image_px)
    if request.unofficial and layout.official is None:
        raise ConfigError(f"{UNOFFICIAL} is for an official layout, and there is none; give --layout, or leave it out")
    if request.labels is not None and layout.official is not None:
        raise ConfigError(
            f"--labels has no effect with --layout {request.layout}, which has its own lists; leave it out"
        )
    if request.labels is None and request.label_columns != AskedColumns():
        raise ConfigError(
            "--image-column and --class-column name columns of a table, and there is none; give it in --labels, or "
            "leave them out"
        )
    for origin in request.origins:
        _refuse_origin(origin, request, layout, "--from")
    if request.source_from is not None:
        _refuse_origin(request.source_from, request, LAYOUTS["folder"], "--source-from")
    for name in request.also:
        if name == request.name:
            raise ConfigError(f"--also {name} is the name of the data set itself; give another one, or leave it out")
        folder = manifest.folder_of(request.root, name)
        if folder.exists():
            raise ConfigError(f"{folder} is there already; remove it first, or leave --also {name} out")


def _refuse_origin(origin: Path, request: Request, layout: Layout, option: str) -> None:
    """Raise ConfigError for a file or folder that is not there, is a web page, or would have the data set in it."""
    if not origin.exists():
        as_word = "; several classes are one word: --source-classes A,B" if request.source_classes else ""
        raise ConfigError(f"{origin} does not exist; give {layout.expects} in {option}{as_word}")
    if origin.is_file():
        refuse_html(origin)
        if not archive.is_archive(origin) and (
            layout.official is None or origin.suffix.lower() not in (".txt", ".mat")
        ):
            raise ConfigError(
                f"{option} {origin} is neither a folder nor an archive ({', '.join(archive.SUFFIXES)}); give "
                f"{layout.expects} there, unpacked if it is of another kind; a table of labels belongs in --labels"
            )
    has_class_folders = layout.official is None and (request.labels is None or option == "--source-from")
    if has_class_folders and request.root.resolve().is_relative_to(origin.resolve()):
        raise ConfigError(
            f"--to {request.root} is in the folder of the images, {origin}, where its folders would count as classes; "
            "give a folder outside of it"
        )


def _make(request: Request, layout: Layout, work: Path, faults: Faults, out: TextIO) -> None:
    """Make the data set in `work` and give it its name, if all files are in order; notes what is not in `faults`."""
    archives = verify_files(layout.official, request.origins, out, unofficial=request.unofficial)
    roots = _roots(request.origins, work, faults.unpacked, out)
    source_roots = None if request.source_from is None else _roots((request.source_from,), work, faults.unpacked, out)
    test = SplitRule(
        fraction=request.test_fraction,
        seed=request.split_seed,
        training_images_per_class=None if layout.official is None else layout.official.training_images_per_class,
        by_trial=request.test_by_trial,
    )
    listing, tasks = faults.without(lambda: _list(request, layout, roots, source_roots, test, out), out)
    test_split = test.description(listing)
    if not faults.kinds:  # else the listing is without what is refused, and what is said of it would not be true
        check_counts(layout.official, listing, out, unofficial=request.unofficial)
        for warning in warnings_of(tasks.values()):
            say(f"warning: {warning}", to=out)
        _say_what_is_drawn(test, listing, out)
    prepared = work / "prepared"
    prepared.mkdir(exist_ok=True)
    for path in prepared.iterdir():
        if not path.name.endswith(".images.npy"):  # of an earlier call, which may have had other options
            path.unlink()
    images = lines_of_images(tasks, _decode(tasks, request, prepared, work, faults, out))
    if layout.official is None and has_test_split(listing.files) and not test.by_trial:
        _refuse_shared(tasks[TARGET], images)
    for line in duplicates.copies(images):
        say(line, to=out)
    if faults.kinds:
        return
    write_columns(prepared, tasks)
    if test.by_trial:
        write_groups(prepared, tasks[TARGET], images, out)
    write_images(prepared / manifest.IMAGES_FILE, images)
    made = {"layout": request.layout, "image_px": request.image_px, "test_split": test_split, "archives": archives}
    drawn = round(test.share * len(tasks[TARGET].labels)) if test.by_trial else None
    write_manifest(prepared, request.name, tasks, images, drawn, made, request.image_px)
    copies = {
        copy_under(prepared, name, work / f"also.{name}"): manifest.folder_of(request.root, name)
        for name in request.also
    }
    publish(copies | {prepared: request.folder})  # its own name last: then all are there


def _list(
    request: Request,
    layout: Layout,
    roots: tuple[Path, ...],
    source_roots: tuple[Path, ...] | None,
    test: SplitRule,
    out: TextIO,
) -> tuple[FileListing, dict[str, TaskFiles]]:
    """Return the images, and all, with those of a source task of its own, divided into tasks."""
    if request.labels is None:
        listing = layout.list_images(roots)
    else:
        listing = list_labelled(roots, request.labels, request.label_columns)
    source = None if source_roots is None else list_folder(source_roots)
    if not is_any_set_aside():  # else the listings are without what is refused, and notes of them would not be true
        _say_what_is_unusual([listing] if source is None else [listing, source], out)
    return listing, cut(listing, source, request.source_classes, test)


def _roots(origins: Sequence[Path], work: Path, unpacked: dict[Path, Path], out: TextIO) -> tuple[Path, ...]:
    """Return the folders to look for images and lists in.

    Archives are unpacked below `work`, and noted in `unpacked`. Lists are copied to a folder of their own.
    """
    roots: list[Path] = []
    lists = [path for path in origins if path.is_file() and not archive.is_archive(path)]
    for origin in origins:
        if origin.is_dir():
            roots.append(origin)
        elif archive.is_archive(origin):
            say(f"unpacking {origin}", to=out)
            folder = archive.unpack(origin, work)
            if names := archive.misread_names(origin):
                say(
                    f"warning: {origin} does not say how its names are encoded; they are read as cp437: {some(names)}; "
                    "if they are wrong, unpack it yourself and give the folder",
                    to=out,
                )
            roots.append(folder)
            unpacked[folder] = origin
    if lists:
        lists_folder = work / "lists"
        lists_folder.mkdir(exist_ok=True)
        for path in lists:
            shutil.copyfile(path, lists_folder / path.name)
        roots.append(lists_folder)
    return tuple(roots)


def _say_what_is_drawn(test: SplitRule, listing: FileListing, out: TextIO) -> None:
    """Print where splits are not those that the images have."""
    splits = [split for split in SPLITS if any(file.split == split for file in listing.files)]
    if not test.by_trial and TEST not in splits:
        alike = f", from {' and '.join(splits)} alike" if len(splits) > 1 else ""
        drawn = f"{test.description(listing)}{alike} (--test-fraction, --split-seed)"
        say(f"note: no test split is given, so one is drawn: {drawn}", to=out)
    if test.by_trial and splits:
        say("note: the images' own splits are not used: each trial draws its own (--test-split trial)", to=out)
    elif VALIDATION in splits:
        say(
            "note: val is not kept apart: each trial draws its validation split from all images but those of test",
            to=out,
        )


def _say_what_is_unusual(listings: Sequence[FileListing], out: TextIO) -> None:
    """Print what is unusual about the listed files but not an error."""
    for listing in listings:
        if listing.note:
            say(f"note: {listing.note}", to=out)
        escaped = [file.name for file in listing.files if not file.path.as_posix().endswith(file.name)]
        if escaped:
            say(
                "note: names of images or classes that are not in UTF-8 on the disk have \\x and two digits for each "
                f"such byte: {some(escaped)}",
                to=out,
            )
        if listing.left_out:
            suffixes = Counter(PurePosixPath(name).suffix or "no suffix" for name in listing.left_out)
            counts = ", ".join(f"{count} {suffix}" for suffix, count in suffixes.most_common(SHOWN))
            where = "lines of the table" if listing.note else "images in the folder of a class"
            say(
                f"note: {len(listing.left_out)} file(s) are left out, because they are not {where} ({counts}): "
                f"{some(listing.left_out)}",
                to=out,
            )
        if listing.left_out_images:
            say(
                f"warning: {counted(len(listing.left_out_images), 'image')} among them: "
                f"{some(listing.left_out_images)}; what is read is directly in the folder of its class, with a suffix "
                "such as .jpg and no dot before its name: move, rename, convert or download them",
                to=out,
            )
        archives = [name for name in listing.left_out if archive.is_archive(Path(name))]
        if archives:
            say(f"warning: archives among them: {some(archives)}; unpack those with images", to=out)
        tables = [name for name in listing.left_out if name.lower().endswith((".csv", ".tsv"))]
        if tables:
            say(f"warning: tables among them: {some(tables)}; if one says the classes, give it in --labels", to=out)


def _decode(
    tasks: dict[str, TaskFiles],
    request: Request,
    prepared: Path,
    work: Path,
    faults: Faults,
    out: TextIO,
) -> dict[str, DecodedTask]:
    """Write the images of both tasks; adds to `faults` the files that are no whole images."""
    count = sum(len(task_files.files) for task_files in tasks.values())
    needed_bytes = count * 3 * request.image_px**2
    written_bytes = sum(path.stat().st_size for path in prepared.iterdir())  # of an interrupted call
    free_bytes = shutil.disk_usage(prepared).free
    if needed_bytes - written_bytes > free_bytes:
        raise ConfigError(
            f"{count} images of {request.image_px} x {request.image_px} pixels take {needed_bytes:,} bytes, and "
            f"{free_bytes:,} are free in {request.root}; make room, or give a smaller --image-px or another --to"
        )
    decoded: dict[str, DecodedTask] = {}
    with progress.show_progress(out, f"decoding {request.name}", count, "images") as advance, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")  # of metadata that is not read; they name no file
        for task, task_files in tasks.items():
            images_path = prepared / f"{task}.images.npy"
            journal_path = work / f"{task}.journal"
            decoded[task] = chunks.decode_files(
                task_files.files, request.image_px, images_path, journal_path, request.threads, advance
            )
    kept_images = sum(decoded_task.kept_images for decoded_task in decoded.values())
    for task, task_files in tasks.items():
        _say_what_was_decoded(task_files.files, decoded[task], request.image_px, out)
    if kept_images:
        say(f"{kept_images} of them were decoded by an earlier call, verified and kept", to=out)
    problem_of: dict[ImageFile, str] = {}
    for task, task_files in tasks.items():
        images = zip(task_files.files, decoded[task].images, strict=True)
        problem_of |= {file: image.problem for file, image in images if image.problem}
    if problem_of:
        names_and_problems = some(f"{file.name} ({problem})" for file, problem in problem_of.items())
        text = f"{len(problem_of)} of {count} image files cannot be read: {names_and_problems}; replace or remove them"
        faults.kinds.append(FilesRefused(text, [Refused(file.path, problem) for file, problem in problem_of.items()]))
    return decoded


def _say_what_was_decoded(files: Sequence[ImageFile], decoded: DecodedTask, image_px: int, out: TextIO) -> None:
    """Print which files have further frames, which are not read, and which images are transparent, or enlarged."""
    images = list(zip(files, decoded.images, strict=True))
    several = [f"{at.name} ({one.frames})" for at, one in images if one.frames > 1]
    if several:
        say(
            f"warning: of {len(several)} file(s) with several frames or pages the first is read: {some(several)}",
            to=out,
        )
    transparent = [at.name for at, one in images if one.is_transparent]
    if transparent:
        say(
            f"note: {len(transparent)} of {len(files)} images are transparent in places, which become black: "
            f"{some(transparent)}",
            to=out,
        )
    small = [f"{at.name} ({one.shorter_side_px} px)" for at, one in images if 0 < one.shorter_side_px < image_px]
    if small:
        say(
            f"note: {len(small)} of {len(files)} images have a shorter side below {image_px} pixels and are enlarged "
            f"(--image-px): {some(small)}",
            to=out,
        )


def _refuse_shared(target: TaskFiles, images: Sequence[ListedImage]) -> None:
    """Raise FilesRefused for files that are, byte for byte, in several splits."""
    shared = duplicates.shared((image for image in images if image.task == TARGET), lambda image: image.split)
    if shared:
        path_of = {file.name: file.path for file in target.files}
        refused = []
        for names in shared:
            reason = f"in two splits: {' = '.join(names)}"
            refused += [Refused(path_of[name], reason) for name in names]
        raise FilesRefused(
            f"splits overlap: {len(shared)} file(s) are in more than one split: {duplicates.equal_names(shared)}; "
            "remove them from one",
            refused,
        )
