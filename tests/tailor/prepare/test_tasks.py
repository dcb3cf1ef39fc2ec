"""Source and target task, and the test split that is drawn where there is none."""

import io
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tailor.common.errors import ConfigError
from tailor.common.texts import normal_form
from tailor.prepare.forms import ImageFile
from tailor.prepare.problems import Problems
from tailor.prepare.tasks import SplitRule, TaskFiles
from tailor.prepare.tasks import cut as cut_with

DRAWN = SplitRule(fraction=0.2, seed=0)


def listing(per_class: dict[str, int], split: str = "") -> list[ImageFile]:
    return [
        ImageFile(path=Path(f"{name}/{number}"), name=f"{name}/{number}", class_name=normal_form(name), split=split)
        for name, count in per_class.items()
        for number in range(count)
    ]


def cut(
    files: list[ImageFile], source: list[ImageFile] | None, source_classes: tuple[str, ...], test: SplitRule
) -> dict[str, TaskFiles]:
    problems = Problems(io.StringIO())
    tasks = cut_with(files, source, source_classes, test, problems)
    if problems.stop:
        raise ConfigError("\n".join(problems.texts(stopping=True)))
    return tasks


def names_of_tests(task: TaskFiles) -> set[str]:
    return {file.name for file in task.files if file.split == "test"}


def test_the_test_split_is_stratified_and_moves_with_its_seed_alone() -> None:
    found = cut(listing({"cat": 10, "dog": 20, "eel": 3}), None, (), DRAWN)["target"]
    assert Counter(name.split("/")[0] for name in names_of_tests(found)) == {"cat": 2, "dog": 4, "eel": 1}
    assert names_of_tests(cut(listing({"dog": 20, "eel": 3, "cat": 10}), None, (), DRAWN)["target"]) == names_of_tests(
        found
    )
    other = SplitRule(fraction=0.2, seed=1)
    assert names_of_tests(cut(listing({"cat": 10, "dog": 20, "eel": 3}), None, (), other)["target"]) != names_of_tests(
        found
    )


def test_a_class_keeps_its_test_images_when_another_one_becomes_source() -> None:
    sizes = {"cat": 10, "cow": 10, "dog": 10, "eel": 10}
    whole = names_of_tests(cut(listing(sizes), None, (), DRAWN)["target"])
    tasks = cut(listing(sizes), None, ("cat", "cow"), DRAWN)
    assert tasks["source"].classes == ("cat", "cow") and tasks["target"].classes == ("dog", "eel")
    assert names_of_tests(tasks["target"]) == {name for name in whole if name[:3] in ("dog", "eel")}
    assert tasks["target"].labels == [0] * 10 + [1] * 10


def test_a_layout_may_ask_for_all_but_so_many_training_images() -> None:
    rule = SplitRule(fraction=None, seed=0, training_images_per_class=6)
    found = cut(listing({"cat": 10, "dog": 7}), None, (), rule)["target"]
    assert Counter(name.split("/")[0] for name in names_of_tests(found)) == {"cat": 4, "dog": 1}
    with pytest.raises(ConfigError, match="too few images.*'dog' has 6"):
        cut(listing({"cat": 10, "dog": 6}), None, (), rule)


def test_names_are_sorted_drawn_and_chosen_whatever_their_unicode_form() -> None:
    """So the data set of a folder is the same on macOS (NFD) and Linux."""
    nfc, nfd = "caf\u00e9", "cafe\u0301"
    sizes = [{name: 10, "cafz": 10, "tea": 10, "wine": 10} for name in (nfc, nfd)]
    tasks = [cut(listing(size), None, (nfc, "cafz"), DRAWN) for size in sizes]
    assert [task["source"].classes for task in tasks] == 2 * [("cafz", nfc)]
    whole = [cut(listing(size), None, (), DRAWN)["target"] for size in sizes]
    places = [[file.split for file in task.files] for task in whole]
    assert places[0] == places[1]


def test_all_classes_that_are_too_small_are_named() -> None:
    with pytest.raises(ConfigError, match="2 classes with too few images.*'cat' has 1.*'dog' has 1"):
        cut(listing({"cat": 1, "dog": 1, "eel": 2}), None, (), DRAWN)


def test_a_second_folder_is_the_source() -> None:
    tasks = cut(listing({"cat": 2, "dog": 2}), listing({"dog": 3, "yak": 3}), (), DRAWN)
    assert tasks["source"].classes == ("dog", "yak") and len(tasks["source"].files) == 6
    assert tasks["target"].classes == ("cat", "dog") and len(tasks["target"].files) == 4


@pytest.mark.parametrize(
    ("given", "source", "source_classes", "fraction", "said"),
    [
        ({"cat": 2, "dog": 2}, None, ("cta",), 0.2, "no such class: 'cta'; did you mean 'cat'"),
        ({"cat": 2, "dog": 2}, {"a": 1, "b": 1}, ("cat",), 0.2, "given twice"),
        ({"cat": 2, "dog": 2}, None, ("cat", "dog"), 0.2, "no classes left"),
        ({"cat": 2, "dog": 2, "eel": 2}, None, ("cat", "dog"), 0.2, "target task has one class, 'eel'"),
        ({"cat": 2, "dog": 2, "eel": 2}, None, ("cat",), 0.2, "source task has one class, 'cat'"),
        ({"cat": 1, "dog": 2}, None, (), 0.2, "'cat' has 1"),
        ({"images": 9}, None, (), 0.2, "one class, 'images', of 9 images.*a folder for each class.*--labels"),
        ({"cat": 2, "dog": 2}, None, (), 0.0, "--test-fraction is 0.0"),
        ({"cat": 2, "dog": 2}, None, (), 1.0, "--test-fraction is 1.0"),
    ],
)
def test_tasks_that_cannot_be_cut_are_refused(
    given: dict[str, int], source: dict[str, int] | None, source_classes: tuple[str, ...], fraction: float, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        test = SplitRule(fraction=fraction, seed=0)
        cut(listing(given), None if source is None else listing(source), source_classes, test)


@pytest.mark.parametrize("typed", [{"fraction": 0.2}, {"seed": 0}])
def test_how_to_draw_beside_a_test_split_is_refused(typed: dict[str, Any]) -> None:
    files = listing({"cat": 2, "dog": 2}, "train") + listing({"cow": 2}, "test")
    with pytest.raises(ConfigError, match="leave --test-fraction and --split-seed out"):
        cut(files, None, (), SplitRule(**typed))
