"""Makes a data set of image files: unpacks, lists, divides into tasks, decodes, writes; whole or not at all."""

import errno
import fcntl
import os
import shutil
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from tailor.common.errors import ConfigError
from tailor.common.progress import show_progress
from tailor.common.texts import some
from tailor.data import arrays
from tailor.data.images_file import ListedImage, files_digest, write_images
from tailor.facts import manifest
from tailor.facts.manifest import TARGET, DataManifest
from tailor.facts.official import OFFICIAL
from tailor.prepare import duplicates, pictures, sets
from tailor.prepare.archives import SUFFIXES, unpack
from tailor.prepare.forms import SPLITS, TEST, VALIDATION, ImageFile, check_classes, list_folder, list_table
from tailor.prepare.pictures import Decoded
from tailor.prepare.problems import Problems
from tailor.prepare.tasks import LEAST_GROUPS, SplitRule, TaskFiles, cut, has_test_split
from transtailor.files import name_folder, sync, write_file
from transtailor.names import nearest
from transtailor.plural import counted
from transtailor.shell import command
from transtailor.terminal import say

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
WORKSPACE = ".{}.preparing"
CHUNK = 128  # images that are decoded before they are written
MOST_PAIRS = 1000  # of images that look alike, in the list of problems
FEW_FILES = 20  # less say nothing about a file that is unlike all others


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the user wants to prepare."""

    name: str
    also: tuple[str, ...] = ()  # other names of the same data set, each a folder of its own
    origins: tuple[Path, ...]  # folders, archives, and the lists that belong to them
    root: Path
    layout: str = "folder"  # or the name of a set
    image_px: int
    source_classes: tuple[str, ...] = ()
    source_from: Path | None = None
    test: SplitRule = SplitRule()
    threads: int
    labels: Path | None = None  # a table of the images and their classes, where no folders say them
    columns: Mapping[str, str] = field(default_factory=dict)  # of that table, by what they have, where typed
    unofficial: bool = False  # whether a paper's set may have other files, classes and images than the published


def prepare(request: Request, out: TextIO) -> DataManifest:
    """Write a data set, or nothing; and all problems to ROOT/NAME.problems.txt. Raises ConfigError: some stop it."""
    final = manifest.folder_of(request.root, request.name)
    # Remove the workspaces of killed processes, whatever they made: those that no process holds
    for left in request.root.glob(WORKSPACE.format("*")):
        with suppress(OSError):
            handle = os.open(left, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left)
            finally:
                os.close(handle)
    _refuse_request(request)
    problems = Problems(out)
    with _workspace(final) as work:
        listed = final.with_name(f"{final.name}.problems.txt")
        listed.unlink(missing_ok=True)  # of an earlier call
        folders = _make(request, work, problems)
        for text in problems.texts(stopping=False):
            say(f"warning: {text}", to=out)
        if problems.found:
            write_file(listed, problems.lines())
            say(f"{counted(len(problems.found), 'problem')}, a line each: {listed}", to=out)
        if problems.stop:
            texts = "\n".join(problems.texts(stopping=True))
            raise ConfigError(f"no data set is made:\n{texts}\nthen type the same command again")
        for folder in folders:
            for path in [*folder.iterdir(), folder]:
                sync(path)
        for folder, place in folders.items():  # its own name last: then all are there
            try:
                name_folder(folder, place)
            except FileExistsError as error:
                raise ConfigError(f"{error}; remove it, or choose another name") from error
    return manifest.read(request.root, request.name)


def _refuse_request(request: Request) -> None:
    """Raise ConfigError for options that do not fit together, and for files that are not there."""
    known = ("folder", *OFFICIAL, *sets.TORCHVISION)
    no_such = f"no such layout: {request.layout!r}{nearest(request.layout, known)}; valid: {', '.join(known)}"
    is_own = request.layout == "folder"
    one = "; several classes are one word: --source-classes A,B" if request.source_classes else ""
    for is_wrong, text in (
        (request.layout not in known, no_such),
        (request.unofficial and request.layout not in OFFICIAL, "--unofficial is for a paper's --layout; leave it out"),
        (request.labels and not is_own, f"--labels has no effect with --layout {request.layout}; leave it out"),
        (not request.labels and request.columns, "--...-column names one of a table; give it in --labels"),
        (len(request.origins) > 1 and request.layout not in OFFICIAL, f"several places are in --from; give one{one}"),
    ):
        if is_wrong:
            raise ConfigError(text)
    if request.layout not in sets.TORCHVISION:  # which is downloaded there
        for origin in request.origins:
            _refuse_origin(origin, request, may_be_list=not is_own, has_classes=is_own and not request.labels)
    if request.source_from is not None:
        _refuse_origin(request.source_from, request, may_be_list=False, has_classes=True)
    for name in request.also:
        folder = manifest.folder_of(request.root, name)
        if folder.exists() or name == request.name:
            raise ConfigError(f"--also {name}: {folder} is there already, or its own name; remove it, or leave it out")


def _refuse_origin(origin: Path, request: Request, *, may_be_list: bool, has_classes: bool) -> None:
    """Raise ConfigError for a file or folder that is not there, of another kind, or would have the data set in it."""
    expected = f"give a folder or an archive of images ({', '.join(SUFFIXES)})"
    if not origin.exists():
        raise ConfigError(f"{origin} does not exist; {expected}")
    if origin.is_dir():
        if has_classes and request.root.resolve().is_relative_to(origin.resolve()):
            where = f"is in the folder of the images, {origin}, where its folders would count as classes"
            raise ConfigError(f"--to {request.root} {where}; give a folder outside of it")
        return
    if not origin.name.lower().endswith(SUFFIXES) and not (may_be_list and origin.suffix.lower() in (".txt", ".mat")):
        raise ConfigError(f"{origin} is no archive; {expected}; a table of labels belongs in --labels")


@contextmanager
def _workspace(final: Path) -> Iterator[Path]:
    """Make a folder next to `final`, in which `final` is made while the context lasts; it is removed at the end.

    Raises ConfigError: `final` cannot be made there.
    """
    if final.exists():
        if not (final / manifest.MANIFEST_FILE).is_file():  # perhaps the photographs themselves
            raise ConfigError(f"{final} is there already and is no data set; choose another name, or another --to")
        verify = f"to verify it, type: {command('data', 'check', final)}"
        raise ConfigError(f"{final} is there already; {verify}. To make it again, remove it, or choose another name")
    work = final.with_name(WORKSPACE.format(final.name))
    try:
        work.mkdir(parents=True, exist_ok=True)
        handle = os.open(work, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(
            f"cannot write to {final.parent}: {error.strerror}; give a folder of yours in --to"
        ) from error
    is_ours = False
    try:
        with suppress(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_ours = os.fstat(handle).st_nlink > 0  # else the other process ended between our open and our lock
        if not is_ours:
            raise ConfigError(f"{final} is being prepared by another process; wait for it, or stop it")
        yield work
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise ConfigError(f"cannot write {final}: {error.strerror}; make room, or give another --to") from error
    finally:
        if is_ours:
            shutil.rmtree(work, ignore_errors=True)
        os.close(handle)


def _make(request: Request, work: Path, problems: Problems) -> dict[Path, Path]:
    """Make the data set in `work`; return its folder, and those of other names -> the places that they get."""
    official = OFFICIAL.get(request.layout)
    test, archives = request.test, {}
    if official is not None:
        archives = sets.verify_files(official, request.origins, problems, unofficial=request.unofficial)
        test = replace(test, training_images_per_class=official.training_images_per_class)
    files = _list(request, work, problems)
    source = None
    if request.source_from is not None:
        source = list_folder(_folder(request.source_from, work / "source", problems), problems)
    _say_splits(files, test, problems)
    if problems.stop and len({file.class_name for file in files}) < 2:
        return {}
    tasks = cut(files, source, request.source_classes, test, problems)
    prepared = work / "prepared"
    prepared.mkdir()
    images = _decode(tasks, request, prepared, problems)
    paths = {file.name: file.path for task in tasks.values() for file in task.files}
    is_own, has_own_test = request.layout == "folder", has_test_split(files) and not test.by_trial
    _check_doubles(images, paths, problems, is_own=is_own, has_own_test=has_own_test)
    groups = None if problems.stop else _groups(tasks[TARGET], images, problems, is_pool=test.by_trial)
    if problems.stop:
        return {}
    made = {"layout": request.layout, "image_px": request.image_px, "test_split": test.description(files)}
    data_set = _write(prepared, request, tasks, images, groups, made | {"archives": archives})
    folders = {work / f"also.{name}": manifest.folder_of(request.root, name) for name in request.also}
    for folder, place in folders.items():
        folder.mkdir()
        for path in (prepared / file for file in data_set.files):
            try:
                os.link(path, folder / path.name)
            except OSError:  # a file system without links
                shutil.copyfile(path, folder / path.name)
        manifest.write(folder, replace(data_set, name=place.name))
    return folders | {prepared: manifest.folder_of(request.root, request.name)}


def _list(request: Request, work: Path, problems: Problems) -> list[ImageFile]:
    """Return the images of the data set, without those of another folder for the source task."""
    if request.layout in sets.TORCHVISION:
        return sets.list_torchvision(request.layout, request.origins[0], work)
    roots = [_folder(origin, work / f"from{at}", problems) for at, origin in enumerate(request.origins)]
    official = OFFICIAL.get(request.layout)
    if official is not None:
        files = sets.list_official(request.layout, roots, problems)
        if not problems.stop:
            sets.check_counts(official, files, problems, unofficial=request.unofficial)
        return files
    if request.labels is not None:
        files = list_table(roots[0], request.labels, request.columns, problems)
    else:
        files = list_folder(roots[0], problems)
    check_classes(files, problems)
    return files


def _folder(origin: Path, place: Path, problems: Problems) -> Path:
    """Return the folder to look for images and lists in: an archive is unpacked to `place`, a list copied there."""
    if origin.is_dir():
        problems.origins[origin] = f"{origin}/"
        return origin
    problems.origins[place] = f"{origin}: "
    if origin.name.lower().endswith(SUFFIXES):
        say(f"unpacking {origin}", to=problems.out)
        return unpack(origin, place)
    place.mkdir()
    shutil.copyfile(origin, place / origin.name)
    return place


def _say_splits(files: Sequence[ImageFile], test: SplitRule, problems: Problems) -> None:
    """Print where splits are not those that the images have."""
    splits = [split for split in SPLITS if any(file.split == split for file in files)]
    if test.by_trial and splits:
        problems.note("the images' own splits are not used: each trial draws its own (--test-split trial)")
    elif not test.by_trial and TEST not in splits:
        alike = f", from {' and '.join(splits)} alike" if len(splits) > 1 else ""
        drawn = f"{test.description(files)}{alike} (--test-fraction, --split-seed)"
        problems.note(f"no test split is given, so one is drawn: {drawn}")
    if VALIDATION in splits and not test.by_trial:
        keep = "" if TEST in splits else "; to keep it as the test split, call it test"
        drawn = f"each trial draws its validation split from all images but those of test{keep}"
        problems.note(f"val is not kept apart: {drawn}")


def _decode(tasks: Mapping[str, TaskFiles], request: Request, prepared: Path, problems: Problems) -> list[ListedImage]:
    """Write the images of both tasks; return the lines of those that are whole, and add the others to the problems."""
    count = sum(len(task.files) for task in tasks.values())
    lines: list[ListedImage] = []
    blank = np.zeros((3, request.image_px, request.image_px), np.uint8)
    with (
        show_progress(problems.out, f"decoding {request.name}", count, "images") as advance,
        ThreadPoolExecutor(request.threads) as pool,  # Pillow releases the lock of the interpreter
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", module="PIL")  # of metadata that is not read; they name no file
        for name, task in tasks.items():
            images: list[Decoded] = []
            with (prepared / f"{name}.images.npy").open("wb") as stream:
                shape = (len(task.files), *blank.shape)
                np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
                for start in range(0, len(task.files), CHUNK):
                    paths = [file.path for file in task.files[start : start + CHUNK]]
                    for image in pool.map(lambda path: pictures.decode(path, request.image_px), paths):
                        stream.write((blank if image.pixels is None else image.pixels).data)
                        images.append(replace(image, pixels=None))
                        advance(1)
            _check_images(task.files, images, request.image_px, problems)
            for file, label, image in zip(task.files, task.labels, images, strict=True):
                if image.problem:
                    continue
                lines.append(
                    ListedImage(
                        id=len(lines),
                        task=name,
                        split=file.split,
                        class_name=file.class_name,
                        label=label,
                        name=file.name,
                        file_sha256=image.sha256,
                        fingerprint=image.fingerprint,
                        group=file.group,
                    )
                )
    return lines


def _check_images(files: Sequence[ImageFile], images: Sequence[Decoded], image_px: int, problems: Problems) -> None:
    """Add the files that are no whole images, and one that is unlike all others, as a placeholder is."""
    for file, image in zip(files, images, strict=True):
        if image.problem:
            problems.add("image", "that cannot be read", "replace it, or remove it", [file.path], image.problem)
    whole = [(file, image) for file, image in zip(files, images, strict=True) if not image.problem]
    notes = {
        "have several frames, of which the first is read": [at.name for at, one in whole if one.frames > 1],
        "are transparent in places, which become black": [at.name for at, one in whole if one.is_transparent],
        f"have a shorter side below {image_px} pixels and are enlarged (--image-px)": [
            f"{at.name} ({min(one.size)} px)" for at, one in whole if min(one.size) < image_px
        ],
    }
    for text, names in notes.items():
        if names:
            problems.note(f"{len(names)} of {len(files)} images {text}: {some(names)}")
    for kind in ("format", "size"):
        values = [getattr(one, kind) for _, one in whole]
        counts = Counter(values)
        if len(counts) == 2 and min(counts.values()) == 1 and len(whole) >= FEW_FILES:
            odd = values.index(min(counts, key=counts.__getitem__))
            remedy = f"all others have one other {kind}: look at it, it may stand in the place of an image that is gone"
            problems.add("image", f"alone of its {kind}", remedy, [whole[odd][0].path], str(values[odd]), stops=False)


def _check_doubles(
    images: Sequence[ListedImage], paths: Mapping[str, Path], problems: Problems, *, is_own: bool, has_own_test: bool
) -> None:
    """Add equal files where they may mislead a network or a score, and near copies over the target's splits."""
    stopping = {duplicates.OTHER_CLASS: is_own, duplicates.OTHER_SIDE: is_own and has_own_test}
    for where, remedy, equal in duplicates.equal_files(images):
        for names in equal:
            detail, stops = duplicates.equal_names([names]), stopping.get(where, False)
            problems.add("file", f"with an equal one {where}", remedy, [paths[names[0]]], detail, stops=stops)
    sha256_of = {image.name: image.file_sha256 for image in images}
    remedy = "look at both: transtailor data check names more; remove one of them, or scores may be too good"
    for parts, pairs in duplicates.find(images, tested=True).items():
        for pair in [pair for pair in pairs if sha256_of[pair.left] != sha256_of[pair.right]][:MOST_PAIRS]:
            fault = f"with a near copy across {parts}"
            problems.add("image", fault, remedy, [paths[pair.left]], pair.right, stops=False)


