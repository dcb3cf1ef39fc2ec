"""Which image files there are, of which class and in which split: what every layout returns."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tailor.core.errors import ConfigError

TRAIN, VALIDATION, TEST = "train", "val", "test"
SPLITS = (TRAIN, VALIDATION, TEST)
SPLIT_NAMES = {
    "train": TRAIN, "training": TRAIN,
    "val": VALIDATION, "valid": VALIDATION, "validation": VALIDATION, "dev": VALIDATION,
    "test": TEST, "testing": TEST,
}  # fmt: skip
"""Name of a folder, in capitals or not -> the split that it is."""
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff")
SHOWN = 5  # names in an error message


@dataclass(frozen=True, kw_only=True)
class ImageFile:
    """An image on disk."""

    path: Path
    name: str  # below its folder or archive, with slashes: what images.csv keeps
    class_name: str
    split: str  # train, val or test; "" where the layout has none


@dataclass(frozen=True, kw_only=True)
class FileListing:
    """All images of a folder."""

    files: tuple[ImageFile, ...]
    left_out: tuple[str, ...] = ()  # names of files beside the images that are not read


def some(names: Iterable[str]) -> str:
    """The first few names, and how many there are beyond them."""
    every = sorted(names)
    more = f" and {len(every) - SHOWN} more" if len(every) > SHOWN else ""
    return ", ".join(every[:SHOWN]) + more


def is_hidden(path: Path) -> bool:
    """Whether a file or folder is what a system or an archiver left there, not the user's."""
    return path.name.startswith(".") or path.name in ("__MACOSX", "Thumbs.db", "desktop.ini")


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, by name."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not is_hidden(path))


def split_of(folder: Path) -> str | None:
    """The split that a folder is by its name; None for any other folder."""
    return SPLIT_NAMES.get(folder.name.casefold())


def has_images(folder: Path) -> bool:
    """Whether images lie directly in a folder."""
    return any(path.suffix.lower() in SUFFIXES and not is_hidden(path) for path in folder.iterdir())


def loose_files(folder: Path, root: Path) -> list[str]:
    """The files that lie directly in a folder, as they are named from `root`."""
    return sorted(
        path.relative_to(root).as_posix() for path in folder.iterdir() if path.is_file() and not is_hidden(path)
    )


def in_class_folders(folder: Path, root: Path, split: str = "", classes: Sequence[Path] | None = None) -> FileListing:
    """The images of `folder`/<class>/, not of folders below that and not of `folder` itself.

    Args:
        folder: the folder of the classes.
        root: what images are named from.
        split: the split that all of them belong to.
        classes: the folders of classes, where not all folders are.

    Raises:
        ConfigError: no classes, or a class without images.
    """
    files: list[ImageFile] = []
    left_out = loose_files(folder, root)
    class_folders = subfolders(folder) if classes is None else classes
    if not class_folders:
        raise ConfigError(f"{folder} holds no folders; expected a folder for each class, with its images")
    for class_folder in class_folders:
        entries = sorted(path for path in class_folder.iterdir() if not is_hidden(path))
        images = [path for path in entries if path.suffix.lower() in SUFFIXES and path.is_file()]
        if not images:
            splits = "" if split else f"; names of splits are {', '.join(SPLIT_NAMES)}"
            raise ConfigError(
                f"class {class_folder.name!r} has no images: none of {', '.join(SUFFIXES)} lies directly in "
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
        folder: what the names in the lists begin from.
        listed: name, class and split of each image.

    Raises:
        ConfigError: an image stands in the lists twice, is not there, or has a name that leads out of `folder`.
    """
    entries = list(listed)
    count = Counter(name for name, _, _ in entries)
    if twice := [name for name, times in count.items() if times > 1]:
        raise ConfigError(
            f"splits overlap: {some(twice)} are in the lists more than once; get the lists anew, each image may "
            "belong to one split"
        )
    if outside := [name for name in count if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts]:
        raise ConfigError(f"the lists name images outside of {folder}: {some(outside)}; get the lists anew")
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
