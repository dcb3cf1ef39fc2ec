"""Every trial's settings in compact form: common settings once, varying ones as places in lists of values."""

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

from results.report.elements.blocks import packed
from results.store.reader import Run
from results.text.settings import leaves
from transtailor.documents import read_json

TRIALS = """
SELECT trial_id, label, method, network, dataset, train_images, seed, coalesce(status, 'missing') AS status,
    attempts, seconds, error, config_json
FROM planned LEFT JOIN trials USING (trial_id)
ORDER BY network, dataset, label, seed, trial_id
"""
_SHOWN = ("trial_id", "label", "method", "network", "dataset", "train_images", "seed", "status", "attempts", "seconds")
_MOST_ERROR = 4_000
"""The page has at most this many characters of an error."""
_MISSING = "(not there)"


@dataclass(frozen=True)
class TrialSettings:
    """The settings of all trials.

    Attributes:
        common: dotted key -> value as text, if all trials have the same.
        varying: dotted key -> value as text for each trial, in the order of the trials.
    """

    common: dict[str, str]
    varying: dict[str, list[str]]

    def counts(self) -> list[tuple[str, list[tuple[str, int]]]]:
        """Count the trials of each value of each key that varies, the most frequent value first."""
        return [
            (key, sorted(Counter(values).items(), key=lambda item: (-item[1], item[0])))
            for key, values in self.varying.items()
        ]


def trial_rows(run: Run) -> list[dict[str, Any]]:
    """Read the planned trials and how they ended, in the order of the page."""
    return run.rows(TRIALS)


def settings_of(trials: list[dict[str, Any]]) -> TrialSettings:
    """Split the settings of these trials into common and varying ones."""
    flat = [{key: _text(value) for key, value in leaves(_object(row))} for row in trials]
    keys = list(dict.fromkeys(key for one in flat for key in one))
    columns = {key: [one.get(key, _MISSING) for one in flat] for key in keys}
    varying = {key: values for key, values in columns.items() if any(value != values[0] for value in values)}
    common = {key: values[0] for key, values in columns.items() if key not in varying}
    return TrialSettings(common, varying)


def script_data(trials: list[dict[str, Any]], settings: TrialSettings) -> dict[str, Any]:
    """Return what the page's script needs to show a trial."""
    return {
        "columns": [{"name": name, **packed([row[name] for row in trials])} for name in _SHOWN],
        "errors": {row["trial_id"]: row["error"][:_MOST_ERROR] for row in trials if row["error"]},
        "common": settings.common,
        "varying": [{"name": key, **packed(values)} for key, values in settings.varying.items()],
    }


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _object(row: dict[str, Any]) -> dict[str, Any]:
    config = read_json(row["config_json"])
    return config if isinstance(config, dict) else {"config": config}
