"""Which trials of a plan are one arm, and the arm's name.

Within a problem (network, data set, training images), trials are one arm if they differ in nothing but their seeds, the
budgets that they reach, and their setting of [tuning].
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from results.arms.names import REPETITIONS, SEEDS, Configuration, arm_names, differing_settings
from results.text.settings import leaves

Problem = tuple[str, str, int | None]
Points = Mapping[float | None, str]
_ABSENT = ""  # no JSON
_LAST_TABLES = 16  # a table is usually one of these: the values of an inner axis follow each other


@dataclass(frozen=True, kw_only=True, slots=True)
class ArmTrial:
    """What of a trial decides its arm."""

    problem: Problem  # network, data set, training images
    label: str
    settings: Mapping[str, Any]  # nested tables
    tuning: Mapping[str, Any] = field(default_factory=dict)  # dotted key -> value, of [tuning]
    points: Points = field(default_factory=dict)
    """Asked share of the MACs to remove (None: a rule decides) -> key of the stage that is the last point there."""


@dataclass(frozen=True, kw_only=True)
class Arms:
    """The arms of a plan."""

    names: tuple[str, ...]  # of each trial
    told_apart_by: Mapping[str, tuple[str, ...]]
    """Label -> dotted keys of the settings that tell its arms apart; a label with one arm in each problem has none."""


def arms_of(trials: Sequence[ArmTrial]) -> Arms:
    """Name the arm of each trial.

    A setting is a budget, which makes points of one arm, if two trials that differ in nothing else never ask for the
    same budgets, and have the same model wherever they do ask for the same one.

    >>> trials = [
    ...     ArmTrial(problem=("vgg", "digits", 200), label="prune l1", points={0.0: "head", budget: f"{rate} {budget}"},
    ...              settings={"optimisation": {"learning_rate": rate}, "method": {"removed_macs_fraction": budget}})
    ...     for rate in (0.01, 0.005) for budget in (0.2, 0.4)
    ... ]
    >>> arms = arms_of(trials)
    >>> sorted(set(arms.names)), arms.told_apart_by["prune l1"]
    (['prune l1, learning_rate = 0.005', 'prune l1, learning_rate = 0.01'], ('optimisation.learning_rate',))
    """
    places_of_labels: dict[str, list[int]] = defaultdict(list)
    for place, trial in enumerate(trials):
        places_of_labels[trial.label].append(place)
    configurations: dict[tuple[object, ...], Configuration] = {}
    members: dict[tuple[object, ...], list[int]] = defaultdict(list)
    told_apart_by: dict[str, tuple[str, ...]] = {}
    for label, places in places_of_labels.items():
        varying = _varying_keys(trials[place] for place in places)
        read = _Reader(varying)
        values = [read.values(trials[place].settings) for place in places]
        of_label = [trials[place] for place in places]
        telling = _telling_keys(of_label, values, varying)
        if telling:
            told_apart_by[label] = telling
        for place, of_trial in zip(places, values, strict=True):
            configuration = label, trials[place].problem, _only(of_trial, telling)
            members[configuration].append(place)
            if configuration not in configurations:
                configurations[configuration] = _configuration(trials[place], set(varying).difference(telling))
    names = [""] * len(trials)
    for its, name in zip(members.values(), arm_names([*configurations.values()]), strict=True):
        for place in its:
            names[place] = name
    return Arms(names=tuple(names), told_apart_by=told_apart_by)


def repetitions(trials: Iterable[tuple[tuple[object, ...], Mapping[str, Any]]]) -> list[str]:
    """Return the keys of `REPETITIONS` that have several values for one seed of an arm.

    Args:
        trials: what a trial's seed and arm are, and its settings as nested tables.
    """
    found: dict[str, None] = {}
    first: dict[tuple[object, ...], dict[str, str]] = {}
    read = _Reader(REPETITIONS)
    for seed_of_arm, settings in trials:
        values = read.values(settings)
        before = first.setdefault(seed_of_arm, values)
        found |= dict.fromkeys(key for key in values if values[key] != before.get(key))
    return [key for key in REPETITIONS if key in found]


def _varying_keys(trials: Iterable[ArmTrial]) -> tuple[str, ...]:
    """The dotted keys of the settings that have several values within a problem, in the order of the settings."""
    tables: dict[tuple[Problem, str], list[Any]] = defaultdict(list)  # the tables of each name; few are there twice
    for trial in trials:
        for name, table in trial.settings.items():
            several = tables[trial.problem, name]
            if table not in several[-_LAST_TABLES:]:
                several.append(table)
    varying: dict[str, None] = {}
    for (_, name), several in tables.items():
        varying |= dict.fromkeys(differing_settings(dict(leaves({name: table})) for table in several))
    return tuple(varying)


class _Reader:
    """Reads some settings of many trials; those of a table that several trials share are read once."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._keys = set(keys)
        self._tables = {key.partition(".")[0] for key in self._keys}
        self._read: dict[
            tuple[str, int], tuple[object, dict[str, str]]
        ] = {}  # with the table, so that its id stays its

    def values(self, settings: Mapping[str, Any]) -> dict[str, str]:
        """The values of the keys as JSON, without keys that the settings do not have."""
        found: dict[str, str] = {}
        for name in self._tables:
            if name in settings:
                table = settings[name]
                known = self._read.get((name, id(table)))
                if known is None:
                    flat = {key: json.dumps(value) for key, value in leaves({name: table}) if key in self._keys}
                    known = self._read[name, id(table)] = (table, flat)
                found |= known[1]
        return found