def _groups(
    target: TaskFiles, images: Sequence[ListedImage], problems: Problems, *, is_pool: bool
) -> NDArray[np.int64] | None:
    """Return the number of each image's group, given or, in a pool, of looks; None if a fixed split has no groups."""
    named = [file.group for file in target.files]
    if not is_pool and not any(named):
        return None
    prints = [image.fingerprint for image in images if image.task == TARGET]
    groups = duplicates.groups_of(pictures.bits_of(prints) if is_pool else None, named)
    labels = np.array(target.labels)
    for label, name in enumerate(target.classes):
        images_of_group = Counter(groups[labels == label].tolist())
        if is_pool and len(images_of_group) < LEAST_GROUPS:
            count = counted(images_of_group.total(), "image")
            detail = f"{name!r} has {count} in {counted(len(images_of_group), 'group')}"
            remedy = f"give it {LEAST_GROUPS} or more groups of images that do not look alike, or remove it"
            place = next(file.path.parent for file in target.files if file.class_name == name)
            problems.add("class", "that no trial can divide", remedy, [place], detail)
    say(duplicates.groups_text(groups, is_pool=is_pool), to=problems.out)
    return groups


def _write(
    prepared: Path, request: Request, tasks: Mapping[str, TaskFiles], images: Sequence[ListedImage],
    groups: NDArray[np.int64] | None, made: Mapping[str, Any],
) -> DataManifest:  # fmt: skip
    """Write what stands beside the images: labels, ids, splits, groups, images.csv, and the manifest."""
    is_pool = request.test.by_trial
    target = tasks[TARGET]
    columns: dict[str, NDArray[Any]] = {} if groups is None else {manifest.GROUP_FILE: groups}
    if not is_pool:
        columns[f"{TARGET}.is_test.npy"] = np.array([file.split == TEST for file in target.files], np.bool_)
    first_id = 0
    for name, task in tasks.items():
        columns[f"{name}.labels.npy"] = np.array(task.labels, np.int64)
        columns[f"{name}.ids.npy"] = np.arange(first_id, first_id + len(task.files), dtype=np.int64)
        first_id += len(task.files)
    for file, values in columns.items():
        np.save(prepared / file, values, allow_pickle=False)
    write_images(prepared / manifest.IMAGES_FILE, images)
    opened = {path.name: np.load(path, mmap_mode="r", allow_pickle=False) for path in sorted(prepared.glob("*.npy"))}
    shapes = {file: array.shape for file, array in opened.items()} | {manifest.IMAGES_FILE: ()}
    order = [*(manifest.POOL_FILES if is_pool else manifest.ARRAY_FILES), *opened, manifest.IMAGES_FILE]
    files = {}
    for path in dict.fromkeys(prepared / file for file in order):
        sha256, size_bytes = arrays.file_sha256(path), path.stat().st_size
        files[path.name] = manifest.StoredFile(sha256=sha256, size_bytes=size_bytes, shape=shapes[path.name])
    test_images = sum(file.split == TEST for file in target.files)
    test_images = round(request.test.share * len(target.files)) if is_pool else test_images
    data_set = DataManifest(
        name=request.name,
        digest=arrays.digest(opened, test_images),
        files_digest=files_digest(images, request.image_px, test_images),
        input_shape=(3, request.image_px, request.image_px),
        classes={name: task.classes for name, task in tasks.items()},
        test_images=test_images,
        splits={name: dict(sorted(Counter(file.split for file in task.files).items())) for name, task in tasks.items()},
        files=files,
        made={**made, **pictures.versions(), "numpy": np.__version__},
        class_images=tuple(np.bincount(target.labels).tolist()) if is_pool else (),
    )
    manifest.write(prepared, data_set)
    return data_set
