"""Data sets by name: those of papers as their publishers offer them, and those that torchvision downloads.

Class names, splits and counts are the publishers'; where a set has no test split, preparation draws one.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailor.common.errors import ConfigError
from tailor.common.progress import show_progress
from tailor.common.texts import as_text, normal_form, some
from tailor.data.arrays import file_digests
from tailor.facts.official import ALGORITHMS, OFFICIAL, OfficialFile, OfficialSet
from tailor.prepare.forms import TEST, TRAIN, VALIDATION, ImageFile, find_images, list_folder, on_disk_below
from tailor.prepare.problems import Problems
from transtailor.documents import DocumentError, read_text
from transtailor.lines import lines_of
from transtailor.terminal import say

UNOFFICIAL = "--unofficial"
Lists = tuple[Path, Iterator[tuple[str, str, str]]]
"""The folder of the images, and name, class and split of each image."""


def cub200(roots: Sequence[Path]) -> Lists:
    """CUB_200_2011/{images.txt, train_test_split.txt, images/}; lines "<id> <name>" and "<id> <1 for training>"."""
    names_file = _find(roots, "images.txt")
    names, digits = (
        dict(line.split(" ", 1) for line in _lines(path) if " " in line)
        for path in (names_file, _find(roots, "train_test_split.txt"))
    )
    if names.keys() != digits.keys() or not set(digits.values()) <= {"0", "1"}:
        raise ConfigError(f"{names_file} and train_test_split.txt do not fit each other; download the archive again")
    listed = ((name, _class_of(name), TRAIN if digits[number] == "1" else TEST) for number, name in names.items())
    return names_file.parent / "images", listed


def stanford_dogs(roots: Sequence[Path]) -> Lists:
    """Images/n02085620-Chihuahua/*.jpg, ... (images.tar) by train_list.mat and test_list.mat (lists.tar)."""
    lists = {split: _matlab(_find(roots, f"{split}_list.mat"), "file_list") for split in (TRAIN, TEST)}
    listed = ((str(cell.item()), split) for split, cells in lists.items() for cell in cells)
    return _find(roots, "Images"), ((name, _class_of(name), split) for name, split in listed)


def indoor67(roots: Sequence[Path]) -> Lists:
    """Images/airport_inside/*.jpg, ... (indoorCVPR_09.tar) by TrainImages.txt and TestImages.txt, and no others."""
    lists = {split: _lines(_find(roots, f"{split.capitalize()}Images.txt")) for split in (TRAIN, TEST)}
    return _find(roots, "Images"), ((name, _class_of(name), split) for split, names in lists.items() for name in names)


def flowers102(roots: Sequence[Path]) -> Lists:
    """jpg/image_00001.jpg, ... (102flowers.tgz) by imagelabels.mat and setid.mat; classes are called 001 to 102."""
    labels = _matlab(_find(roots, "imagelabels.mat"), "labels")
    sets = _find(roots, "setid.mat")
    fields = {TRAIN: "trnid", VALIDATION: "valid", TEST: "tstid"}
    numbers = [(int(value), split) for split, field in fields.items() for value in _matlab(sets, field)]  # from 1
    if not all(1 <= number <= len(labels) for number, _ in numbers):
        raise ConfigError(f"{sets} names images beyond the {len(labels)} of imagelabels.mat; download both again")
    listed = ((f"image_{number:05d}.jpg", f"{int(labels[number - 1]):03d}", split) for number, split in numbers)
    return _find(roots, "jpg"), listed


def stanford40(roots: Sequence[Path]) -> Lists:
    """JPEGImages/applauding_001.jpg, ... by ImageSplits/applauding_{train,test}.txt, ..."""
    lists = _find(roots, "ImageSplits")
    actions = sorted(path.name.removesuffix("_train.txt") for path in lists.glob("*_train.txt"))
    files = [(_find([lists], f"{action}_{split}.txt"), action, split) for action in actions for split in (TRAIN, TEST)]
    listed = ((name, action, split) for path, action, split in files for name in _lines(path))
    return _find(roots, "JPEGImages"), listed


LISTS: dict[str, Callable[[Sequence[Path]], Lists]] = {
    function.__name__: function for function in (cub200, stanford_dogs, indoor67, flowers102, stanford40)
}


def list_official(layout: str, roots: Sequence[Path], problems: Problems) -> list[ImageFile]:
    """Return the images of a paper's data set. Raises ConfigError: a file of it is not there, or says nonsense."""
    try:
        if layout == "caltech256":  # 001.ak47/001_0001.jpg, ...; it has no official split
            files = list_folder(_find(roots, "256_ObjectCategories"), problems)
            return [file for file in files if file.class_name != "257.clutter"]
        folder, listed = LISTS[layout](roots)
        entries = [
            ImageFile(path=Path(f"the {split} list, {name}"), name=name, class_name=class_name, split=split)
            for name, class_name, split in listed
        ]
    except FileNotFoundError as error:
        given, needed = ", ".join(map(str, roots)), " and ".join(OFFICIAL[layout].file_names)
        advice = f"give {needed}, or a folder with all of them unpacked"
        raise ConfigError(f"layout {layout} needs {error}, which is not in {given}; {advice}") from error
    remedy = "give the whole archive, or download the lists again"
    return find_images(entries, on_disk_below(folder), folder, remedy, problems)


def _find(roots: Sequence[Path], name: str) -> Path:
    """Return the file or folder `name`: a root, in a root, or up to two folders down. Raises FileNotFoundError."""
    for pattern in (f"lists/{name}", name, f"*/{name}", f"*/*/{name}"):
        paths = [path for root in roots for path in root.glob(pattern) if "__MACOSX" not in path.parts]
        if len(paths) > 1:
            raise ConfigError(f"{name} occurs more than once: {paths[0]} and {paths[1]}; give one data set")
        if paths:
            return paths[0]
    if name in (named := {root.name: root for root in roots}):
        return named[name]
    raise FileNotFoundError(name)


def _class_of(name: str) -> str:
    folder, _, file = name.rpartition("/")
    if not folder or not file or "/" in folder:
        raise ConfigError(f"a list names {name!r} where <class>/<image> is expected; download the lists again")
    return folder


def _lines(path: Path) -> list[str]:
    """Return the lines of a file that are not empty."""
    try:
        return [line.strip() for line in lines_of(read_text(path)) if line.strip()]
    except DocumentError as error:
        raise ConfigError(f"{path} cannot be read: {error}; download the lists again") from error


def _matlab(path: Path, field: str) -> NDArray[Any]:
    """Return a field of a MATLAB file as a flat array."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        return np.asarray(loadmat(path)[field]).ravel()
    except (ValueError, KeyError, TypeError, NotImplementedError, MatReadError) as error:
        raise ConfigError(f"{path} is not a MATLAB file with {field!r}: {error!r}; download the lists again") from error


def verify_files(
    official: OfficialSet, origins: Sequence[Path], problems: Problems, *, unofficial: bool
) -> dict[str, dict[str, str]]:
    """Return name of each file of a paper's set -> its SHA-256, and where its checksum is published ("" if nowhere).

    Raises ConfigError: a file has another size or checksum than is published, and `unofficial` is false.
    """
    file_of_name = {file.name.lower(): file for file in official.files}
    digests = {}
    for path in origins:
        published = file_of_name.get(path.name.lower(), OfficialFile(name=path.name))
        if path.is_dir() or published.algorithm is None:
            problems.note(f"{path} is unverified: no checksum of it is published (of folders none is)")
        if path.is_dir():
            continue
        size_bytes, algorithm = path.stat().st_size, published.algorithm or "sha256"
        with show_progress(problems.out, f"verifying {path.name}", size_bytes, "bytes") as advance:
            found = file_digests(path, {"sha256", algorithm}, advance)
        digest = found[algorithm]
        is_published = published.algorithm is not None and digest == published.digest
        differs = ""
        if published.size_bytes not in (None, size_bytes):
            shorter = ": it may have been cut off" if size_bytes < (published.size_bytes or 0) else ""
            differs = f"has {size_bytes:,} bytes, and the published file has {published.size_bytes:,}{shorter}"
        elif published.algorithm is not None and not is_published:
            differs = f"has {ALGORITHMS[algorithm]} {digest}, not {published.digest} ({published.published_in})"
        if differs:
            text = f"{path} {differs}; it is another version, or damaged"
            _refuse_or_warn(text, official, problems, unofficial=unofficial)
        digests[path.name] = {"sha256": found["sha256"], "published_in": published.published_in if is_published else ""}
    return digests


def check_counts(official: OfficialSet, files: Sequence[ImageFile], problems: Problems, *, unofficial: bool) -> None:
    """Raise ConfigError if classes or images are more or fewer than the complete set's, unless `unofficial`."""
    classes = {file.class_name for file in files}
    if (len(classes), len(files)) != (official.classes, official.images):
        missing = {f"{number:03d}" for number in range(1, official.classes + 1)} - {name[:3] for name in classes}
        numbered = f" (missing: {some(missing)})" if missing and all(name[:3].isdigit() for name in classes) else ""
        text = (
            f"these are not the images of the complete {official.title}: {len(classes):,} classes, and there are "
            f"{official.classes:,}{numbered}; {len(files):,} images, and there are {official.images:,}"
        )
        _refuse_or_warn(text, official, problems, unofficial=unofficial)


def _refuse_or_warn(text: str, official: OfficialSet, problems: Problems, *, unofficial: bool) -> None:
    if not unofficial:
        raise ConfigError(
            f"{text}. Download it again from {official.page}. To prepare it nevertheless, under a name that says so, "
            f"type {UNOFFICIAL}"
        )
    say(f"warning: {text}", to=problems.out)


_HALVES: dict[str, dict[str, Any]] = {TRAIN: {"train": True}, TEST: {"train": False}}
_THREE: dict[str, dict[str, Any]] = {split: {"split": split} for split in (TRAIN, VALIDATION, TEST)}
_TWO = {TRAIN: _THREE[TRAIN], TEST: _THREE[TEST]}
TORCHVISION: dict[str, dict[str, dict[str, Any]]] = {
    **dict.fromkeys(("Caltech101", "EuroSAT", "SEMEION", "SUN397"), {"": {}}),
    **dict.fromkeys(("CIFAR10", "CIFAR100", "FashionMNIST", "KMNIST", "MNIST", "QMNIST", "USPS"), _HALVES),
    **dict.fromkeys(("FER2013", "Food101", "GTSRB", "StanfordCars", "STL10", "SVHN"), _TWO),
    **dict.fromkeys(("DTD", "FGVCAircraft", "Flowers102", "PCAM", "RenderedSST2"), _THREE),
    **dict.fromkeys(("CLEVRClassification", "Imagenette"), {TRAIN: {"split": TRAIN}, TEST: {"split": VALIDATION}}),
    "Country211": _TWO | {VALIDATION: {"split": "valid"}},
    "EMNIST": {split: {"split": "balanced", **words} for split, words in _HALVES.items()},
    "OxfordIIITPet": {TRAIN: {"split": "trainval"}, TEST: {"split": TEST}},
    "Places365": {TRAIN: {"split": "train-standard", "small": True}, TEST: {"split": "val", "small": True}},
}
"""torchvision's data sets of images and classes -> what is typed for each split; "" if a test split is drawn."""


def list_torchvision(name: str, root: Path, work: Path) -> list[ImageFile]:
    """Return the images of one of torchvision's data sets, which it downloads to `root` unless they are there.

    An image that is given without its file (of CIFAR-10, MNIST, ...) becomes a bitmap below `work`: its bytes, and so
    the digest of files, depend on no version of a library.
    Raises ConfigError: the set cannot be downloaded.
    """
    from torchvision import datasets

    made = getattr(datasets, name)
    parameters = inspect.signature(made).parameters
    files = []
    for split, words in TORCHVISION[name].items():
        options = words | ({"loader": str} if "loader" in parameters else {})
        download = {"download": True} if "download" in parameters else {}
        try:
            try:
                images = made(root=str(root), **options)
            except RuntimeError:  # it is not there
                images = made(root=str(root), **options, **download)
        except (OSError, RuntimeError, ValueError, ImportError) as error:
            remedy = (
                f"type this on a machine with a network, and copy {root}; see its page in torchvision's documentation"
            )
            raise ConfigError(f"torchvision's {name} is not in {root}, nor downloaded: {error}; {remedy}") from error
        names = getattr(images, "classes", None) or getattr(images, "categories", None) or []
        for number in range(len(images)):
            image, label = images[number][:2]
            path = Path(image) if isinstance(image, str) else work / name / (split or "all") / f"{number:07d}.bmp"
            if not isinstance(image, str):
                path.parent.mkdir(parents=True, exist_ok=True)
                (image if image.mode in ("L", "RGB") else image.convert("RGB")).save(path)
            label_name = names[int(label)] if int(label) < len(names) else f"{int(label):03d}"
            class_name = normal_form(label_name if isinstance(label_name, str) else label_name[0])
            place = as_text(path.relative_to(work if path.is_relative_to(work) else root).as_posix())
            files.append(ImageFile(path=path, name=place, class_name=class_name, split=split))
    return files
