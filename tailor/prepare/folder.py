"""The layout of any image folder: root/<class>/*.jpg, or root/{train,val,test}/<class>/*.jpg."""

from pathlib import Path

from tailor.core.errors import ConfigError
from tailor.prepare import listing
from tailor.prepare.listing import FileListing


def list_folder(roots: tuple[Path, ...]) -> FileListing:
    """The images of one folder with a folder for each class; a folder that only has one folder is entered.

    Raises:
        ConfigError: not such a folder, a class without images, a split that occurs twice or has other classes.
    """
    if len(roots) != 1:
        raise ConfigError(
            f"{len(roots)} folders are given for a plain folder of images; give one, or the --layout of an official "
            "data set that has several archives"
        )
    root = _enter(roots[0])
    folders = listing.subfolders(root)
    if not folders:
        raise ConfigError(
            f"{root} has no folders; expected a folder for each class with its images, or folders "
            f"{', '.join(listing.SPLITS)} of such folders"
        )
    splits = [folder for folder in folders if listing.split_of(folder) is not None]
    if len(splits) < len(folders):  # a class may have the name of a split
        splits = [folder for folder in splits if not listing.has_images(folder)]
    if not splits:
        return listing.list_class_folders(root, root)
    named = _split_folders(root, splits)
    if others := [folder.name for folder in folders if folder not in splits]:
        raise ConfigError(
            f"{root} has the splits {', '.join(named)} and also {listing.some(others)}; move them away, or give them "
            f"the name of a split: {', '.join(listing.SPLIT_NAMES)}"
        )
    if listing.TRAIN not in named:
        raise ConfigError(f"{root} has the splits {', '.join(named)}, but not {listing.TRAIN!r}; add it")
    parts = {split: listing.list_class_folders(named[split], root, split) for split in listing.SPLITS if split in named}
    _expect_same_classes(root, parts)
    return FileListing(
        files=tuple(file for part in parts.values() for file in part.files),
        left_out=(*listing.loose_files(root, root), *(name for part in parts.values() for name in part.left_out)),
    )


def _split_folders(root: Path, folders: list[Path]) -> dict[str, Path]:
    """The folder of each split. Raises ConfigError: two folders have names of the same split."""
    named: dict[str, Path] = {}
    for folder in folders:
        first = named.setdefault(listing.SPLIT_NAMES[folder.name.casefold()], folder)
        if first != folder:
            raise ConfigError(f"{root}: {first.name} and {folder.name} are names of the same split; move one away")
    return named


def _enter(root: Path) -> Path:
    while len(inside := listing.subfolders(root)) == 1 and not listing.has_images(inside[0]):
        if listing.split_of(inside[0]) in (listing.TRAIN, listing.TEST):
            break
        root = inside[0]
    return root


def _expect_same_classes(root: Path, parts: dict[str, FileListing]) -> None:
    classes = {split: {file.class_name for file in part.files} for split, part in parts.items()}
    for split, found in classes.items():
        if different := found ^ classes[listing.TRAIN]:
            raise ConfigError(
                f"{root}: {listing.TRAIN} and {split} differ in their classes: {listing.some(different)} only in one "
                "of them; give each class a folder with images in every split"
            )
