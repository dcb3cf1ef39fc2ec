"""The rows of the table `planned`: all trials of a run, so that missing ones are known."""

import json
from collections.abc import Callable, Iterable
from functools import cache
from typing import TYPE_CHECKING, Any

from sweeps.planning.plan import Plan, PlannedTrial
from sweeps.planning.trial_data import files_digest_of
from sweeps.spec.printed_rows import printed_rows
from tailor.config.trial import settings_read

if TYPE_CHECKING:
    from results.store.writer import Writer


def write_planned(writer: "Writer", plan: Plan, trials: Iterable[PlannedTrial], code_digest: str) -> None:
    """Write a row for each of these trials, in the place of an earlier one, the papers' numbers, and classes' names."""
    from results.store.projection import project  # pyarrow takes 0.2 s: not for `--plan` and `--help`

    files_digest = cache(files_digest_of)  # of few data sets, whose folders are not looked at once for each trial
    of_plan = {"sweep": plan.name, "resources": plan.resources, "code_digest": code_digest}
    rows = [
        project("planned", trial=trial, **of_plan)
        | {
            "points_planned": len(trial.points),
            "config_json": json.dumps(_resolved_settings(trial, files_digest), sort_keys=True),
            "stage_keys": [stage.key for stage in trial.all_stages],
            **tuning_of(trial),
        }
        for trial in trials
    ]
    writer.add("planned", rows)
    classes = [
        {"dataset": dataset, "label": label, "name": name, "code_digest": code_digest}
        for dataset, names in plan.class_names.items()
        for label, name in enumerate(names)
    ]
    writer.add("classes", classes)
    writer.write("printed", printed_rows(plan.printed, code_digest))


def _resolved_settings(trial: PlannedTrial, files_digest: Callable[[str, str | None], str | None]) -> dict[str, Any]:
    """Return the settings that a trial reads, with what each `auto` of its method is, and the data's digest."""
    settings = settings_read(trial.settings.values, trial.unread)
    data = settings["data"]
    data = data | {"sha256": files_digest(data["name"], data.get("root"))}
    return settings | {"method": settings["method"] | dict(trial.resolved), "data": data}


def tuning_of(trial: PlannedTrial) -> dict[str, Any]:
    """Return a trial's setting of [tuning] as columns; None without one."""
    if trial.tuning is None:
        return {"tuning_json": None, "tuning_order": None}
    return {"tuning_json": json.dumps(trial.tuning.values), "tuning_order": trial.tuning.order}
