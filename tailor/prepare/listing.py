"""The image files with their classes and splits, as every layout returns them."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tailor.core.errors import ConfigError

TRAIN, VALIDATION, TEST = "train", "val", "test"
SPLITS = (TRAIN, VALIDATION, TEST)
POOL = "pool"  # the split of all images of a target that trials divide
SPLIT_NAMES = {
    "train": TRAIN, "training": TRAIN,
    "val": VALIDATION, "valid": VALIDATION, "validation": VALIDATION, "dev": VALIDATION,
    "test": TEST, "testing": TEST,
}  # fmt: skip
"""Name of a folder, in lower case -> its split."""
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff")
SHOWN = 5  # names in an error message


@dataclass(frozen=True, kw_only=True)
class ImageFile:
    """An image on disk."""

    path: Path
    name: str  # below its folder or archive, with slashes: what images.csv keeps
    class_name: str
    split: str  # train, val or test; pool if trials draw theirs; "" if the layout has no splits


@dataclass(frozen=True, kw_only=True)
class FileListing:
    """All images of a folder."""

    files: tuple[ImageFile, ...]
    left_out: tuple[str, ...] = ()  # names of other files, which are not read


def some(names: Iterable[str]) -> str:
    """The first few names, and the number of the others.

    >>> some(["c", "a", "b"]), some("abcdefg")
    ('a, b, c', 'a, b, c, d, e and 2 more')
    """
    every = sorted(names)
    more = f" and {len(every) - SHOWN} more" if len(every) > SHOWN else ""
    return ", ".join(every[:SHOWN]) + more


@contextmanager
def errors_explained() -> Iterator[None]:
    """Raise ConfigError with the path of a folder or file that cannot be read."""
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"{error.filename} cannot be read: {error.strerror}; make it readable for you, or give a folder without it"
        ) from error


def is_hidden(path: Path) -> bool:
    """Whether a file or folder was made by a system or an archiver, not by the user."""
    return path.name.startswith(".") or path.name in ("__MACOSX", "Thumbs.db", "desktop.ini")


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, by name."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not is_hidden(path))


def split_of(folder: Path) -> str | None:
    """The split of a folder by its name; None for any other folder."""
    return SPLIT_NAMES.get(folder.name.casefold())


def has_images(folder: Path) -> bool:
    """Whether images are directly in a folder."""
    return any(path.suffix.lower() in SUFFIXES and not is_hidden(path) for path in folder.iterdir())


def loose_files(folder: Path, root: Path) -> list[str]:
    """The files directly in a folder, by their paths from `root`."""
    return sorted(
        path.relative_to(root).as_posix() for path in folder.iterdir() if path.is_file() and not is_hidden(path)
    )


def list_class_folders(folder: Path, root: Path, split: str = "", classes: Sequence[Path] | None = None) -> FileListing:
    """The images of `folder`/<class>/, without those of deeper folders and of `folder` itself.

    Args:
        folder: the folder of the classes.
        root: the folder that names of images are relative to.
        split: the split of all of them.
        classes: the folders of classes; None: all folders.

    Raises:
        ConfigError: no classes, or a class without images.
    """
    files: list[ImageFile] = []
    left_out = loose_files(folder, root)
    class_folders = subfolders(folder) if classes is None else classes
    if not class_folders:
        raise ConfigError(f"{folder} has no folders; expected a folder for each class, with its images")
    for class_folder in class_folders:
        entries = sorted(path for path in class_folder.iterdir() if not is_hidden(path))
        images = [path for path in entries if path.suffix.lower() in SUFFIXES and path.is_file()]
        if not images:
            splits = "" if split else f"; names of splits are {', '.join(SPLIT_NAMES)}"
            raise ConfigError(
                f"class {class_folder.name!r} has no images: none of {', '.join(SUFFIXES)} is directly in "
                f"{class_folder}; put them there, or remove the folder{splits}"
            )
        known = set(images)
        left_out += [path.relative_to(root).as_posix() for path in entries if path not in known]
        files += [
            ImageFile(path=path, name=path.relative_to(root).as_posix(), class_name=class_folder.name, split=split)
            for path in images
        ]
    return FileListing(files=tuple(files), left_out=tuple(left_out))


def from_lists(folder: Path, listed: Iterable[tuple[str, str, str]]) -> FileListing:
    """The images that official lists name.

    Args:
        folder: the folder that names in the lists are relative to.
        listed: name, class and split of each image.

    Raises:
        ConfigError: an image is listed twice, does not exist, or is outside of `folder`.
    """
    entries = list(listed)
    count = Counter(name for name, _, _ in entries)
    if twice := [name for name, times in count.items() if times > 1]:
        raise ConfigError(
            f"splits overlap: {some(twice)} are in the lists more than once; download the lists again, each image may "
            "belong to one split"
        )
    if outside := [name for name in count if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts]:
        raise ConfigError(f"the lists name images outside of {folder}: {some(outside)}; download the lists again")
    if missing := [name for name in count if not (folder / name).is_file()]:
        raise ConfigError(
            f"{len(missing)} of {len(count)} listed images are not in {folder}: {some(missing)}; give the whole "
            "archive of images"
        )
    return FileListing(
        files=tuple(
            ImageFile(path=folder / name, name=name, class_name=class_name, split=split)
            for name, class_name, split in entries
        )
    )
