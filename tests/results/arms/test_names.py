"""The names of arms: what a person would write, unique within a problem, short enough for a line."""

from collections.abc import Mapping
from itertools import product
from typing import Any

import pytest

from results.arms.names import LONGEST, Configuration, arm_names

VGG, RESNET = ("vgg", "digits", 200), ("resnet", "digits", 200)


def names(
    *settings: Mapping[str, Any], label: str = "prune l1", problems: tuple[tuple[object, ...], ...] = (VGG,)
) -> list[str]:
    """The names of these settings of one label, in one problem or one each."""
    places = problems * len(settings) if len(problems) == 1 else problems
    return arm_names(
        [Configuration(problem=place, label=label, settings=one) for place, one in zip(places, settings, strict=True)]
    )


def test_a_label_that_is_one_arm_in_each_problem_is_its_name() -> None:
    assert names({"optimisation.epochs": 5}) == ["prune l1"]
    two = names({"optimisation.epochs": 5}, {"optimisation.epochs": 9}, problems=(VGG, RESNET))
    assert two == ["prune l1", "prune l1"]  # epochs that fit each network


def test_settings_that_differ_within_a_problem_are_in_the_names_everywhere() -> None:
    slow, fast = {"optimisation.learning_rate": 0.01}, {"optimisation.learning_rate": 0.1}
    assert names(slow, fast, fast, problems=(VGG, VGG, RESNET)) == [
        "prune l1, learning_rate = 0.01", "prune l1, learning_rate = 0.1", "prune l1, learning_rate = 0.1",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("key", "one", "other", "written"),
    [
        ("optimisation.learning_rate", 0.01, 1e-05, ("learning_rate = 0.01", "learning_rate = 1e-05")),
        ("source.learning_rate", 0.01, 0.1, ("source.learning_rate = 0.01", "source.learning_rate = 0.1")),
        ("method.allocation.name", "global", "uniform", ("allocation = global", "allocation = uniform")),
        ("method.stop_early", True, False, ("stop_early = true", "stop_early = false")),
        ("optimisation.ema_decay", None, 0.9, ("ema_decay = none", "ema_decay = 0.9")),
        ("pruning.shape", [1, 2], [], ("shape = [1, 2]", "shape = []")),
        ("method.note", "a\nb", "c\x1b[1m", (r'note = "a\nb"', r'note = "c\u001b[1m"')),
        ("method.steps", 1, 4, ("method.steps = 1", "method.steps = 4")),
    ],
)
def test_settings_are_written_as_a_person_would(key: str, one: Any, other: Any, written: tuple[str, str]) -> None:
    common = {"optimisation.learning_rate": 0.5, "source.learning_rate": 0.5, "optimisation.steps": 3}
    assert names(common | {key: one}, common | {key: other}) == [f"prune l1, {text}" for text in written]


def test_a_setting_that_only_one_has_is_written_there() -> None:
    assert names({"optimisation.regulariser": None}, {"optimisation.regulariser.name": "l2_sp", "x.strength": 0.1}) == [
        "prune l1, regulariser = none", "prune l1, regulariser = l2_sp, strength = 0.1",
    ]  # fmt: skip


def test_names_are_short_and_unique_whatever_the_labels_and_settings() -> None:
    keys = [f"method.a_rather_long_setting_{number}" for number in range(5)]
    crossed = [dict(zip(keys, values, strict=True)) for values in product((1, 2), repeat=5)]
    paths = [{"data.folder": f"/scratch/some/where/deep/down/in/a/tree/images-{n}"} for n in range(3)]
    together = [{"optimisation.epochs": n, "method.a_rather_long_setting_that_follows": 10 * n} for n in range(3)]
    for settings in (crossed, paths, together):
        for label in ("prune l1", "x" * 60, "x" * 200):
            found = names(*settings, label=label)
            assert len(set(found)) == len(settings) and max(map(len, found)) <= LONGEST
    assert names(*together)[1] == "prune l1, epochs = 1"  # only what is needed
    assert names(*paths)[2].endswith("images-2")  # the end of a path tells more than its beginning
    assert names(*crossed)[31] == "prune l1, settings 32"


def test_a_label_that_is_written_like_the_name_of_another_arm_is_no_second_one() -> None:
    both = [Configuration(problem=VGG, label="prune l1", settings={"optimisation.epochs": n}) for n in (1, 2)]
    other = Configuration(problem=VGG, label="prune l1, epochs = 1", settings={})
    for order in ([other, *both], [*both, other]):
        assert len(set(arm_names(order))) == 3


def test_values_that_are_written_alike_are_still_two_arms() -> None:
    assert len(set(names({"method.scale": None}, {"method.scale": "none"}))) == 2
