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

NAMED = ("planned", "operating_points")
"""The tables with a column `arm`; they have to be held (`Run.hold`) before arms can get other names."""
PLANNED = """
SELECT {run} AS run, network, dataset, train_images, label, arm, config_json FROM planned ORDER BY run, trial_id
"""
_MOST_TOLD = 6

Place = tuple[str, str, int | None, str, str, str]
"""Network, data set, training images, label, name of the arm, run (empty where there is one)."""


def average_over(run: Run, keys: Sequence[str]) -> list[str]:
    """Make one arm of the arms that differ only in these settings, and return the sentences that say so.

    From then on, `arm` has the names of the new arms in all answers of this run. Trials of one arm with one seed are
    averaged before anything else, so that n still counts the seeds.

    Args:
        run: it holds the tables of `NAMED`.
        keys: dotted keys, such as "optimisation.learning_rate"; none changes nothing.

    Raises:
        ResultsError: no arms differ in one of these settings; the text says in which they differ.
    """
    if not keys:
        return []
    settings = _settings_of_arms(run)
    by_label: dict[str, list[Place]] = defaultdict(list)
    for place in settings:
        by_label[place[3]].append(place)
    telling: dict[str, dict[str, None]] = {}  # label -> the keys in which its arms differ
    for label, places in by_label.items():
        problems: dict[object, list[Mapping[str, Any]]] = defaultdict(list)
        for place in places:
            problems[place[:3]].append(settings[place])
        telling[label] = dict.fromkeys(key for several in problems.values() for key in differing_settings(several))
    known = sorted({key for several in telling.values() for key in several})
    for key in keys:
        if key not in known:
            differ = f"they differ in: {', '.join(known)}" if known else "every label is one arm"
            raise ResultsError(f"--over {key}: no arms differ in it{nearest(key, known)}; {differ}")
    merged = [place for label, places in by_label.items() if set(keys) & set(telling[label]) for place in places]
    configurations = [
        Configuration(
            problem=place[:3],
            label=place[3],
            settings={key: value for key, value in settings[place].items() if key not in keys},
        )
        for place in merged
    ]
    _rename(run, dict(zip(merged, arm_names(configurations), strict=True)))
    return [_sentence(key, [settings[place] for place in merged]) for key in keys]


def arms_that_differ(run: Run) -> list[str]:
    """Return a sentence on arms of one name whose settings differ between several runs; none if there are no such arms.

    Their trials are averaged, as those of one arm: names are unique within a run only.
    """
    several: dict[tuple[object, ...], dict[str, dict[str, Any]]] = defaultdict(dict)
    for place, settings in _settings_of_arms(run).items():
        several[place[:-1]][place[-1]] = {key: value for key, value in settings.items() if key not in PLACES}
    told: dict[str, None] = {}
    for (*_, arm), by_run in several.items():
        for key in differing_settings(by_run.values()):
            values = ", ".join(f"{json.dumps(one.get(key))} in {name}" for name, one in by_run.items())
            told[f"{arm} ({key}: {values})"] = None
    if not told:
        return []
    more = f", and {len(told) - _MOST_TOLD} more" if len(told) > _MOST_TOLD else ""
    return [
        f"Arms of one name with other settings in another run: {'; '.join([*told][:_MOST_TOLD])}{more}. They are shown"
        " as one arm; --apart colour tells the runs apart."
    ]


def _settings_of_arms(run: Run) -> dict[Place, dict[str, Any]]:
    """The settings of each arm that are the same in all of its trials, and that tell something of the arm."""
    found: dict[Place, dict[str, Any]] = {}
    varies: dict[str, set[str]] = defaultdict(set)  # label -> keys that vary within one of its arms
    for row in run.rows(PLANNED.format(run="run" if len(run.paths) > 1 else "''")):
        place = (row["network"], row["dataset"], row["train_images"], row["label"], row["arm"], row["run"])
        settings = dict(leaves(read_json(row["config_json"])))
        before = found.setdefault(place, settings)
        if before is not settings:
            varies[place[3]].update(differing_settings([before, settings]))
    return {
        place: {key: value for key, value in settings.items() if key not in (*SEEDS, *varies[place[3]])}
        for place, settings in found.items()
    }


def _rename(run: Run, names: Mapping[Place, str]) -> None:
    """Give arms other names in the tables that the run holds in memory."""
    cases = " ".join(
        f"WHEN (network, dataset, label, arm) = ({', '.join(map(literal, (network, dataset, label, arm)))})"
        f" AND train_images IS NOT DISTINCT FROM {'NULL' if images is None else images}"
        f"{f' AND run = {literal(of_run)}' if of_run else ''} THEN {literal(name)}"
        for (network, dataset, images, label, arm, of_run), name in names.items()
    )
    for table in NAMED:
        run.connection.execute(f"UPDATE {table} SET arm = CASE {cases} ELSE arm END")


def _sentence(key: str, settings: Sequence[Mapping[str, Any]]) -> str:
    values = {json.dumps(one[key]): one[key] for one in settings if key in one}
    ordered = sorted(values, key=lambda text: (values[text] if isinstance(values[text], int | float) else 0, text))
    return f"Averaged over {key} ({', '.join(ordered)}): a seed's score is the mean over these values."
