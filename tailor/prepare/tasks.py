"""Divides images into the source task and the target, and draws the target's test split."""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from tailor.common.errors import ConfigError
from tailor.prepare.label_columns import trimmed, word_of
from tailor.prepare.labels import NO_VALUES
from tailor.prepare.listing import (
    POOL,
    SPLIT_NAMES,
    TEST,
    TRAIN,
    FileListing,
    FilesRefused,
    ImageFile,
    Refused,
    is_any_set_aside,
    normal_form,
    some,
)
from transtailor.names import nearest
from transtailor.plural import counted

TEST_FRACTION = 0.2  # the default for folders without a test split
FEW = 5  # images of a class: one for testing, one for validation, and three to train with
MOST_NUMBERED = 20  # classes that are called by whole numbers; more may be values such as an age (C)
MISSING_WORDS = frozenset({  # which may as well be names
    "na", "n/a", "none", "unknown", "unlabeled", "unlabelled", "no_label", "no label", "unclassified", "unidentified",
    "unsorted",
})  # fmt: skip
OF_EXPORTS = frozenset({  # folders of annotation programs and of viewers, in lower case
    "images", "jpegimages", "labels", "annotations", "masks", "segmentationclass", "segmentationobject", "thumbs",
    "_thumbs", "thumbnails", "new folder", "backup", "augmented",
})  # fmt: skip
MADE_OF = re.compile(r"(?<=.)([ _.-]+[A-Za-z]{3,}[_-]?\d*|~\d+|-\d+x\d+)$|(?<=^IMG_)E(?=\d)")
"""What programs add to the name of the image that they edit: "12_mask", "12~2", "12-150x150", "IMG_E12"."""
ROBOFLOW = re.compile(r"(.+)\.rf\.\w+")  # what it adds to the names of all versions of an image
LINE_BREAKING = ("Cc", "Zl", "Zp")  # categories of Unicode: control characters, and line and paragraph separators


@dataclass(frozen=True, kw_only=True)
class TaskFiles:
    """The images of a task, ordered by class and name."""

    classes: tuple[str, ...]  # by name; a label is an index into this
    files: tuple[ImageFile, ...]

    @property
    def labels(self) -> list[int]:
        """Label of each image."""
        label_of = {name: label for label, name in enumerate(self.classes)}
        return [label_of[file.class_name] for file in self.files]


@dataclass(frozen=True, kw_only=True)
class SplitRule:
    """How the test split is drawn if the folder has none."""

    fraction: float | None  # of each class; None: the layout's rule, else TEST_FRACTION
    seed: int | None  # None: 0
    training_images_per_class: int | None  # the layout's rule: all others are test images
    by_trial: bool = False  # every trial draws its own: all images are one pool

    @property
    def share(self) -> float:
        """Share of the images that is drawn. Raises ConfigError: it is not between 0 and 1."""
        share = TEST_FRACTION if self.fraction is None else self.fraction
        if not 0.0 < share < 1.0:
            raise ConfigError(f"--test-fraction is {share}; expected more than 0 and less than 1, for example 0.2")
        return share

    def test_images_of(self, class_images: int) -> int:
        """Return how many images of a class of so many are test images; below 1 if the class has too few."""
        if self.leaves_training_images:
            return class_images - (self.training_images_per_class or 0)
        return min(max(1, round(class_images * self.share)), class_images - 1)

    @property
    def leaves_training_images(self) -> bool:
        """Whether the layout says how many training images of each class there are, and the user no fraction."""
        return self.fraction is None and self.training_images_per_class is not None

    def description(self, listing: FileListing) -> str:
        """Return where the test split of a listing comes from, for readers."""
        if self.by_trial:
            return f"{self.share} of all images, drawn by each trial"
        if has_test_split(listing.files):
            return "the data set's own"
        if self.leaves_training_images:
            return f"all but {self.training_images_per_class} images of each class, drawn by seed {self.seed or 0}"
        return f"{self.fraction or TEST_FRACTION} of each class, at least one image, drawn by seed {self.seed or 0}"


def has_test_split(files: Sequence[ImageFile]) -> bool:
    """Whether the data set came with a test split."""
    return any(file.split == TEST for file in files)


