"""The names of arms: a label, and the settings that tell apart the configurations that have it.

An arm is what is compared: a configuration. A label is what a user wrote for it, which several configurations can have.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

BASELINE = "fine_tune"
"""The method that fine-tunes the whole network and prunes nothing."""
HEAD_ONLY = "head_only"
"""The method that fits a new head and measures; the arm of each head fit with which a path begins."""
SEED = "seed"
REPETITIONS = ("source.seed", "data.split_seed")
"""Settings that repeat a seed's trial of an arm, where they are not tied to the seed."""
SEEDS = (SEED, *REPETITIONS)
PLACES = (
    "data.root", "data.layout", "data.image_px", "data.sha256", "source.weights", "source.weights_folder",
    "validate_every", "data.expected.classes", "data.expected.images", "data.expected.test_images",
    "data.expected.source_classes", "data.expected.source_images", "data.expected.prepare",
)  # fmt: skip
"""Settings that change no result, such as where files are, or what they must be: they are in no trial's id."""
LONGEST = 60
"""Characters of an arm's name: two of them fit a line of a terminal, beside their numbers."""
_LONGEST_VALUE = 16
_CUT = "…"
_NAME = ".name"  # `method.allocation.name = "uniform"` is written `method.allocation = "uniform"` in a spec
_SOURCE = "source."

Telling = tuple[tuple[str, str], ...]
"""The settings that tell a configuration apart from others with its label: dotted keys, and their values as JSON."""


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """What is compared within a problem; the settings are flat, and without what repeats it, such as the seed."""

    problem: tuple[object, ...]
    label: str
    settings: Mapping[str, Any]  # dotted key -> value


def arm_names(configurations: Sequence[Configuration]) -> list[str]:
    """Return the name of each configuration: its label, and the settings that differ between those of one label.

    Settings differ if they do so within a problem. In another problem, the same settings are then in the names too, so
    that arms of one name have these settings alike everywhere. Names have at most `LONGEST` characters, and no two
    configurations of one problem have the same.

    >>> rates = [{"optimisation.learning_rate": rate, "source.epochs": 5} for rate in (0.01, 0.005)]
    >>> for settings in rates:
    ...     print(arm_names([Configuration(problem=("vgg",), label="prune l1", settings=settings)]))
    ['prune l1']
    ['prune l1']
    >>> arm_names([Configuration(problem=("vgg",), label="prune l1", settings=settings) for settings in rates])
    ['prune l1, learning_rate = 0.01', 'prune l1, learning_rate = 0.005']
    """
    settings = [_without_names(configuration.settings) for configuration in configurations]
    by_label: dict[str, list[int]] = defaultdict(list)
    for index, configuration in enumerate(configurations):
        by_label[configuration.label].append(index)
    names = [""] * len(configurations)
    taken: set[str] = set()
    for label, indices in by_label.items():
        differing = _differing([(configurations[index].problem, settings[index]) for index in indices])
        telling = [_telling(settings[index], differing) for index in indices]
        keys: set[str] = set()
        for index in indices:
            keys.update(settings[index])
        names_of_label = _names_of_label(label, telling, keys)
        if taken & set(names_of_label.values()):  # with another label, which happens to be written like this one's name
            names_of_label = _numbered(label, names_of_label, taken)
        taken |= set(names_of_label.values())
        for index, tells in zip(indices, telling, strict=True):
            names[index] = names_of_label[tells]
    return names


