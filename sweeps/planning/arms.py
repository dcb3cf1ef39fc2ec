"""Which trials of a plan are one arm, and the arm's name.

Within a problem (network, data set, training images), trials are one arm if they differ in nothing but their seeds, the
budgets that they reach, and their setting of [tuning].

A path may begin with a measurement of the network of which only the new head is fitted. This point is of the arm of
`head_only`, whatever the method does next: see `_head_arms`.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from results.arms.names import HEAD_ONLY, SEEDS, Configuration, arm_names, differing_settings
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
    head: str | None = None
    """Key of the trial's first point, if that measures the fit of the new head and nothing more."""
    is_head_only: bool = False  # whether this is all that its method measures


@dataclass(frozen=True, kw_only=True)
class Arms:
    """The arms of a plan."""

    names: tuple[str, ...]  # of each trial
    heads: tuple[str | None, ...]
    """Of each trial the arm that its first point belongs to, if that is the head's fit and the rest is another arm."""


def arms_of(trials: Sequence[ArmTrial]) -> Arms:
    """Name the arm of each trial.

    A setting is a budget, which makes points of one arm, if two trials that differ in nothing else never ask for the
    same budgets, and have the same model wherever they do ask for the same one.

    >>> trials = [
    ...     ArmTrial(problem=("vgg", "digits", 200), label="prune l1", points={0.0: "head", budget: f"{rate} {budget}"},
    ...              settings={"optimisation": {"learning_rate": rate},
    ...                        "method": {"asked_removed_macs_fraction": budget}})
    ...     for rate in (0.01, 0.005) for budget in (0.2, 0.4)
    ... ]
    >>> sorted(set(arms_of(trials).names))
    ['prune l1, learning_rate = 0.005', 'prune l1, learning_rate = 0.01']
    """
    indices_by_label: dict[str, list[int]] = defaultdict(list)
    for index, trial in enumerate(trials):
        indices_by_label[trial.label].append(index)
    configurations: dict[tuple[object, ...], Configuration] = {}  # of each arm
    members: dict[tuple[object, ...], list[int]] = defaultdict(list)  # indices of each arm's trials
    for label, indices in indices_by_label.items():
        trials_of_label = [trials[index] for index in indices]
        varying_keys = _varying_keys(trials_of_label)
        reader = _Reader(varying_keys)
        values_of_trials = [reader.values(trial.settings) for trial in trials_of_label]
        # Keys that tell arms apart: those that vary, without seeds, [tuning] and budgets
        tuned_keys = {key for trial in trials_of_label for key in trial.tuning}
        candidates = [key for key in varying_keys if key not in SEEDS and not _is_within(key, tuned_keys)]
        budgets = {key for key in candidates if _are_budgets(trials_of_label, values_of_trials, candidates, {key})}
        if len(budgets) > 1 and not _are_budgets(trials_of_label, values_of_trials, candidates, budgets):
            budgets = set()  # two together can lead to one budget in two ways
        arm_keys = tuple(key for key in candidates if key not in budgets)
        for index, values in zip(indices, values_of_trials, strict=True):
            trial = trials[index]
            arm = (label, trial.problem, _only(values, arm_keys))
            members[arm].append(index)
            if arm not in configurations:
                left_out = set(varying_keys).difference(arm_keys)
                settings = {key: value for key, value in leaves(trial.settings) if key not in left_out}
                configurations[arm] = Configuration(problem=trial.problem, label=trial.label, settings=settings)
    names = [""] * len(trials)
    for indices, name in zip(members.values(), arm_names([*configurations.values()]), strict=True):
        for index in indices:
            names[index] = name
    return Arms(names=tuple(names), heads=tuple(_head_arms(trials, names)))


@dataclass
class _HeadArm:
    """An arm of heads that were fitted, and nothing more."""

    name: str = ""  # "" until it has one
    trials: list[ArmTrial] = field(default_factory=list)  # its own, and those of other arms that begin with its heads


def _head_arms(trials: Sequence[ArmTrial], names: Sequence[str]) -> list[str | None]:
    """Return the arm of each trial's head fit; None if the trial begins with none, or is of that arm itself.

    It is the arm of the plan whose trials measure the same stage and nothing else. Where there is none, it is
    "head_only". The heads of one path's arm are one arm.
    """
    own_arms: dict[tuple[Problem, str], _HeadArm] = {}
    arm_of_head: dict[tuple[Problem, str | None], _HeadArm] = {}
    paths: dict[tuple[Problem, str], list[ArmTrial]] = defaultdict(list)  # by problem and arm
    for trial, name in zip(trials, names, strict=True):
        if trial.is_head_only:
            own_arm = own_arms.setdefault((trial.problem, name), _HeadArm(name))
            own_arm.trials.append(trial)
            arm_of_head[trial.problem, trial.head] = own_arm
        elif trial.head is not None:
            paths[trial.problem, name].append(trial)
    for path in paths.values():
        heads = [(trial.problem, trial.head) for trial in path]
        arm = next((arm_of_head[head] for head in heads if head in arm_of_head), _HeadArm())
        if not arm.name:
            arm.trials += path
        for head in heads:
            arm_of_head.setdefault(head, arm)
    _name_heads(list({id(arm): arm for arm in arm_of_head.values()}.values()), set(names))
    return [
        None if trial.head is None or trial.is_head_only else arm_of_head[trial.problem, trial.head].name
        for trial in trials
    ]


