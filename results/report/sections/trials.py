"""The data of the trials' panels in compact form: common settings once, varying ones as places in lists."""

from typing import Any

from results.arms.trial_settings import TrialSettings
from results.report.elements.blocks import packed
from results.store.reader import Run

_SHOWN = ("trial_id", "label", "method", "network", "dataset", "train_images", "seed", "status", "attempts", "seconds")
_MOST_ERROR = 4_000
"""The page has at most this many characters of an error, and of the end of a log."""
LOGS = """
SELECT trial_id, arg_max(log_tail, attempt) AS log_tail FROM attempts
WHERE log_tail <> '' AND status <> 'finished' GROUP BY trial_id ORDER BY trial_id
"""


def script_data(run: Run, trials: list[dict[str, Any]], settings: TrialSettings) -> dict[str, Any]:
    """Return what the page's script needs to show a trial."""
    return {
        "columns": [{"name": name, **packed([row[name] for row in trials])} for name in _SHOWN],
        "runs": _runs(run, trials),
        "logs": {row["trial_id"]: row["log_tail"][-_MOST_ERROR:] for row in run.rows(LOGS)},
        "errors": {row["trial_id"]: row["error"][:_MOST_ERROR] for row in trials if row["error"]},
        "common": settings.common,
        "varying": [{"name": key, **packed(values)} for key, values in settings.varying.items()],
    }


def _runs(run: Run, trials: list[dict[str, Any]]) -> dict[str, Any]:
    """The name of the run's folder of each trial."""
    names = {name: path.resolve().name for name, path in run.paths.items()}
    if len(names) == 1:
        return packed([*names.values()] * len(trials))
    of_trials = {row["trial_id"]: names[row["run"]] for row in run.rows("SELECT trial_id, run FROM planned")}
    return packed([of_trials[row["trial_id"]] for row in trials])