def differing_settings(settings: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the dotted keys in which these settings differ, or which only some of them have, in their order."""
    one_problem = ()
    return _differing([(one_problem, of_configuration) for of_configuration in settings])


def arms_called(text: str, label_of_arm: Mapping[str, str]) -> list[str]:
    """Return the arms that a user may mean: the one of this name, or else all with this label, sorted.

    >>> arms_called("l1", {"l1, seed tied": "l1", "plain": "plain"}), arms_called("l2", {"plain": "plain"})
    (['l1, seed tied'], [])
    """
    if text in label_of_arm:
        return [text]
    return sorted(arm for arm, label in label_of_arm.items() if label == text)


def _without_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings with keys as in a spec: a table with a name is written as that name."""
    return {key.removesuffix(_NAME): value for key, value in settings.items()}


def _differing(settings: Iterable[tuple[object, Mapping[str, Any]]]) -> list[str]:
    """Return the keys whose values differ within a problem, in their order; `settings` are pairs with the problem."""
    first_of_problem: dict[object, Mapping[str, Any]] = {}
    differs: dict[str, bool] = {}  # each key that occurs
    for problem, values in settings:
        first = first_of_problem.setdefault(problem, values)
        for key in (*first, *values):
            same = key in first and key in values and first[key] == values[key]
            differs[key] = differs.get(key, False) or not same
    return [key for key in differs if differs[key]]


def _telling(settings: Mapping[str, Any], keys: Iterable[str]) -> Telling:
    return tuple((key, json.dumps(settings[key], ensure_ascii=False)) for key in keys if key in settings)


def _value_text(value_json: str, most: int) -> str:
    """A value as a person writes it, without quotes; a long one is cut at its beginning, where paths are alike."""
    text = str(json.loads(value_json)) if value_json.startswith('"') else value_json.replace("null", "none")
    if not text.isprintable():
        text = json.dumps(json.loads(value_json))  # a name is one line, and changes nothing on a terminal
    return text if len(text) <= most else _CUT + text[1 - most :]


def _names_of_label(label: str, telling: Sequence[Telling], keys: Iterable[str]) -> dict[Telling, str]:
    """Name the configurations of one label: in full, or shorter where a name would be too long.

    What is none is left out first: of milliseconds or their share, a name is to say the one that was asked.
    """
    distinct = list(dict.fromkeys(telling))
    if len(distinct) == 1:
        return {distinct[0]: _cut(label, LONGEST)}
    shown_keys: set[str] = set()
    for settings in distinct:
        shown_keys.update(key for key, _ in settings)
    endings = _endings(shown_keys, keys)
    needed = _needed(distinct)
    given = [tuple(pair for pair in settings if pair[1] != "null") or settings for settings in distinct]
    for shown, longest_value in ((distinct, LONGEST), (given, LONGEST), (needed, LONGEST), (needed, _LONGEST_VALUE)):
        names = [_name_with(label, settings, endings, longest_value) for settings in shown]
        if max(map(len, names)) <= LONGEST and len(set(names)) == len(distinct):
            return dict(zip(distinct, names, strict=True))
    return _numbered(label, distinct, ())


def _name_with(label: str, settings: Telling, endings: Mapping[str, str], longest_value: int) -> str:
    """Write a label with these settings, such as "prune l1, learning_rate = 0.01"."""
    values = [f"{endings[key]} = {_value_text(value, longest_value)}" for key, value in settings]
    return ", ".join([label, *values])


def _endings(shown: Iterable[str], keys: Iterable[str]) -> dict[str, str]:
    """Return the shortest ending of each key that no other has: `learning_rate` of `optimisation.learning_rate`.

    Settings of the source training keep their `source.`: a learning rate without it is that of the target.
    """
    target = [key for key in keys if not key.startswith(_SOURCE)]
    return {key: key if key.startswith(_SOURCE) else _shortest_ending(key, target) for key in shown}


def _shortest_ending(key: str, keys: Sequence[str]) -> str:
    parts = key.split(".")
    for count in range(1, len(parts)):
        ending = ".".join(parts[-count:])
        if sum(f".{other}".endswith(f".{ending}") for other in keys) == 1:
            return ending
    return key


def _needed(configurations: Sequence[Telling]) -> list[Telling]:
    """Leave out settings without which the others still tell all configurations apart, the last ones first."""
    keys: list[str] = []
    for settings in configurations:
        keys += [key for key, _ in settings if key not in keys]
    for key in reversed(keys):
        fewer = [other for other in keys if other != key]
        if len({_only(settings, fewer) for settings in configurations}) == len(configurations):
            keys = fewer
    return [_only(settings, keys) for settings in configurations]


def _only(settings: Telling, keys: Iterable[str]) -> Telling:
    """Return only the settings of these keys."""
    wanted = set(keys)
    return tuple((key, value) for key, value in settings if key in wanted)


def _numbered(label: str, configurations: Iterable[Telling], taken: Iterable[str]) -> dict[Telling, str]:
    """Number the configurations; no name is one of those taken."""
    names: dict[Telling, str] = {}
    taken_names = set(taken)
    number = 0
    for settings in configurations:
        while True:
            number += 1
            end = f", settings {number}"
            name = _cut(label, LONGEST - len(end)) + end
            if name not in taken_names:
                break
        names[settings] = name
    return names


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + _CUT
