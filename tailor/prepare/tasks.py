"""Divides images into the source task and the target, and draws the target's test split."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tailor.core.errors import ConfigError
from tailor.prepare.listing import POOL, TEST, TRAIN, FileListing, ImageFile, some
from transtailor.names import nearest

TEST_FRACTION = 0.2  # the default for folders without a test split


@dataclass(frozen=True, kw_only=True)
class TaskFiles:
    """The images of a task, ordered by class and name."""

    classes: tuple[str, ...]  # by name; a label is an index into this
    files: tuple[ImageFile, ...]

    @property
    def labels(self) -> list[int]:
        """Each image's label."""
        label_of = {name: label for label, name in enumerate(self.classes)}
        return [label_of[file.class_name] for file in self.files]


@dataclass(frozen=True, kw_only=True)
class SplitRule:
    """How the test split is drawn if the folder has none."""

    fraction: float | None  # of each class; None: the layout's rule, else TEST_FRACTION
    seed: int
    training_images_per_class: int | None  # the layout's rule: all others are test images
    by_trial: bool = False  # every trial draws its own: all images are one pool

    @property
    def share(self) -> float:
        """The share of the images that is drawn. Raises ConfigError: it is not between 0 and 1."""
        share = TEST_FRACTION if self.fraction is None else self.fraction
        if not 0.0 < share < 1.0:
            raise ConfigError(f"--test-fraction is {share}; expected a fraction between 0 and 1, for example 0.2")
        return share

    def description(self, listing: FileListing) -> str:
        """Where the test split of a listing comes from, for readers."""
        if self.by_trial:
            return f"{self.share} of all images, drawn by each trial"
        if has_test_split(listing.files):
            return "the data set's own"
        if self.fraction is None and self.training_images_per_class is not None:
            return f"all but {self.training_images_per_class} images of each class, drawn by seed {self.seed}"
        return f"{self.fraction or TEST_FRACTION} of each class, drawn by seed {self.seed}"


def has_test_split(files: Sequence[ImageFile]) -> bool:
    """Whether the data set came with a test split."""
    return any(file.split == TEST for file in files)


def cut(
    listing: FileListing, source: FileListing | None, source_classes: Sequence[str], test: SplitRule
) -> dict[str, TaskFiles]:
    """Source and target task of a listing; the target's images are all in a split.

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
    classes = {file.class_name for file in listing.files}
    for name in source_classes:
        if name not in classes:
            raise ConfigError(f"no such class: {name!r}{nearest(name, sorted(classes))}; see --source-classes")
    chosen = set(source_classes)
    source_files = [file for file in listing.files if file.class_name in chosen] if source is None else source.files
    target_files = [file for file in listing.files if file.class_name not in chosen]
    tasks = {"source": _task(source_files, "source"), "target": _task(target_files, "target")}
    if not tasks["target"].files:
        raise ConfigError("the target task has no classes left; name fewer of them in --source-classes")
    if test.by_trial:
        pooled = [replace(file, split=POOL) for file in tasks["target"].files]
        return tasks | {"target": replace(tasks["target"], files=tuple(pooled))}
    if not has_test_split(listing.files):
        return tasks | {"target": _with_test_split(tasks["target"], test)}
    if test.fraction is not None:
        raise ConfigError("the images have a test split of their own; leave --test-fraction out")
    if not has_test_split(target_files):
        raise ConfigError("the test split has no image of the target's classes; give the whole data set")
    return tasks


def _task(files: Sequence[ImageFile], name: str) -> TaskFiles:
    classes = tuple(sorted({file.class_name for file in files}))
    if len(classes) == 1:
        raise ConfigError(f"the {name} task has one class, {classes[0]!r}; a task needs two or more")
    return TaskFiles(classes=classes, files=tuple(sorted(files, key=lambda file: (file.class_name, file.name))))


def _with_test_split(task: TaskFiles, test: SplitRule) -> TaskFiles:
    drawn: set[str] = set()
    for name in task.classes:
        drawn |= _draw([file.name for file in task.files if file.class_name == name], name, test)
    files = [replace(file, split=TEST if file.name in drawn else file.split or TRAIN) for file in task.files]
    return replace(task, files=tuple(files))


def _draw(names: list[str], class_name: str, test: SplitRule) -> set[str]:
    """The test images of a class: the first in the order of a hash of seed and name, which depends on no generator and
    no other image."""
    if test.fraction is None and test.training_images_per_class is not None:
        count = len(names) - test.training_images_per_class
        rule = f"more than {test.training_images_per_class} images of each class, or --test-fraction"
    else:
        count = min(max(1, round(len(names) * test.share)), len(names) - 1)
        rule = "at least two images of each class"
    if count < 1:
        raise ConfigError(
            f"class {class_name!r} has {len(names)} image(s) ({some(names)}), too few for a test split; expected {rule}"
        )
    return set(sorted(names, key=lambda name: _place(name, test.seed))[:count])


def _place(name: str, seed: int) -> bytes:
    """A name's place in the draw; of a name that is not UTF-8 the bytes are hashed as the file system has them."""
    return hashlib.sha256(f"{seed}/{name}".encode(errors="surrogateescape")).digest()
