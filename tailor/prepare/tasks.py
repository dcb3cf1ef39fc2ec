"""Divides images into the source task and the target, and draws the target's test split."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tailor.core.errors import ConfigError
from tailor.prepare.folder import CLASS_FOLDERS
from tailor.prepare.listing import POOL, TEST, TRAIN, FileListing, FilesRefused, ImageFile, Refused, normal_form, some
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

    def images_of(self, count: int) -> int:
        """How many images of a class of so many are test images; below 1: they are too few."""
        if self.leaves_training_images:
            return count - (self.training_images_per_class or 0)
        return min(max(1, round(count * self.share)), count - 1)

    @property
    def least(self) -> str:
        """What a class needs, for error messages."""
        if self.leaves_training_images:
            return f"more than {self.training_images_per_class}, or --test-fraction"
        return "two or more"

    @property
    def leaves_training_images(self) -> bool:
        """Whether the layout says how many training images of each class there are, and the user no fraction."""
        return self.fraction is None and self.training_images_per_class is not None

    def description(self, listing: FileListing) -> str:
        """Where the test split of a listing comes from, for readers."""
        if self.by_trial:
            return f"{self.share} of all images, drawn by each trial"
        if has_test_split(listing.files):
            return "the data set's own"
        if self.leaves_training_images:
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
    classes = {normal_form(file.class_name): file.class_name for file in listing.files}
    for name in source_classes:
        if normal_form(name) not in classes:
            raise ConfigError(f"no such class: {name!r}{nearest(name, classes.values())}; see --source-classes")
    chosen = {classes[normal_form(name)] for name in source_classes}
    source_files = [file for file in listing.files if file.class_name in chosen] if source is None else source.files
    target_files = [file for file in listing.files if file.class_name not in chosen]
    tasks = {
        "source": _task(source_files, "source", is_whole=source is not None),
        "target": _task(target_files, "target", is_whole=not source_classes),
    }
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


def _task(files: Sequence[ImageFile], name: str, *, is_whole: bool) -> TaskFiles:
    """A task; `is_whole`: it has all classes of its folder, of which none went to the other task."""
    classes = tuple(sorted({file.class_name for file in files}, key=normal_form))
    if len(classes) == 1:
        way_out = f": {CLASS_FOLDERS}" if is_whole else ""
        raise ConfigError(
            f"the {name} task has one class, {classes[0]!r}, of {len(files)} images; a task needs two or more{way_out}"
        )
    by_name = sorted(files, key=lambda file: (normal_form(file.class_name), normal_form(file.name)))
    return TaskFiles(classes=classes, files=tuple(by_name))


def _with_test_split(task: TaskFiles, test: SplitRule) -> TaskFiles:
    of_class: dict[str, list[ImageFile]] = {name: [] for name in task.classes}
    for file in task.files:
        of_class[file.class_name].append(file)
    few = {name: files for name, files in of_class.items() if test.images_of(len(files)) < 1}
    if few:
        counts = {name: f"class {name!r} has {len(files)} image(s)" for name, files in few.items()}
        raise FilesRefused(
            f"too few images for a test split: {some(counts.values())}; expected {test.least} in each class",
            [Refused(few[name][0].path.parent, text) for name, text in counts.items()],
        )
    drawn: set[str] = set()
    for files in of_class.values():
        by_place = sorted((file.name for file in files), key=lambda name: _place(name, test.seed))
        drawn.update(by_place[: test.images_of(len(files))])
    split = [replace(file, split=TEST if file.name in drawn else file.split or TRAIN) for file in task.files]
    return replace(task, files=tuple(split))


def _place(name: str, seed: int) -> bytes:
    """A name's place in the draw of test images, by a hash: it depends on no generator and no other image."""
    return hashlib.sha256(f"{seed}/{normal_form(name)}".encode()).digest()
