"""The official layouts of data sets that papers use, as their archives are unpacked: one function each.

Class names, splits and counts are the archives' own; where an archive has no split, preparation draws one.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailor.common.errors import ConfigError
from tailor.common.registry import Registry
from tailor.facts.official import OFFICIAL, OfficialSet
from tailor.prepare.folder import list_folder
from tailor.prepare.listing import (
    TEST,
    TRAIN,
    VALIDATION,
    FileListing,
    from_lists,
    is_hidden,
    list_class_folders,
    subfolders,
)
from transtailor.documents import DocumentError, read_text
from transtailor.lines import lines_of


@dataclass(frozen=True)
class Layout:
    """The folders and files of a data set on disk."""

    expects: str  # the archives or files to give, for error messages
    list_images: Callable[[tuple[Path, ...]], FileListing]  # of the folders given
    official: OfficialSet | None = None  # the data set that has it; None: any images


LAYOUTS: Registry[Layout] = Registry("layout")


def caltech256(roots: tuple[Path, ...]) -> FileListing:
    """List 256_ObjectCategories/001.ak47/001_0001.jpg, ...; 257.clutter is left out; there is no official split.

    Griffin, Holub, Perona: "Caltech-256 Object Category Dataset", 2007.
    """
    folder = _find(roots, "256_ObjectCategories", "caltech256")
    classes = [path for path in subfolders(folder) if path.name != "257.clutter"]
    for path in classes:
        if not re.fullmatch(r"\d{3}\..+", path.name):
            raise ConfigError(f"{folder} has folders that are not classes of Caltech-256: {path.name!r}; remove them")
    return list_class_folders(folder, folder, classes=classes)


def cub200(roots: tuple[Path, ...]) -> FileListing:
    """List CUB_200_2011/{images.txt, train_test_split.txt, images/}; lines "<id> <name>" and "<id> <1 for training>".

    Wah et al.: "The Caltech-UCSD Birds-200-2011 Dataset", 2011.
    """
    names_file = _find(roots, "images.txt", "cub200")
    name_of = _pairs(names_file)
    digit_of = _pairs(_find(roots, "train_test_split.txt", "cub200"))
    if name_of.keys() != digit_of.keys():
        raise ConfigError(f"{names_file} and train_test_split.txt list different images; download the archive again")
    split_of_digit = {"1": TRAIN, "0": TEST}
    invalid_digits = set(digit_of.values()) - split_of_digit.keys()
    if invalid_digits:
        raise ConfigError(f"train_test_split.txt says {min(invalid_digits)!r} where 0 or 1 is expected")
    listed = [(name, _class_of(name), split_of_digit[digit_of[image_id]]) for image_id, name in name_of.items()]
    return from_lists(names_file.parent / "images", listed)


def stanford_dogs(roots: tuple[Path, ...]) -> FileListing:
    """List Images/n02085620-Chihuahua/*.jpg, ... (images.tar) by train_list.mat and test_list.mat (lists.tar).

    Khosla et al.: "Novel Dataset for Fine-Grained Image Categorization", FGVC 2011. Its images are part of ImageNet's.
    """
    listed = []
    for split in (TRAIN, TEST):
        path = _find(roots, f"{split}_list.mat", "stanford_dogs", "lists")
        names = [str(cell.item()) for cell in _matlab(path, "file_list")]
        listed += [(name, _class_of(name), split) for name in names]
    return from_lists(_find(roots, "Images", "stanford_dogs"), listed)


def indoor67(roots: tuple[Path, ...]) -> FileListing:
    """List Images/airport_inside/*.jpg, ... (indoorCVPR_09.tar) by TrainImages.txt and TestImages.txt, and no others.

    Quattoni, Torralba: "Recognizing Indoor Scenes", CVPR 2009.
    """
    listed = []
    for split, file in ((TRAIN, "TrainImages.txt"), (TEST, "TestImages.txt")):
        listed += [(name, _class_of(name), split) for name in _lines(_find(roots, file, "indoor67"))]
    return from_lists(_find(roots, "Images", "indoor67"), listed)


def flowers102(roots: tuple[Path, ...]) -> FileListing:
    """List jpg/image_00001.jpg, ... (102flowers.tgz) by imagelabels.mat and setid.mat; classes are called 001 to 102.

    Nilsback, Zisserman: "Automated Flower Classification over a Large Number of Classes", ICVGIP 2008.
    """
    labels = _matlab(_find(roots, "imagelabels.mat", "flowers102"), "labels")
    sets = _find(roots, "setid.mat", "flowers102")
    listed = []
    for split, field in ((TRAIN, "trnid"), (VALIDATION, "valid"), (TEST, "tstid")):
        for value in _matlab(sets, field):
            number = int(value)  # of an image, from 1
            if not 1 <= number <= len(labels):
                raise ConfigError(f"{sets} names image {number}, and imagelabels.mat has {len(labels)} labels")
            label = int(labels[number - 1])
            listed.append((f"image_{number:05d}.jpg", f"{label:03d}", split))
    return from_lists(_find(roots, "jpg", "flowers102"), listed)


def stanford40(roots: tuple[Path, ...]) -> FileListing:
    """List JPEGImages/applauding_001.jpg, ... by ImageSplits/applauding_{train,test}.txt, ...

    Yao et al.: "Human Action Recognition by Learning Bases of Action Attributes and Parts", ICCV 2011.
    """
    lists = _find(roots, "ImageSplits", "stanford40")
    actions = sorted(path.name.removesuffix("_train.txt") for path in lists.glob("*_train.txt"))
    if not actions:
        raise ConfigError(f"{lists} has no lists <action>_train.txt; give {LAYOUTS['stanford40'].expects}")
    listed = []
    for action in actions:
        for split in (TRAIN, TEST):
            path = _find((lists,), f"{action}_{split}.txt", "stanford40")
            listed += [(name, action, split) for name in _lines(path)]
    return from_lists(_find(roots, "JPEGImages", "stanford40"), listed)


def _find(roots: tuple[Path, ...], name: str, layout: str, *preferred_folders: str) -> Path:
    """Return the file or folder `name`: in a preferred folder of the roots, in a root, or up to two folders down."""
    patterns = [*(f"{folder}/{name}" for folder in preferred_folders), name, f"*/{name}", f"*/*/{name}"]
    for pattern in patterns:
        paths = _glob_visible(roots, pattern)
        if len(paths) > 1:
            raise ConfigError(f"{name} occurs more than once: {paths[0]} and {paths[1]}; give one data set")
        if paths:
            return paths[0]
    for root in roots:
        if root.name == name:
            return root
    given_folders = ", ".join(str(root) for root in roots)
    raise ConfigError(f"layout {layout} needs {name}, which is not in {given_folders}; give {LAYOUTS[layout].expects}")


def _glob_visible(roots: tuple[Path, ...], pattern: str) -> list[Path]:
    """Return the paths in all roots that fit a pattern and are in no hidden folder."""
    paths = []
    for root in roots:
        for path in root.glob(pattern):
            if not any(is_hidden(parent) for parent in path.relative_to(root).parents):
                paths.append(path)
    return paths


def _class_of(name: str) -> str:
    """Return the class of an image <class>/<image>."""
    folder, _, file = name.rpartition("/")
    if not folder or not file or "/" in folder:
        raise ConfigError(
            f"an official list names {name!r} where <class>/<image> is expected; download the lists again"
        )
    return folder


def _lines(path: Path) -> list[str]:
    """Return the lines of a file that are not empty."""
    try:
        lines = [line.strip() for line in lines_of(read_text(path))]
    except (OSError, DocumentError) as error:
        raise ConfigError(f"{path} cannot be read: {error}; download the lists again") from error
    return [line for line in lines if line]


def _pairs(path: Path) -> dict[str, str]:
    """Return first word of each line -> the second."""
    pairs: dict[str, str] = {}
    for line in _lines(path):
        key, _, value = line.partition(" ")
        if not value or key in pairs:
            raise ConfigError(f"{path} has the line {line!r} where a new id and a word are expected; download it again")
        pairs[key] = value.strip()
    return pairs


def _matlab(path: Path, field: str) -> NDArray[Any]:
    """Return a field of a MATLAB file as a flat array."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        return np.asarray(loadmat(path)[field]).ravel()
    except (OSError, ValueError, KeyError, TypeError, NotImplementedError, MatReadError) as error:
        raise ConfigError(f"{path} is not a MATLAB file with {field!r}: {error!r}; download the lists again") from error


LAYOUTS.add("folder", Layout(expects="a folder or an archive of images", list_images=list_folder))
for _list_images in (caltech256, cub200, stanford_dogs, indoor67, flowers102, stanford40):
    _official = OFFICIAL[_list_images.__name__]
    _expects = f"{' and '.join(_official.file_names)}, or a folder with all of them unpacked"
    LAYOUTS.add(_list_images.__name__, Layout(_expects, _list_images, _official))
