"""The rows of the table `planned`: all trials of a run, so that missing ones are known."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sweeps.planning.plan import Plan, PlannedTrial
from sweeps.spec.printed_rows import printed_rows
from tailor.config.trial import settings_read

if TYPE_CHECKING:
    from results.store.writer import Writer


@dataclass(frozen=True, kw_only=True)
class TuningColumns:
    """A trial's setting of [tuning], as columns; None without one."""

    tuning_json: str | None = None
    tuning_order: int | None = None


def write_planned(writer: "Writer", plan: Plan, trials: Iterable[PlannedTrial], code_digest: str) -> None:
    """Write a row for each of these trials, in the place of an earlier one, and the papers' numbers."""
    rows = [
        {
            "sweep": plan.name,
            "trial_id": trial.trial_id,
            "label": trial.label,
            "arm": trial.arm,
            "head_arm": trial.head_arm,
            "method": trial.settings.method,
            "network": trial.settings.network,
            "dataset": trial.settings.dataset,
            "train_images": trial.train_images,
            "seed": trial.settings.seed,
            "ranks": plan.resources.ranks,
            "points_planned": len(trial.points),
            "config_json": json.dumps(_resolved_settings(trial), sort_keys=True),
            "stage_keys": [stage.key for stage in trial.all_stages],
            "code_digest": code_digest,
            **asdict(tuning_of(trial)),
        }
        for trial in trials
    ]
    writer.add("planned", rows)
    writer.write("printed", printed_rows(plan.printed, code_digest))


def _resolved_settings(trial: PlannedTrial) -> dict[str, Any]:
    """Return the settings that a trial reads, with what each `auto` of its method is."""
    settings = settings_read(trial.settings.values, trial.unread)
    return settings | {"method": settings["method"] | dict(trial.resolved)}


def tuning_of(trial: PlannedTrial) -> TuningColumns:
    """Return a trial's setting of [tuning] as columns."""
    if trial.tuning is None:
        return TuningColumns()
    return TuningColumns(tuning_json=json.dumps(trial.tuning.values), tuning_order=trial.tuning.order)
