"""The settings of all trials: what all have in common, and what varies between them."""

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

from results.store.completeness import TRIAL_STATES
from results.store.reader import Run
from results.text.settings import leaves
from transtailor.documents import read_json

TRIALS = f"""
SELECT trial_id, arm, method, network, dataset, train_images, seed, state AS status, attempts, seconds, error,
    config_json
FROM ({TRIAL_STATES})
ORDER BY network, dataset, arm, seed, trial_id
"""
_MISSING = "(not there)"


@dataclass(frozen=True)
class TrialSettings:
    """The settings of all trials."""

    common: dict[str, str]  # dotted key -> value as text, if all trials have the same
    varying: dict[str, list[str]]  # dotted key -> value as text for each trial, in the order of the trials

    def counts(self) -> list[tuple[str, list[tuple[str, int]]]]:
        """Count the trials of each value of each key that varies, the most frequent value first."""
        counts = []
        for key, values in self.varying.items():
            most_frequent_first = sorted(Counter(values).items(), key=lambda item: (-item[1], item[0]))
            counts.append((key, most_frequent_first))
        return counts


def trial_rows(run: Run) -> list[dict[str, Any]]:
    """Read the planned trials and how they ended, in the order of the page."""
    return run.rows(TRIALS)


def settings_of(trials: list[dict[str, Any]]) -> TrialSettings:
    """Split the settings of these trials into common and varying ones."""
    settings_by_trial = [texts_of(row["config_json"]) for row in trials]
    keys: dict[str, None] = {}  # in the order in which they first occur
    for settings in settings_by_trial:
        keys |= dict.fromkeys(settings)
    common = {}
    varying = {}
    for key in keys:
        values = [settings.get(key, _MISSING) for settings in settings_by_trial]
        if len(set(values)) == 1:
            common[key] = values[0]
        else:
            varying[key] = values
    return TrialSettings(common, varying)


def texts_of(config_json: str) -> dict[str, str]:
    """Return every setting of a trial as text, by its dotted key."""
    config = read_json(config_json)
    settings = leaves(config if isinstance(config, dict) else {"config": config})
    texts = {}
    for key, value in settings:
        texts[key] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return texts
