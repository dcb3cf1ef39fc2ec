"""The layout of any image folder: root/<class>/*.jpg, or root/{train,val,test}/<class>/*.jpg."""

from pathlib import Path

from tailor.common.errors import ConfigError
from tailor.prepare import listing
from tailor.prepare.archive import is_archive
from tailor.prepare.listing import FileListing, FilesRefused, Refused, as_text


def list_folder(roots: tuple[Path, ...]) -> FileListing:
    """List the images of one folder with a folder for each class; a folder that only has one folder is entered.

    Raises:
        ConfigError: not such a folder, a class without images, or a split that occurs twice.
    """
    root = enter(roots)
    entered = [folder for folder in root.parents if folder.is_relative_to(roots[0])]
    others = [path for folder in entered for path in listing.loose_files(folder)]
    return _joined([listing.listing_of((), others, roots[0]), _list_in(root)])


def _joined(parts: list[FileListing]) -> FileListing:
    return FileListing(
        files=tuple(file for part in parts for file in part.files),
        left_out=tuple(name for part in parts for name in part.left_out),
        left_out_images=tuple(name for part in parts for name in part.left_out_images),
    )


def _list_in(root: Path) -> FileListing:
    """List the images of the folder that has the classes or splits."""
    folders = listing.subfolders(root)
    if not folders:
        raise ConfigError(_say_no_folders(root))
    split_folders = [folder for folder in folders if listing.split_of(folder) is not None]
    if len(split_folders) < len(folders):  # a class may have the name of a split
        split_folders = [folder for folder in split_folders if not listing.images_in(folder)]
    if not split_folders:
        return listing.list_class_folders(root, root)
    folder_of_split = _folders_by_split(root, split_folders)
    other_folders = [folder for folder in folders if folder not in split_folders]
    if other_folders:
        raise FilesRefused(
            f"{root} has the splits {', '.join(folder_of_split)} and also "
            f"{listing.some(as_text(folder.name) for folder in other_folders)}; "
            f"move them away, or give them the name of a split: {', '.join(listing.SPLIT_NAMES)}",
            [Refused(folder, "beside the folders of the splits") for folder in other_folders],
        )
    if listing.TRAIN not in folder_of_split:
        raise ConfigError(f"{root} has the splits {', '.join(folder_of_split)}, but not {listing.TRAIN!r}; add it")
    splits = [split for split in listing.SPLITS if split in folder_of_split]
    parts = [listing.list_class_folders(folder_of_split[split], root, split) for split in splits]
    return _joined([listing.listing_of((), listing.loose_files(root), root), *parts])


def _say_no_folders(root: Path) -> str:
    """Return the message for a folder without folders."""
    expected = (
        f"expected a folder for each class with its images, or folders {', '.join(listing.SPLITS)} of such folders"
    )
    images = listing.images_in(root)
    archives = [as_text(path.name) for path in listing.loose_files(root) if is_archive(path)]
    if archives:
        return f"{root} has no folders, but archives: {listing.some(archives)}; unpack them into one folder; {expected}"
    if not images:
        return f"{root} has no folders; {expected}"
    return (
        f"{root} has {len(images)} images and no folders, so nothing says their classes; {expected}; or, of the images "
        "in --from, give a table in --labels"
    )


def enter(roots: tuple[Path, ...], *, has_class_folders: bool = True) -> Path:
    """Return the folder with the classes, splits or images: folders with one folder and nothing else are entered.

    Without folders of classes, so is a folder that has all of the images.

    Raises:
        ConfigError: not one root.
    """
    if len(roots) != 1:
        raise ConfigError(
            f"{len(roots)} folders or archives are given for a plain folder of images; give one, into which the parts "
            "of an archive are unpacked; or the --layout of an official data set that has several archives"
        )
    root = roots[0]
    while True:
        folders = listing.subfolders(root)
        if not has_class_folders:
            folders = [folder for folder in folders if any(map(listing.is_image, listing.files_below(folder)))]
        if len(folders) != 1 or listing.images_in(folders[0] if has_class_folders else root):
            return root
        if has_class_folders and listing.split_of(folders[0]) in (listing.TRAIN, listing.TEST):
            return root
        root = folders[0]


def _folders_by_split(root: Path, folders: list[Path]) -> dict[str, Path]:
    """Return the folder of each split. Raises ConfigError: two folders have names of the same split."""
    folder_of_split: dict[str, Path] = {}
    for folder in folders:
        first = folder_of_split.setdefault(listing.SPLIT_NAMES[folder.name.casefold()], folder)
        if first != folder:
            raise ConfigError(f"{root}: {first.name} and {folder.name} are names of the same split; move one away")
    return folder_of_split
