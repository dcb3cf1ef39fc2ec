"""Divides images into the source task and the target, and draws the target's test split."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tailor.common.errors import ConfigError
from tailor.common.texts import normal_form
from tailor.facts.manifest import SOURCE, TARGET
from tailor.prepare.forms import POOL, TEST, TRAIN, ImageFile
from tailor.prepare.problems import Problems
from transtailor.names import nearest
from transtailor.plural import counted

TEST_FRACTION = 0.2  # the default for folders without a test split
LEAST_GROUPS = 3  # of a class, where images are in groups: one for each of a trial's splits
FEW = 5  # images of a class: one for testing, one for validation, and three to train with


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
    """How the test split is drawn if the data set has none."""

    fraction: float | None = None  # of each class; None: the layout's rule, else TEST_FRACTION
    seed: int | None = None  # None: 0
    training_images_per_class: int | None = None  # the layout's rule: all others are test images
    by_trial: bool = False  # every trial draws its own: all images are one pool

    def __post_init__(self) -> None:
        if not 0.0 < self.share < 1.0:
            raise ConfigError(f"--test-fraction is {self.share}; expected more than 0 and less than 1, for example 0.2")

    @property
    def share(self) -> float:
        """Share of the images that is drawn."""
        return TEST_FRACTION if self.fraction is None else self.fraction

    def test_images_of(self, class_images: int) -> int:
        """Return how many images of a class of so many are test images; below 1 if the class has too few."""
        if self.fraction is None and self.training_images_per_class is not None:
            return class_images - self.training_images_per_class
        return min(max(1, round(class_images * self.share)), class_images - 1)

    def description(self, files: Sequence[ImageFile]) -> str:
        """Return where the test split of these images comes from, for readers."""
        if self.by_trial:
            return f"{self.share} of all images, drawn by each trial"
        if has_test_split(files):
            return "the data set's own"
        kept = self.training_images_per_class if self.fraction is None else None
        drawn = f"all but {kept} images" if kept else f"{self.share}"
        least = "" if kept else ", at least one image"
        return f"{drawn} of each class{least}, drawn by seed {self.seed or 0}"


def has_test_split(files: Sequence[ImageFile]) -> bool:
    """Whether the data set came with a test split."""
    return any(file.split == TEST for file in files)


def cut(
    files: Sequence[ImageFile], source: Sequence[ImageFile] | None, source_classes: Sequence[str], test: SplitRule,
    problems: Problems,
) -> dict[str, TaskFiles]:  # fmt: skip
    """Divide images into the source and the target task; the target's images are then all in a split.

    The source task is the images of a second data set, or those of `source_classes`. Classes that cannot be divided, or
    have few images, become problems. Raises ConfigError: an unknown class, both kinds of source, or only one class.
    """
    if source is not None and source_classes:
        raise ConfigError("a source task is given twice: choose between --source-classes and --source-from")
    class_names = {file.class_name for file in files}
    chosen = {normal_form(name) for name in source_classes}
    for name in chosen - class_names:
        raise ConfigError(f"no such class: {name!r}{nearest(name, class_names)}; see --source-classes")
    others = [file for file in files if file.class_name in chosen] if source is None else source
    tasks = {
        SOURCE: _task(others, SOURCE, problems),
        TARGET: _task([file for file in files if file.class_name not in chosen], TARGET, problems),
    }
    target = tasks[TARGET]
    if not target.files:
        raise ConfigError("the target task has no classes left; name fewer of them in --source-classes")
    if test.by_trial:
        pooled = tuple(replace(file, split=POOL) for file in target.files)
        return tasks | {TARGET: replace(target, files=pooled)}
    if not has_test_split(files):
        target = _with_test_split(target, test, problems)
    elif test.fraction is not None or test.seed is not None:
        raise ConfigError("the images have a test split of their own; leave --test-fraction and --split-seed out")
    if has_test_split(files) or any(file.group for file in files):
        _check_splits(target, problems)
    return tasks | {TARGET: target}


def _task(files: Sequence[ImageFile], name: str, problems: Problems) -> TaskFiles:
    """Return the task of these images. Raises ConfigError: there is only one class."""
    counts = Counter(file.class_name for file in files)
    if len(counts) == 1:
        expected = "expected two or more: a folder for each class, or a table of the classes in --labels"
        raise ConfigError(f"the {name} task has one class, {[*counts][0]!r}, of {len(files)} images; {expected}")
    for file in {file.class_name: file for file in files if counts[file.class_name] < FEW}.values():
        remedy = f"scores say little of classes with fewer than {FEW}: add images, or remove these classes"
        detail = f"{file.class_name!r} has {counts[file.class_name]}"
        problems.add("class", "with few images", remedy, [file.path.parent], detail, stops=False)
    by_name = sorted(files, key=lambda file: (file.class_name, normal_form(file.name)))
    return TaskFiles(classes=tuple(sorted(counts)), files=tuple(by_name))


def _with_test_split(task: TaskFiles, test: SplitRule, problems: Problems) -> TaskFiles:
    """Return the task with a test split that is drawn class by class; other images without a split are for training.

    Images are ordered by a hash of their names, groups by one of theirs, so the draw depends on no generator and no
    other image. Groups are taken whole, in that order, where they bring their classes nearer to their shares and leave
    each two other groups; then each class without a test image gets its smallest group.
    """
    images_of_class = Counter(file.class_name for file in task.files)
    wanted = {name: test.test_images_of(count) for name, count in images_of_class.items()}
    for name in [name for name in task.classes if wanted[name] < 1]:
        remedy = "give it more images, or leave it out, or type --test-fraction"
        place = next(file.path.parent for file in task.files if file.class_name == name)
        detail = f"{name!r} has {images_of_class[name]}"
        problems.add("class", "with too few images for a test split", remedy, [place], detail)
    has_groups = any(file.group for file in task.files)
    members = defaultdict[str, Counter[str]](Counter)  # group, or image of none -> its images by class
    for file in task.files:
        members[file.group or file.name][file.class_name] += 1
    groups_left = Counter(name for counts in members.values() for name in counts)
    tested: set[str] = set()

    def may_go(key: str) -> bool:
        return not has_groups or all(groups_left[name] >= LEAST_GROUPS for name in members[key])

    def take(key: str) -> None:
        tested.add(key)
        groups_left.subtract(members[key].keys())
        for name, count in members[key].items():
            wanted[name] -= count

    in_order = sorted(members, key=lambda key: hashlib.sha256(f"{test.seed or 0}/{normal_form(key)}".encode()).digest())
    for key in filter(may_go, in_order):
        if sum(abs(wanted[name] - count) - abs(wanted[name]) for name, count in members[key].items()) < 0:
            take(key)
    for name in task.classes if has_groups else ():
        possible = [key for key in in_order if name in members[key] and may_go(key)]
        if possible and not any(name in members[key] for key in tested):
            take(min(possible, key=lambda key: members[key].total()))
    split = [TEST if (file.group or file.name) in tested else file.split or TRAIN for file in task.files]
    return replace(task, files=tuple(replace(file, split=name) for file, name in zip(task.files, split, strict=True)))


def _check_splits(task: TaskFiles, problems: Problems) -> None:
    """Add groups on both sides of the test split, and classes on one side, or in too few groups for three splits."""
    sides_of = defaultdict[str, set[bool]](set)
    groups_of = {name: (set[str](), set[str]()) for name in task.classes}  # not of the test split, and of it
    file_of = {file.class_name: file for file in reversed(task.files)}
    for file in task.files:
        sides_of[file.group].add(file.split == TEST)
        groups_of[file.class_name][file.split == TEST].add(file.group or file.name)
    for group, file in {file.group: file for file in task.files if file.group}.items():
        if len(sides_of[group]) > 1:
            remedy = "give all images of the group one split"
            problems.add("group", "on both sides of the test split", remedy, [file.path], f"group {group!r}")
    has_groups = any(sides_of.keys() - {""})
    for name, (others, tested) in groups_of.items():
        remedy = "give it images for training and for testing, or leave it out; images without labels, too"
        fault = "no test image" if not tested else "only test images" if not others else ""
        if has_groups and (fault or len(others) + 1 < LEAST_GROUPS):
            fault = f"{counted(len(tested), 'group')} for testing, {len(others)} others"
            remedy = f"give it {LEAST_GROUPS} groups or more (one for testing, and others for training and validation)"
        if fault:
            places = [file_of[name].path.parent]
            problems.add("class", "that the splits do not divide", remedy, places, f"{name!r}: {fault}")
