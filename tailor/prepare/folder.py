"""The layout of any image folder: root/<class>/*.jpg, or root/{train,val,test}/<class>/*.jpg."""

from dataclasses import replace
from pathlib import Path

from tailor.core.errors import ConfigError
from tailor.prepare import listing
from tailor.prepare.listing import FileListing, FilesRefused, Refused, as_text, normal_form

CLASS_FOLDERS = (
    "put the images of each class into a folder of its own, or give a table of the images and their classes in --labels"
)


def list_folder(roots: tuple[Path, ...]) -> FileListing:
    """The images of one folder with a folder for each class; a folder that only has one folder is entered.

    Raises:
        ConfigError: not such a folder, a class without images, a split that occurs twice or has other classes.
    """
    root = enter(roots)
    folders = listing.subfolders(root)
    if not folders:
        images = listing.images_in(root)
        what = f"{len(images)} images and no folders, so nothing says their classes" if images else "no folders"
        raise ConfigError(
            f"{root} has {what}; expected a folder for each class with its images, or folders "
            f"{', '.join(listing.SPLITS)} of such folders" + (f": {CLASS_FOLDERS}" if images else "")
        )
    splits = [folder for folder in folders if listing.split_of(folder) is not None]
    if len(splits) < len(folders):  # a class may have the name of a split
        splits = [folder for folder in splits if not listing.images_in(folder)]
    if not splits:
        return listing.list_class_folders(root, root)
    named = _split_folders(root, splits)
    if others := [folder for folder in folders if folder not in splits]:
        raise FilesRefused(
            f"{root} has the splits {', '.join(named)} and also {listing.some(as_text(one.name) for one in others)}; "
            f"move them away, or give them the name of a split: {', '.join(listing.SPLIT_NAMES)}",
            [Refused(folder, "beside the folders of the splits") for folder in others],
        )
    if listing.TRAIN not in named:
        raise ConfigError(f"{root} has the splits {', '.join(named)}, but not {listing.TRAIN!r}; add it")
    parts = {split: listing.list_class_folders(named[split], root, split) for split in listing.SPLITS if split in named}
    parts = _named_as_in_training(parts)
    _expect_same_classes(named, parts)
    return FileListing(
        files=tuple(file for part in parts.values() for file in part.files),
        left_out=(*listing.loose_files(root, root), *(name for part in parts.values() for name in part.left_out)),
    )


def enter(roots: tuple[Path, ...]) -> Path:
    """The folder with the classes, splits or images: folders that have one folder and nothing else are entered.

    Raises:
        ConfigError: not one root.
    """
    if len(roots) != 1:
        raise ConfigError(
            f"{len(roots)} folders are given for a plain folder of images; give one, or the --layout of an official "
            "data set that has several archives"
        )
    root = roots[0]
    while len(inside := listing.subfolders(root)) == 1 and not listing.images_in(inside[0]):
        if listing.split_of(inside[0]) in (listing.TRAIN, listing.TEST):
            break
        root = inside[0]
    return root


def _split_folders(root: Path, folders: list[Path]) -> dict[str, Path]:
    """The folder of each split. Raises ConfigError: two folders have names of the same split."""
    named: dict[str, Path] = {}
    for folder in folders:
        first = named.setdefault(listing.SPLIT_NAMES[folder.name.casefold()], folder)
        if first != folder:
            raise ConfigError(f"{root}: {first.name} and {folder.name} are names of the same split; move one away")
    return named


def _named_as_in_training(parts: dict[str, FileListing]) -> dict[str, FileListing]:
    """The splits with the class names of the training split where they differ from these only in their Unicode form."""
    of_training = {normal_form(file.class_name): file.class_name for file in parts[listing.TRAIN].files}
    renamed = {}
    for split, part in parts.items():
        files = [
            replace(file, class_name=of_training.get(normal_form(file.class_name), file.class_name))
            for file in part.files
        ]
        renamed[split] = replace(part, files=tuple(files))
    return renamed


def _expect_same_classes(named: dict[str, Path], parts: dict[str, FileListing]) -> None:
    """Raise FilesRefused for the classes that one split has and another has not."""
    classes = {split: {file.class_name for file in part.files} for split, part in parts.items()}
    missing = [
        named[split] / name for split in parts for name in sorted(set().union(*classes.values()) - classes[split])
    ]
    if missing:
        shown = listing.some(f"{folder.parent.name}/{folder.name}" for folder in missing)
        raise FilesRefused(
            f"the splits {', '.join(parts)} differ in their classes, there is no {shown}; give each class a folder "
            "with images in every split",
            [Refused(folder, "a class of another split, not of this one") for folder in missing],
        )
