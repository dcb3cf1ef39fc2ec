"""What arms have in common over their trials: averages over a setting, and arms of one name in several runs."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from results.arms.names import PLACES, SEEDS, Configuration, arm_names, differing_settings
from results.errors import ResultsError
from results.store.reader import Run
from results.store.views import literal
from results.text.settings import leaves
from transtailor.documents import read_json
from transtailor.names import nearest
from transtailor.plural import first_few

NAMED = ("planned", "operating_points")
"""The tables with a column `arm`; they have to be held (`Run.hold`) before arms can get other names."""
PLANNED = """
SELECT {run} AS run, network, dataset, train_images, label, arm, config_json FROM planned ORDER BY run, trial_id
"""
SHARED = """
SELECT trial_id, list_sort(list(DISTINCT arm)) AS arms FROM planned GROUP BY ALL HAVING count(DISTINCT run) > 1
"""
"""Trials that are in several runs, with what they are called there."""
_MOST_SHOWN = 6

ArmKey = tuple[str, str, int | None, str, str, str]
"""Network, data set, training images, label, name of the arm, run (empty where there is one)."""


def average_over(run: Run, keys: Sequence[str]) -> list[str]:
    """Make one arm of the arms that differ only in these settings, and return the sentences that say so.

    From then on, `arm` has the names of the new arms in all answers of this run. Trials of one arm with one seed are
    averaged before anything else, so that n still counts the seeds.

    Args:
        run: it holds the tables of `NAMED`.
        keys: dotted keys, or one, such as "optimisation.learning_rate"; none changes nothing.

    Raises:
        ResultsError: no arms differ in one of these settings, or all of these arms differ in others, too; the text says
            in which they differ.
    """
    keys = [keys] if isinstance(keys, str) else keys  # else its letters
    if not keys:
        return []
    settings = _settings_of_arms(run)
    differing = _differing_by_label(settings)
    known = sorted(set().union(*differing.values()))
    for key in keys:
        if key not in known:
            raise ResultsError(f"--over {key}: no arms of one label differ in it{nearest(key, known)}")
    merged = [arm for arm in settings if differing[arm[3]] & set(keys)]
    configurations = []
    for arm in merged:
        kept = {key: value for key, value in settings[arm].items() if key not in keys}
        configurations.append(Configuration(problem=arm[:3], label=arm[3], settings=kept))
    names = arm_names(configurations)
    values_of: dict[tuple[object, ...], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for arm, name in zip(merged, names, strict=True):
        values_of[arm[:4]][name].add(json.dumps([settings[arm].get(key) for key in keys]))
    uneven = [by_name for by_name in values_of.values() if len(set(map(frozenset, by_name.values()))) > 1]
    left = {arm: configuration.settings for arm, configuration in zip(merged, configurations, strict=True)}
    others = sorted(set().union(*_differing_by_label(left).values()))
    remedy = f"to average over these, too, add {' '.join(f'--over {key}' for key in others)}"
    if uneven and all(len(values) == 1 for by_name in values_of.values() for values in by_name.values()):
        raise ResultsError(
            f"--over {', '.join(keys)} averages nothing: these arms also differ in {', '.join(others)}; {remedy}"
        )
    _rename(run, dict(zip(merged, names, strict=True)))
    merged_settings = [settings[arm] for arm in merged]
    sentences = [_sentence(key, merged_settings) for key in keys]
    if uneven:
        over = "; ".join(f"{name}: {len(values)}" for by_name in uneven for name, values in sorted(by_name.items()))
        sentences.append(
            f"Not over the same values, as arms also differ in {', '.join(others)} (how many: {over}); {remedy}."
        )
    return sentences


def _differing_by_label(settings: Mapping[ArmKey, Mapping[str, Any]]) -> dict[str, set[str]]:
    """Return label -> the keys in which arms of this label differ."""
    by_label: dict[str, dict[ArmKey, Mapping[str, Any]]] = defaultdict(dict)
    for arm, of_arm in settings.items():
        by_label[arm[3]][arm] = of_arm
    return {label: _differing_keys(of_label) for label, of_label in by_label.items()}


def _differing_keys(settings: Mapping[ArmKey, Mapping[str, Any]]) -> set[str]:
    """Return the keys in which these arms differ within a problem."""
    by_problem: dict[object, list[Mapping[str, Any]]] = defaultdict(list)
    for arm, of_arm in settings.items():
        by_problem[arm[:3]].append(of_arm)
    keys: set[str] = set()
    for of_problem in by_problem.values():
        keys.update(differing_settings(of_problem))
    return keys


def notes_on_runs(run: Run) -> list[str]:
    """Say how several runs are taken together; to be asked before each trial counts once. None of one run."""
    if len(run.paths) == 1:
        return []
    shared = run.rows(SHARED)
    lines = []
    if shared:
        renamed = sorted({" and ".join(row["arms"]) for row in shared if len(row["arms"]) > 1})
        names = f"; under another name in another run: {first_few(renamed, _MOST_SHOWN, '; ')}" if renamed else ""
        lines = [f"Trials in several runs: {len(shared)}; each counts once, from the run that wrote it last{names}."]
    return [*lines, *arms_that_differ(run)]


def arms_that_differ(run: Run) -> list[str]:
    """Return a sentence on arms of one name whose settings differ between several runs; none if there are no such arms.

    Their trials are averaged, as those of one arm: names are unique within a run only.
    """
    settings_of_arm: dict[tuple[object, ...], dict[str, dict[str, Any]]] = defaultdict(dict)  # by run
    for (*arm_key, of_run), settings in _settings_of_arms(run).items():
        kept = {key: value for key, value in settings.items() if key not in PLACES}
        settings_of_arm[tuple(arm_key)][of_run] = kept
    differences: list[str] = []
    for (*_, arm), by_run in settings_of_arm.items():
        for key in differing_settings(by_run.values()):
            values = ", ".join(f"{json.dumps(settings.get(key))} in {name}" for name, settings in by_run.items())
            difference = f"{arm} ({key}: {values})"
            if difference not in differences:  # another problem may have the same
                differences.append(difference)
    if not differences:
        return []
    named = first_few(differences, _MOST_SHOWN, "; ")
    return [
        f"Arms of one name with other settings in another run: {named}. They are one arm, of which"
        " a seed's score is the mean over the runs; read each run alone to tell them apart."
    ]


def _settings_of_arms(run: Run) -> dict[ArmKey, dict[str, Any]]:
    """Return the settings of each arm that are the same in all of its trials, and that tell something of the arm."""
    first_settings: dict[ArmKey, dict[str, Any]] = {}
    varies: dict[str, set[str]] = defaultdict(set)  # label -> keys that vary within one of its arms
    for row in run.rows(PLANNED.format(run="run" if len(run.paths) > 1 else "''")):
        label = row["label"]
        arm = (row["network"], row["dataset"], row["train_images"], label, row["arm"], row["run"])
        settings = dict(leaves(read_json(row["config_json"])))
        if arm in first_settings:
            varies[label].update(differing_settings([first_settings[arm], settings]))
        else:
            first_settings[arm] = settings
    settings_of_arms = {}
    for arm, settings in first_settings.items():
        left_out = {*SEEDS, *varies[arm[3]]}
        settings_of_arms[arm] = {key: value for key, value in settings.items() if key not in left_out}
    return settings_of_arms


def _rename(run: Run, names: Mapping[ArmKey, str]) -> None:
    """Give arms other names in the tables that the run holds in memory."""
    cases = []
    for (network, dataset, images, label, arm, of_run), name in names.items():
        values = ", ".join(literal(value) for value in (network, dataset, label, arm))
        condition = f"(network, dataset, label, arm) = ({values})"
        condition += f" AND train_images IS NOT DISTINCT FROM {'NULL' if images is None else images}"
        if of_run:
            condition += f" AND run = {literal(of_run)}"
        cases.append(f"WHEN {condition} THEN {literal(name)}")
    for table in NAMED:
        run.connection.execute(f"UPDATE {table} SET arm = CASE {' '.join(cases)} ELSE arm END")


def _sentence(key: str, settings: Sequence[Mapping[str, Any]]) -> str:
    values = {json.dumps(of_arm[key]): of_arm[key] for of_arm in settings if key in of_arm}

    def by_size(text: str) -> tuple[float, str]:
        value = values[text]
        return (value if isinstance(value, int | float) else 0), text

    ordered = sorted(values, key=by_size)
    return f"Averaged over {key} ({', '.join(ordered)}): a seed's score is the mean over those that it has."