def cut(
    listing: FileListing, source: FileListing | None, source_classes: Sequence[str], test: SplitRule
) -> dict[str, TaskFiles]:
    """Divide a listing into the source and the target task; the target's images are then all in a split.

    Args:
        listing: the images of the data set.
        source: the images of a second data set, which are then the source task.
        source_classes: classes of `listing` that are the source task.
        test: how a test split is drawn.

    Raises:
        ConfigError: an unknown class, both kinds of source, fewer than two classes, or a split that cannot be drawn.
    """
    if source is not None and source_classes:
        raise ConfigError("a source task is given twice: choose between --source-classes and --source-from")
    class_names = {file.class_name for file in listing.files}
    chosen = {normal_form(name) for name in source_classes}
    for name in chosen - class_names:
        raise ConfigError(f"no such class: {name!r}{nearest(name, class_names)}; see --source-classes")
    target_files = [file for file in listing.files if file.class_name not in chosen]
    source_files = [file for file in listing.files if file.class_name in chosen] if source is None else source.files
    source_task = _task(source_files, "source", has_all_classes=source is not None)
    target_task = _task(target_files, "target", has_all_classes=not source_classes)
    if not target_task.files:
        raise ConfigError("the target task has no classes left; name fewer of them in --source-classes")
    if test.by_trial:
        pooled = [replace(file, split=POOL) for file in target_task.files]
        target_task = replace(target_task, files=tuple(pooled))
    elif not has_test_split(listing.files):
        target_task = _with_test_split(target_task, test)
    elif test.fraction is not None or test.seed is not None:
        raise ConfigError("the images have a test split of their own; leave --test-fraction and --split-seed out")
    elif not has_test_split(target_files):
        raise ConfigError("the test split has no image of the target's classes; give the whole data set")
    else:
        _refuse_one_sided_classes(target_task)
    return {"source": source_task, "target": target_task}


def _task(files: Sequence[ImageFile], name: str, *, has_all_classes: bool) -> TaskFiles:
    """Return the task of these images.

    Args:
        files: its images.
        name: "source" or "target", for the message.
        has_all_classes: True if no class of its folder went to the other task.

    Raises:
        ConfigError: there is only one class.
    """
    classes = tuple(sorted({file.class_name for file in files}))
    broken = [name for name in classes if any(unicodedata.category(char) in LINE_BREAKING for char in name)]
    if broken:
        names = some(map(repr, broken))
        raise FilesRefused(
            f"names of classes have line ends or other control characters, which would break tables: {names}; rename "
            "them",
            [Refused(file.path, "a control character in its class") for file in files if file.class_name in broken],
        )
    if len(classes) == 1:
        advice = ""
        if has_all_classes:
            advice = ": expected a folder for each class, or a table (--labels) with two or more classes"
        raise ConfigError(
            f"the {name} task has one class, {classes[0]!r}, of {len(files)} images; a task needs two or more{advice}"
        )
    by_name = sorted(files, key=lambda file: (file.class_name, normal_form(file.name)))
    return TaskFiles(classes=classes, files=tuple(by_name))


def warnings_of(tasks: Iterable[TaskFiles]) -> Iterator[str]:
    """Yield what is doubtful about the classes of tasks and their images: too few, and names that may be mistakes."""
    for task in tasks:
        for find in (_few_images, _alike_classes, _measured, _no_class, _hidden, _made_of_others):
            if warning := find(task):
                yield warning


def _few_images(task: TaskFiles) -> str:
    """Return a sentence about the classes with too few images to judge anything by; empty if there are none."""
    images_of_class = Counter(file.class_name for file in task.files)
    few = [f"{name!r} has {counted(count, 'image')}" for name, count in images_of_class.items() if count < FEW]
    if not few:
        return ""
    return (
        f"{some(few)}; each split has an image or two of such a class, or none, so scores say little of classes with "
        f"fewer than {FEW}: add images, or remove these classes"
    )


def _alike_classes(task: TaskFiles) -> str:
    """Return a sentence about classes whose names differ only as two spellings of one name do; empty if none do."""
    names_of_word: dict[str, list[str]] = {}
    for name in task.classes:
        number = _number(name)
        names_of_word.setdefault(word_of(name) if number is None else str(number), []).append(name)
    alike = [" and ".join(map(repr, names)) for names in names_of_word.values() if len(names) > 1]
    if not alike:
        return ""
    return (
        f"classes with almost the same name are kept apart: {some(alike)}; if they are one class, give them one name, "
        "and prepare again"
    )


def _measured(task: TaskFiles) -> str:
    """Return a sentence if the classes may be measured values; empty if not."""
    values = [value for name in task.classes if (value := _number(name)) is not None]
    if len(values) < len(task.classes):
        return ""
    if len(values) <= MOST_NUMBERED and all(value.is_integer() for value in values):
        return ""
    return (
        f"the {len(values)} classes are numbers ({some(task.classes, 3)}), and each is a class of its own, without an "
        "order; values to be predicted (a regression) need a data set of your own: docs/extend.md"
    )