def _name_heads(arms: Sequence[_HeadArm], taken: set[str]) -> None:
    """Name arms of head fits that have no name: "head_only", and the settings in which those of a problem differ."""
    has_several = len(arms) > len({arm.trials[0].problem for arm in arms})
    configurations = []
    for arm in arms:
        settings = _common_settings(arm.trials) if has_several else {}
        configurations.append(Configuration(problem=arm.trials[0].problem, label=HEAD_ONLY, settings=settings))
    for arm, name in zip(arms, arm_names(configurations), strict=True):
        if not arm.name:
            arm.name = f"{name} of a path" if name in taken else name  # an arm of the user's has it


def _common_settings(trials: Sequence[ArmTrial]) -> dict[str, Any]:
    """Return the settings that these trials have alike, by dotted key, without those of their methods."""
    common = dict(leaves(trials[0].settings))
    for trial in trials[1:]:
        settings = dict(leaves(trial.settings))
        common = {key: value for key, value in common.items() if key in settings and settings[key] == value}
    return {key: value for key, value in common.items() if not _is_within(key, ("method", *SEEDS))}


def _varying_keys(trials: Iterable[ArmTrial]) -> tuple[str, ...]:
    """Return the dotted keys of settings that have several values within a problem, in the order of the settings."""
    tables: dict[tuple[Problem, str], list[Any]] = defaultdict(list)  # by problem and name; few are there twice
    for trial in trials:
        for name, table in trial.settings.items():
            tables_of_name = tables[trial.problem, name]
            if table not in tables_of_name[-_LAST_TABLES:]:
                tables_of_name.append(table)
    varying_keys: list[str] = []
    for (_problem, name), tables_of_name in tables.items():
        keys = differing_settings(dict(leaves({name: table})) for table in tables_of_name)
        varying_keys += [key for key in keys if key not in varying_keys]
    return tuple(varying_keys)


class _Reader:
    """Reads some settings of many trials; those of a table that several trials share are read once."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._keys = set(keys)
        self._tables = {key.partition(".")[0] for key in self._keys}
        # By name and id. The table itself is kept, too: otherwise another one could get its id.
        self._values_of_tables: dict[tuple[str, int], tuple[object, dict[str, str]]] = {}

    def values(self, settings: Mapping[str, Any]) -> dict[str, str]:
        """Return the values of the keys as JSON, without keys that the settings do not have."""
        values: dict[str, str] = {}
        for name in self._tables:
            if name in settings:
                values |= self._values_of_table(name, settings[name])
        return values

    def _values_of_table(self, name: str, table: object) -> dict[str, str]:
        """Return the values of the keys in a table of settings, or of the setting `name` itself."""
        known = self._values_of_tables.get((name, id(table)))
        if known is None:
            values = {key: json.dumps(value) for key, value in leaves({name: table}) if key in self._keys}
            known = (table, values)
            self._values_of_tables[name, id(table)] = known
        return known[1]


def _only(values: Mapping[str, str], keys: Iterable[str]) -> tuple[str, ...]:
    return tuple(values.get(key, _ABSENT) for key in keys)


def _is_within(key: str, tables: Iterable[str]) -> bool:
    """Whether a key is one of these keys, or a setting in one of these tables."""
    return any(key == table or key.startswith(f"{table}.") for table in tables)


def _are_budgets(
    trials: Sequence[ArmTrial], values: Sequence[Mapping[str, str]], candidates: Sequence[str], keys: set[str]
) -> bool:
    """Whether trials that differ in nothing but these settings are points of one arm; false if there are none."""
    other_keys = [key for key in candidates if key not in keys]
    paths_by_other_settings: dict[tuple[object, ...], list[Points]] = defaultdict(list)
    for trial, values_of_trial in zip(trials, values, strict=True):
        seeds = _only(values_of_trial, SEEDS)
        tuning = json.dumps(dict(trial.tuning))
        other_settings = (trial.problem, seeds, tuning, _only(values_of_trial, other_keys))
        paths_by_other_settings[other_settings].append(trial.points)
    path_groups = [paths for paths in paths_by_other_settings.values() if len(paths) > 1]
    return bool(path_groups) and not any(_conflict(paths) for paths in path_groups)


def _conflict(paths: Iterable[Points]) -> bool:
    """Whether two of these paths ask for the same budgets, or have different models at one budget."""
    models: dict[float | None, str] = {}
    asked_budgets: set[frozenset[float | None]] = set()
    for path in paths:
        budgets = frozenset(path)
        if budgets in asked_budgets:
            return True
        asked_budgets.add(budgets)
        for budget, key in path.items():
            if models.setdefault(budget, key) != key:
                return True
    return False