def _only(values: Mapping[str, str], keys: Iterable[str]) -> tuple[str, ...]:
    return tuple(values.get(key, _ABSENT) for key in keys)


def _telling_keys(
    trials: Sequence[ArmTrial], values: Sequence[Mapping[str, str]], varying: Sequence[str]
) -> tuple[str, ...]:
    """The keys that tell arms apart: those that vary, without seeds, [tuning] and budgets."""
    tuned = {key for trial in trials for key in trial.tuning}
    candidates = [key for key in varying if key not in SEEDS and not _is_within(key, tuned)]
    budgets = {key for key in candidates if _are_budgets(trials, values, candidates, {key})}
    if len(budgets) > 1 and not _are_budgets(trials, values, candidates, budgets):
        budgets = set()  # two together can lead to one budget in two ways
    return tuple(key for key in candidates if key not in budgets)


def _is_within(key: str, tables: Iterable[str]) -> bool:
    """Whether it is one of these keys, or of a setting in one of these tables."""
    return any(key == table or key.startswith(f"{table}.") for table in tables)


def _are_budgets(
    trials: Sequence[ArmTrial], values: Sequence[Mapping[str, str]], candidates: Sequence[str], keys: set[str]
) -> bool:
    """Whether trials that differ in nothing but these settings are points of one arm; false if there are none."""
    others = [key for key in candidates if key not in keys]
    alike: dict[tuple[object, ...], list[Points]] = defaultdict(list)
    for trial, of_trial in zip(trials, values, strict=True):
        same = trial.problem, _only(of_trial, SEEDS), json.dumps(dict(trial.tuning)), _only(of_trial, others)
        alike[same].append(trial.points)
    several = [paths for paths in alike.values() if len(paths) > 1]
    return bool(several) and not any(map(_conflict, several))


def _conflict(paths: Iterable[Points]) -> bool:
    """Whether two of these paths ask for the same budgets, or have different models at one budget."""
    models: dict[float | None, str] = {}
    asked: set[frozenset[float | None]] = set()
    for path in paths:
        if frozenset(path) in asked or any(models.setdefault(budget, key) != key for budget, key in path.items()):
            return True
        asked.add(frozenset(path))
    return False


def _configuration(trial: ArmTrial, left_out: set[str]) -> Configuration:
    settings = {key: value for key, value in leaves(trial.settings) if key not in left_out}
    return Configuration(problem=trial.problem, label=trial.label, settings=settings)