def _no_class(task: TaskFiles) -> str:
    """Return a sentence about classes that may be a missing value, a split or a folder of an export; empty if none."""
    words = MISSING_WORDS | NO_VALUES | SPLIT_NAMES.keys() | OF_EXPORTS
    if len(task.classes) > 2:  # of two, -1 may be the one that is not 1
        words |= {"-1", "-1.0"}
    are_splits = all(re.search("train|val|test", name.casefold()) for name in task.classes)
    odd = re.compile(r"[\[{].*|\W*")  # a list, or no name
    doubtful = [name for name in task.classes if are_splits or name.casefold() in words or odd.fullmatch(name)]
    if not doubtful:
        return ""
    are = "is a class" if len(doubtful) == 1 else "are classes"
    return (
        f"{some(map(repr, doubtful))} {are} like others; if no class is meant (but a missing value, a split, masks, a "
        "list), move these images, or say their classes in a table (--labels), and prepare again"
    )


def _hidden(task: TaskFiles) -> str:
    """Return a sentence about names of classes with what no table shows at their ends; empty if none have."""
    hidden = [name for name in task.classes if name != trimmed(name)]
    if not hidden:
        return ""
    names = some(map(repr, hidden))
    return f"names of classes begin or end with a blank, or with what is not shown: {names}; rename their folders"


def _made_of_others(task: TaskFiles) -> str:
    """Return a sentence about images that are called as masks and versions of others are; empty if none are."""
    stems = {file.path.with_suffix("") for file in task.files}
    version_of = {file: match[1] for file in task.files if (match := ROBOFLOW.fullmatch(file.path.stem))}
    versions = Counter((file.class_name, original) for file, original in version_of.items())
    names = []
    for file in task.files:
        original = MADE_OF.sub("", file.path.stem)
        is_made = original != file.path.stem and file.path.with_name(original) in stems
        if is_made or versions[file.class_name, version_of.get(file, "")] > 1:
            names.append(file.name)
    if not names:
        return ""
    return (
        f"{counted(len(names), 'image')} may be made of others, by their names: {some(names)}; if these are masks, "
        "previews, edited copies or versions, keep one image of each, and prepare again: else scores may be too good"
    )


def _number(name: str) -> float | None:
    """Return the number that a name is, with a point or a comma; None if it is none."""
    with suppress(ValueError):
        return float(name.replace(",", "."))
    return None


def _with_test_split(task: TaskFiles, test: SplitRule) -> TaskFiles:
    """Return the task with a test split that is drawn class by class; other images without a split are for training.

    Raises:
        FilesRefused: a class has too few images.
    """
    files_of_class: dict[str, list[ImageFile]] = {name: [] for name in task.classes}
    for file in task.files:
        files_of_class[file.class_name].append(file)
    refused = []
    for name, files in files_of_class.items():
        if test.test_images_of(len(files)) < 1:
            refused += [Refused(file.path, f"class {name!r} has {len(files)} image(s)") for file in files]
    if refused and not is_any_set_aside():
        counts = some({file.reason for file in refused})
        advice = "".join(f"; {text}" for text in (_measured(task), _alike_classes(task)) if text)
        fixed = test.training_images_per_class if test.leaves_training_images else None
        least = "two images or more" if fixed is None else f"more than {fixed} images, type --test-fraction"
        raise FilesRefused(
            f"too few images for a test split: {counts}; give each class {least}, or leave it out{advice}", refused
        )
    test_names: set[str] = set()
    for files in files_of_class.values():
        in_drawn_order = sorted((file.name for file in files), key=lambda name: _draw(name, test.seed or 0))
        test_names.update(in_drawn_order[: test.test_images_of(len(files))])
    split_of = {file: TEST if file.name in test_names else file.split or TRAIN for file in task.files}
    return replace(task, files=tuple(replace(file, split=split) for file, split in split_of.items()))


def _refuse_one_sided_classes(task: TaskFiles) -> None:
    """Raise FilesRefused for classes that cannot be learned, or cannot be tested."""
    test_classes = {file.class_name for file in task.files if file.split == TEST}
    other_classes = {file.class_name for file in task.files if file.split != TEST}
    one_sided = test_classes ^ other_classes
    if one_sided and not is_any_set_aside():
        names = [f"{name!r} ({'only test images' if name in test_classes else 'no test image'})" for name in one_sided]
        alike = _alike_classes(task)
        raise FilesRefused(
            f"the splits differ in their classes: {some(names)}; {alike + '; else ' if alike else ''}give each class "
            "images for training and for testing, or remove its images; if test images have no labels, move them away",
            [Refused(file.path, "of a class of one split") for file in task.files if file.class_name in one_sided],
        )


def _draw(name: str, seed: int) -> bytes:
    """Return a hash, by which images are ordered for the draw: it depends on no generator and no other image."""
    return hashlib.sha256(f"{seed}/{normal_form(name)}".encode()).digest()
