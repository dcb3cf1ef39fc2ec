"""The data of the trials' panels in compact form: common settings once, varying ones as indices into lists."""

import math
from typing import Any

from results.arms.trial_settings import TrialSettings
from results.render.blocks import packed
from results.store.reader import Run

_SHOWN = ("trial_id", "arm", "method", "network", "dataset", "train_images", "seed", "status", "attempts", "seconds")
_MOST_ERROR = 4_000
"""The page has at most this many characters of an error, and of the end of a log."""
LOGS = """
SELECT trial_id, arg_max(log_tail, attempt) AS log_tail FROM attempts
WHERE log_tail <> '' AND status <> 'finished' GROUP BY trial_id ORDER BY trial_id
"""
CURVES = """
SELECT stage_key, any_value(kind) AS kind, list(epoch + 1 ORDER BY epoch) AS epochs,
    list(train_loss ORDER BY epoch) AS losses, list(validation_loss ORDER BY epoch) AS validations
FROM (SELECT DISTINCT ON (stage_key, epoch) stage_key, epoch, kind, train_loss, validation_loss FROM epochs
    WHERE isfinite(train_loss) AND (epoch % 5 = 0 OR isfinite(validation_loss))
        OR (stage_key, epoch) IN (SELECT (stage_key, max(epoch)) FROM epochs GROUP BY stage_key)
    ORDER BY stage_key, epoch)
GROUP BY stage_key ORDER BY stage_key
"""
"""The last epoch of a stage is its length on the axis, so it is there whatever its loss."""
STAGES = """
SELECT trial_id, list(stage_key ORDER BY "order") AS keys FROM stages
WHERE stage_key IN (SELECT stage_key FROM epochs) GROUP BY trial_id ORDER BY trial_id
"""
WIDTHS = """
SELECT trial_id, list(layer ORDER BY "order", layer) AS layers, list(width ORDER BY "order", layer) AS widths,
    list(original_width ORDER BY "order", layer) AS originals
FROM layers SEMI JOIN (SELECT trial_id, max(point) AS point FROM layers GROUP BY trial_id) USING (trial_id, point)
GROUP BY trial_id ORDER BY trial_id
"""
_MOST_TRIALS = 2_000
"""A page with more trials has no curve and no widths of single ones; `epochs` and `layers` have them."""


def script_data(run: Run, trials: list[dict[str, Any]], settings: TrialSettings) -> dict[str, Any]:
    """Return what the page's script needs to show a trial."""
    data: dict[str, Any] = {
        "columns": [{"name": name, **packed([row[name] for row in trials])} for name in _SHOWN],
        "runs": _runs(run, trials),
        "logs": {row["trial_id"]: row["log_tail"][-_MOST_ERROR:] for row in run.rows(LOGS)},
        "errors": {row["trial_id"]: row["error"][:_MOST_ERROR] for row in trials if row["error"]},
    }
    if len(trials) <= _MOST_TRIALS:
        data["curves"] = _curves(run)
        data["widths"] = _widths(run)
    data["common"] = settings.common
    data["varying"] = [{"name": key, **packed(values)} for key, values in settings.varying.items()]
    return data


def _runs(run: Run, trials: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the name of the run's folder of each trial."""
    names = {name: path.resolve().name for name, path in run.paths.items()}
    if len(names) == 1:
        return packed([*names.values()] * len(trials))
    of_trials = {row["trial_id"]: names[row["run"]] for row in run.rows("SELECT trial_id, run FROM planned")}
    return packed([of_trials[row["trial_id"]] for row in trials])


def _curves(run: Run) -> dict[str, Any]:
    """Return the losses of each stage, once, every fifth epoch and the last; and of each trial which stages it has.

    A stage has a fourth part, the loss on the validation split, where that was measured.
    """
    stages = []
    index_of_stage: dict[str, int] = {}
    for index, row in enumerate(run.rows(CURVES)):
        index_of_stage[row["stage_key"]] = index
        stage = [row["kind"], row["epochs"], _short(row["losses"])]
        validations = _short(row["validations"])
        if any(loss is not None for loss in validations):
            stage.append(validations)
        stages.append(stage)
    stages_of_trial = {}
    for row in run.rows(STAGES):
        stages_of_trial[row["trial_id"]] = [index_of_stage[key] for key in row["keys"] if key in index_of_stage]
    return {"stages": stages, "of": stages_of_trial}


def _short(losses: list[float | None]) -> list[float | None]:
    """Return losses with three digits; None for what is no number."""
    return [None if loss is None or not math.isfinite(loss) else float(f"{loss:.3g}") for loss in losses]


def _widths(run: Run) -> dict[str, Any]:
    """Return the widths of each trial's last point, and the layers with their original widths, once for each network.

    A trial has the index of its network, and its widths.
    """
    index_of_network: dict[tuple[tuple[str, ...], tuple[int, ...]], int] = {}
    widths_of_trial = {}
    for row in run.rows(WIDTHS):
        network = (tuple(row["layers"]), tuple(row["originals"]))
        index = index_of_network.setdefault(network, len(index_of_network))
        widths_of_trial[row["trial_id"]] = [index, row["widths"]]
    return {"networks": list(index_of_network), "of": widths_of_trial}
