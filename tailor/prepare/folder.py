"""The layout of any image folder: root/<class>/*.jpg, or root/{train,val,test}/<class>/*.jpg."""

from pathlib import Path

from tailor.core.errors import ConfigError
from tailor.prepare.listing import SPLITS, TEST, TRAIN, Listing, has_images, in_class_folders, some, subfolders


def list_folder(roots: tuple[Path, ...]) -> Listing:
    """The images of one folder with a folder for each class; folders that hold but one folder are entered.

    Raises:
        ConfigError: not such a folder, a class without images, or splits whose classes differ.
    """
    if len(roots) != 1:
        raise ConfigError(
            f"{len(roots)} places are given for a plain folder of images; give one, or the --layout of an official "
            "data set that comes in several archives"
        )
    root = _entered(roots[0])
    names = [folder.name for folder in subfolders(root)]
    if not names:
        raise ConfigError(
            f"{root} holds no folders; expected a folder for each class with its images, or folders "
            f"{', '.join(SPLITS)} of such folders"
        )
    if not set(names) <= set(SPLITS):
        return in_class_folders(root, root)
    if TRAIN not in names:
        raise ConfigError(f"{root} has the splits {', '.join(names)} and none called {TRAIN!r}; add it")
    parts = {split: in_class_folders(root / split, root, split) for split in SPLITS if split in names}
    _expect_same_classes(root, parts)
    return Listing(
        files=tuple(file for part in parts.values() for file in part.files),
        left_out=tuple(name for part in parts.values() for name in part.left_out),
    )


def _entered(root: Path) -> Path:
    while len(inside := subfolders(root)) == 1 and not has_images(inside[0]) and inside[0].name not in (TRAIN, TEST):
        root = inside[0]
    return root


def _expect_same_classes(root: Path, parts: dict[str, Listing]) -> None:
    classes = {split: {file.class_name for file in part.files} for split, part in parts.items()}
    for split, found in classes.items():
        if different := found ^ classes[TRAIN]:
            raise ConfigError(
                f"{root}: {TRAIN} and {split} differ in their classes: {some(different)} only in one of them; "
                "give each class a folder with images in every split"
            )
